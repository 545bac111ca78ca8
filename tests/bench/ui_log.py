"""A growing log of a million lines, followed by the log view: lines taken in, and how late the loop is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from textual.app import App, ComposeResult

from vmlab_tui.tui.logs.source import FileSource
from vmlab_tui.tui.widgets.logview import LogView

LINES = 1_000_000
_TICK = 0.002
_WRITER = """
import sys
line = b"2026-01-02 13:14:15 \\x1b[32munpacking\\x1b[0m package number %07d of many, and setting it up\\n"
sys.stdin.readline()
with open(sys.argv[1], "ab", buffering=0) as log:
    for first in range(0, int(sys.argv[2]), 5000):
        log.write(b"".join(line % number for number in range(first, first + 5000)))
"""


class _Bed(App[None]):
    def compose(self) -> ComposeResult:
        yield LogView()


async def _longest_wait(stop: asyncio.Event) -> float:
    """Seconds that a callback came too late, at most."""
    longest = 0.0
    while not stop.is_set():
        begun = time.perf_counter()
        await asyncio.sleep(_TICK)
        longest = max(longest, time.perf_counter() - begun - _TICK)
    return longest


async def _take_in(path: Path, lines: int) -> tuple[float, float]:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(lines)], stdin=subprocess.PIPE)
    try:
        app = _Bed()
        async with app.run_test(size=(120, 40)) as pilot:
            view = app.query_one(LogView)
            view.show(FileSource(path))
            await pilot.pause(0.3)
            stop = asyncio.Event()
            lag = asyncio.create_task(_longest_wait(stop))
            assert writer.stdin
            writer.stdin.write(b"\n")
            writer.stdin.close()
            begun = time.perf_counter()
            while view.status.lines < lines:
                await asyncio.sleep(0.01)
                assert time.perf_counter() - begun < 120, f"{view.status.lines} of {lines} lines after 2 min"
            taken = time.perf_counter() - begun
            await pilot.pause()
            assert f"{lines - 1:07}" in view.render_line(view.size.height - 1).text
            stop.set()
            return lines / taken, await lag
    finally:
        writer.kill()
        writer.wait()


def take_in(lines: int = LINES) -> tuple[float, float]:
    """Lines a second, from the first write by another process to the last line on the screen; seconds of
    loop lag at most."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vmlab-bench-") as folder:
        return asyncio.run(_take_in(Path(folder, "step.log"), lines))


def main() -> int:
    for _ in range(3):
        rate, lag = take_in()
        print(f"{rate / 1e6:.2f} M lines/s, loop lag at most {lag * 1000:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
