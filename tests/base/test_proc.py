"""Running other programs: output, status, time limits, and that nothing outlives us that should not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmlab_tui.base.errors import DeadlineError
from vmlab_tui.base.proc import Done, ProgramError, arun, run, watch

SHELL = ("sh", "-c")


async def either(kind: str, *argv: str | Path, **more: object) -> Done:
    if kind == "run":
        return await asyncio.to_thread(lambda: run(argv, **more))  # type: ignore[arg-type]
    return await arun(argv, **more)  # type: ignore[arg-type]


both = pytest.mark.parametrize("kind", ["run", "arun"])


def gone(pid: int) -> bool:
    """Whether the process ends within two seconds (a zombie has ended)."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@both
async def test_output_status_and_input(kind: str, tmp_path: Path) -> None:
    done = await either(
        kind, *SHELL, "cat; pwd; echo $X; echo err >&2", data=b"in\n", cwd=tmp_path, env={"X": "y z"}
    )
    assert done == Done(done.argv, 0, f"in\n{tmp_path}\ny z\n".encode(), b"err\n")
    assert done.text.startswith("in")


@both
async def test_without_data_standard_input_is_empty(kind: str) -> None:
    assert (await either(kind, "cat", timeout=5)).out == b""


@both
async def test_arguments_are_never_read_by_a_shell(kind: str) -> None:
    assert (await either(kind, "printf", "%s", "$(id) 'a\" ; x")).out == b"$(id) 'a\" ; x"


@both
async def test_a_failure_names_program_status_and_last_lines(kind: str) -> None:
    with pytest.raises(ProgramError) as caught:
        await either(kind, *SHELL, "for n in 1 2 3 4 5; do echo line $n >&2; done; exit 7")
    assert "exit status 7" in caught.value.message
    assert caught.value.message.endswith("line 3\n  line 4\n  line 5")
    assert caught.value.done is not None and caught.value.done.status == 7


@both
async def test_a_failure_may_be_wanted_and_a_signal_is_negative(kind: str) -> None:
    assert (await either(kind, "false", check=False)).status == 1
    assert (await either(kind, *SHELL, "kill -9 $$", check=False)).status == -9


@both
async def test_a_missing_program_is_named_with_the_fix(kind: str) -> None:
    with pytest.raises(ProgramError, match="no-such-program is not installed") as caught:
        await either(kind, "no-such-program")
    assert "bootstrap" in caught.value.hint


@both
async def test_a_time_limit_ends_it(kind: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineError, match=r"not done within 0\.3 s"):
        await either(kind, *SHELL, f"echo $$ > {tmp_path}/pid; exec sleep 60", timeout=0.3)
    assert time.monotonic() - start < 5
    assert gone(int((tmp_path / "pid").read_text()))


async def test_a_time_limit_ends_its_children_too(tmp_path: Path) -> None:
    with pytest.raises(DeadlineError):
        await arun([*SHELL, f"sleep 60 & echo $! > {tmp_path}/pid; wait"], timeout=0.3)
    assert gone(int((tmp_path / "pid").read_text()))


async def test_cancelling_ends_it(tmp_path: Path) -> None:
    task = asyncio.create_task(arun([*SHELL, f"sleep 60 & echo $! > {tmp_path}/pid; wait"]))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(int((tmp_path / "pid").read_text()))


async def test_lines_come_as_they_are_written_from_both_streams() -> None:
    seen: list[tuple[bytes, float]] = []
    start = time.monotonic()
    done = await arun(
        [*SHELL, "echo one; sleep 0.5; echo two >&2; printf three"],
        on_line=lambda line: seen.append((line, time.monotonic() - start)),
    )
    assert [line for line, _ in seen] == [b"one", b"two", b"three"]
    assert seen[1][1] - seen[0][1] > 0.3
    assert done.out == b"one\ntwo\nthree"


async def test_a_line_longer_than_any_buffer() -> None:
    seen: list[int] = []
    await arun(
        [*SHELL, "head -c 3000000 /dev/zero; echo; echo end"], on_line=lambda line: seen.append(len(line))
    )
    assert seen == [3_000_000, 3]


async def test_input_and_lines_together() -> None:
    seen: list[bytes] = []
    await arun(["cat"], data=b"a\nb\n", on_line=seen.append, timeout=5)
    assert seen == [b"a", b"b"]


def test_a_bound_program_dies_with_us(tmp_path: Path) -> None:
    program = f"""
from vmlab_tui.base.proc import run
run(["sh", "-c", "echo $$ > {tmp_path}/pid; exec sleep 60"], bound=True)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert gone(int((tmp_path / "pid").read_text()))


async def test_watchers_see_what_is_run_until_they_stop() -> None:
    seen: list[tuple[str, ...]] = []
    stop = watch(seen.append)
    run(["true", Path("/x")])
    await arun(["true", "y"], bound=True)
    stop()
    run(["true"])
    assert seen == [("true", "/x"), ("true", "y")]
