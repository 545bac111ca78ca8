"""Whatever is in a log, every row keeps its shape and no row is lost; the journal as lines."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tests.runs.samples import plan
from tests.support import hostile
from vmlab_tui.journal.log import Journal
from vmlab_tui.tui.logs.drawing import _cuts
from vmlab_tui.tui.logs.source import FileSource, JournalSource, LinesSource
from vmlab_tui.tui.widgets.logview import LogStatus, LogView


class Bed(App[None]):
    def compose(self) -> ComposeResult:
        yield LogView()


class Hand:
    """A person at the view."""

    def __init__(self, app: Bed, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot
        self.view = app.query_one(LogView)

    @property
    def status(self) -> LogStatus:
        return self.view.status

    def rows(self) -> list[str]:
        """What stands on the screen; every row is exactly as wide as the view."""
        strips = [self.view.render_line(y) for y in range(self.view.size.height)]
        width = self.view.size.width
        texts = [strip.text for strip in strips]
        assert all(cell_len(text) == width for text in texts), [
            text for text in texts if cell_len(text) != width
        ]
        return [text.rstrip() for text in texts]

    def lines(self) -> list[str]:
        return [row[1:] for row in self.rows()]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def until(self, true: Callable[[], bool], seconds: float = 10) -> None:
        limit = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < limit, "\n".join([*self.rows(), str(self.status)])
            await self.pilot.pause(0.02)


@asynccontextmanager
async def at(source: FileSource | LinesSource, size: tuple[int, int] = (40, 10)) -> AsyncIterator[Hand]:
    app = Bed()
    async with app.run_test(size=size) as pilot:
        hand = Hand(app, pilot)
        hand.view.focus()
        hand.view.show(source)
        yield hand


async def test_wrapping_shows_every_row_of_long_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{number}:{'漢字' * 60}:{number}\n" for number in range(12)))
    async with at(FileSource(path)) as hand:
        await hand.until(lambda: hand.lines()[-1].startswith("11:"))
        assert hand.rows()[-1].endswith("›")
        await hand.press("w")
        await hand.until(lambda: hand.lines()[-1].endswith(":11"))
        seen = [hand.rows()[-1]]
        for _ in range(100):
            before = hand.rows()
            await hand.press("up")
            await hand.until(lambda: all(row for row in hand.rows()))
            if hand.rows() == before:
                break
            assert hand.rows()[1:] == before[:-1], "one row at a time"
            seen.append(hand.rows()[-1])
        seen += hand.rows()[-2::-1]
        text = "".join(row[1:] for row in reversed(seen))
        assert text == path.read_text().replace("\n", "")


@given(st.text("a 漢\u0301-", max_size=200), st.integers(2, 40))
def test_rows_of_a_broken_line_fit_and_miss_nothing(text: str, width: int) -> None:
    cuts = _cuts(text, width)
    rows = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(rows) == text
    assert all(rows[:-1])
    assert all(cell_len(row) <= width for row in rows)


def test_lines_are_broken_at_spaces_that_are_near_the_end() -> None:
    assert _cuts("install the package", 16) == [12]
    assert _cuts("漢字漢 漢字漢字", 10) == [4]
    assert _cuts("ab abcdefghijklmnop", 10) == [10]  # too far from the end
    assert _cuts("abcd efgh", 4) == [4, 8]
    assert _cuts("x" * 25, 10) == [10, 20]


async def test_the_journal_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    source = JournalSource(path, plan())
    with Journal.append(path) as journal:
        journal.write("run_created", run_id="sample-1", profile="sample", plan_sha="0")
        journal.write("step_started", number=1, attempt=1)
        async with at(source, size=(160, 10)) as hand:
            await hand.until(lambda: "01 preflight ..." in hand.lines()[0])
            journal.write("note", text="\x1b[2Jcareful [b]", level="warn")
            await hand.until(lambda: "warning: careful [b]" in hand.lines()[1])
            with path.open("ab") as file:
                file.write(b"damage\n")
            await hand.until(lambda: "damaged" in hand.lines()[2])


@pytest.mark.parametrize("wrap", [False, True])
async def test_hostile_lines_keep_their_shape(tmp_path: Path, wrap: bool) -> None:
    path = tmp_path / "log"
    path.write_bytes(hostile.log())
    async with at(FileSource(path), size=(80, 24)) as hand:
        await hand.until(lambda: hand.status.lines > 50)
        if wrap:
            await hand.press("w")
        await hand.press("home")
        for _ in range(12):
            hand.rows()
            await hand.press("pagedown")
