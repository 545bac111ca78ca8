"""Pictures of screens: the SVG that Textual exports, made the same everywhere, against a golden file.

``UPDATE_GOLDEN=1`` writes the golden files instead of comparing with them, see :data:`COMMAND`.
"""

from __future__ import annotations

import asyncio
import difflib
import html
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.conftest import text
from vmlab_tui.tui.app import LabApp

GOLDEN = Path(__file__).parent / "golden"
COMMAND = "UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/tui/test_snapshots.py"
"""What makes the golden pictures anew; git shows what has changed, and keeps it."""
UPDATING = os.environ.get("UPDATE_GOLDEN") == "1"
NOW = datetime(2026, 1, 2, 13, 14, 15, tzinfo=UTC)
_CELL, _LINE = 12.2, 24.4
"""Width and height of a character in the pictures that Rich draws."""
_FOLDER = Path("/tmp/vmlab-snapshot")
"""The same for everybody: paths are on the screen, cut to what fits. One test at a time has it."""
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.S)
_CLIPS = re.compile(r'<clipPath id="[^"]*-line-\d+">.*?</clipPath>\s*', re.S)
_TEXT = re.compile(r'<text class="([^"]*)" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', re.S)


class Frozen(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Frozen:
        moment = NOW.astimezone(tz) if tz else NOW.replace(tzinfo=None)
        return cls.fromisoformat(moment.isoformat())


@contextmanager
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Time stands for all that is shown, and nothing of the environment counts; gives the folder."""
    import vmlab_tui.journal.events
    import vmlab_tui.lab.chains
    import vmlab_tui.lab.inventory
    import vmlab_tui.lab.leases
    import vmlab_tui.tui.runview
    import vmlab_tui.verbs.shapes
    import vmlab_tui.verbs.words

    for module in (
        vmlab_tui.lab.leases,
        vmlab_tui.tui.runview,
        vmlab_tui.verbs.shapes,
        vmlab_tui.verbs.words,
    ):
        monkeypatch.setattr(module, "datetime", Frozen)
    for module in (vmlab_tui.lab.chains, vmlab_tui.lab.inventory):
        # how much of a sparse file a file system has allocated differs from one to the next
        monkeypatch.setattr(module, "used_bytes", lambda facts: facts.st_size)
    monkeypatch.setattr(vmlab_tui.journal.events, "now", lambda: "2026-01-02T13:13:45.000Z")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for name in [name for name in os.environ if name.startswith(("TEXTUAL", "VMLAB_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "PAGER", "EDITOR", "VISUAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    try:
        with _FOLDER.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            shutil.rmtree(_FOLDER, ignore_errors=True)
            _FOLDER.mkdir(mode=0o700)
            try:
                yield _FOLDER
            finally:
                shutil.rmtree(_FOLDER)
    finally:
        monkeypatch.undo()
        time.tzset()


def normal(svg: str) -> str:
    """Without fonts that a viewer would fetch, and what only cuts off what nobody sees."""
    svg = _CLIPS.sub("", _FONTS.sub("", svg))
    svg = re.sub(r' clip-path="url\(#[^)]*-line-\d+\)"', "", svg)
    svg = re.sub(r"terminal-\d+", "t", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def words(svg: str) -> list[str]:
    """The lines of text in a picture, as they stand on the screen."""
    found: dict[int, str] = {}
    for kind, x, y, told in sorted(_TEXT.findall(svg), key=lambda one: (float(one[2]), float(one[1]))):
        if "-title" in kind:
            continue
        row, column = round((float(y) - 18.5) / _LINE), round(float(x) / _CELL)
        line = found.get(row, "")
        found[row] = line + " " * (column - cell_len(line)) + html.unescape(told).replace("\xa0", " ")
    return [found.get(row, "").rstrip() for row in range(max(found, default=-1) + 1)]


async def sees(app: LabApp, pilot: Pilot[None], *wanted: str, seconds: float = 20) -> None:
    """Wait until all of this is on the screen."""
    limit = time.monotonic() + seconds
    while not all(one in text(app) for one in wanted):
        if time.monotonic() > limit:
            missing = [one for one in wanted if one not in text(app)]
            raise AssertionError(f"not on the screen: {missing}\n{text(app)}")
        await pilot.pause(0.03)
    await pilot.pause()


async def picture(app: LabApp, pilot: Pilot[None]) -> str:
    """The screen once it has not changed for a while."""
    limit, same, last = time.monotonic() + 20, 0, ""
    while same < 4:
        for field in app.screen.query(Input):
            field._pause_blink()
        await pilot.pause()
        svg = normal(app.export_screenshot(title="vmlab"))
        same, last = (same + 1, last) if svg == last else (0, svg)
        if time.monotonic() > limit:
            raise AssertionError("the screen does not stand still\n" + "\n".join(words(svg)))
        await asyncio.sleep(0.08)
    return last


def compare(svg: str, name: str, folder: Path) -> None:
    """Fail with the lines that differ from the golden file; the new picture is put into ``folder``."""
    golden = GOLDEN / f"{name}.svg"
    if UPDATING:
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(svg, encoding="utf-8")
        return
    if not golden.exists():
        pytest.fail(f"there is no golden picture {name}; this makes it:\n  {COMMAND}", pytrace=False)
    before = golden.read_text(encoding="utf-8")
    if svg == before:
        return
    new = folder / f"{name}.svg"
    new.write_text(svg, encoding="utf-8")
    told = _difference(words, before, svg) or ["the text is the same, colours or places differ:"]
    if len(told) == 1:
        told += _difference(str.splitlines, before, svg)[:20]
    lines = [f"{name} looks different; now: {new}", *told, "if it should, this takes it:", f"  {COMMAND}"]
    pytest.fail("\n".join(lines), pytrace=False)


def _difference(parts: Callable[[str], list[str]], before: str, after: str) -> list[str]:
    return list(difflib.unified_diff(parts(before), parts(after), "golden", "now", lineterm="", n=0))
