"""The log view under a person's hands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.pilot import Pilot

from tests.support.hostile import TEXTS
from tests.tui.conftest import until
from vmlab_tui.tui.logs.source import FileSource, LinesSource
from vmlab_tui.tui.widgets.logview import LogStatus, LogView

HEIGHT = 20


class Bed(App[None]):
    BINDINGS = [  # noqa: RUF012  # Textual's own annotation
        Binding("n", "elsewhere", "new"),
        Binding("q", "elsewhere", "quit"),
        Binding("escape", "elsewhere", "back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.view = LogView()
        self.told: list[LogStatus] = []
        self.asked: list[LogView.OpenInPager | LogView.SaveLog | LogView.CopyLine] = []
        self.elsewhere = 0

    def compose(self) -> ComposeResult:
        yield self.view

    def on_mount(self) -> None:
        self.view.focus()

    def action_elsewhere(self) -> None:
        self.elsewhere += 1

    def on_log_view_status(self, event: LogView.Status) -> None:
        self.told.append(event.status)

    def on_log_view_open_in_pager(self, event: LogView.OpenInPager) -> None:
        self.asked.append(event)

    def on_log_view_save_log(self, event: LogView.SaveLog) -> None:
        self.asked.append(event)

    def on_log_view_copy_line(self, event: LogView.CopyLine) -> None:
        self.asked.append(event)

    def rows(self) -> list[str]:
        """What is on the screen, without what pads it."""
        return ["".join(segment.text for segment in self.view.render_line(y)).rstrip() for y in range(HEIGHT)]


def numbered(count: int, first: int = 0) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, first + count))


def write(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(numbered(1000))
    return path


async def opened(pilot: Pilot[None], app: Bed, path: Path) -> LogView:
    app.view.show(FileSource(path))
    lines = path.read_bytes().count(b"\n")
    await until(pilot, lambda: app.view.status.lines >= lines)
    return app.view


async def test_follows_the_end(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        assert view.following and app.rows()[-1] == " line 999" and app.rows()[0] == " line 980"
        write(path, numbered(5, 1000) + b"not yet a l")
        await until(pilot, lambda: app.rows()[-1] == " not yet a l")
        write(path, b"ine\n")
        await until(pilot, lambda: app.rows()[-1] == " not yet a line")
        assert view.status == LogStatus(lines=1006, following=True)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_never_jumps_while_one_reads_above(path: Path, wrapped: bool) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        if wrapped:
            await pilot.press("w")
        await pilot.press("up")
        assert not view.following and app.rows()[0] == " line 979"
        before = app.rows()
        for _ in range(3):
            write(path, numbered(50))
            lines = view.status.lines
            await until(pilot, lambda lines=lines: view.status.lines > lines)  # type: ignore[misc]
            assert app.rows() == before
        await until(pilot, lambda: view.status.new_lines == 150)
        assert "150 new, End follows" in view.status.text
        await pilot.press("end")
        assert view.following and app.rows()[-1] == " line 49" and view.status.new_lines == 0


async def test_scrolling_down_to_the_end_follows_again(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("pageup", "pageup")
        assert not view.following
        await pilot.press("pagedown")
        assert not view.following
        await pilot.press("pagedown")
        assert view.following
        await pilot.press("home")
        assert not view.following and app.rows()[0] == " line 0"
        await pilot.press("f")
        assert view.following and app.rows()[-1] == " line 999"
        await pilot.press("f")
        assert not view.following


async def test_mouse_wheel_and_scroll_bar(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot._post_mouse_events([_wheel_up()], LogView)
        assert not view.following and app.rows()[0] == " line 977"
        view.scroll_to(y=100, animate=False)
        await pilot.pause()
        assert app.rows()[0] == " line 100"
        view.scroll_to(y=view.max_scroll_y, animate=False)
        await pilot.pause()
        assert view.following


def _wheel_up() -> type:
    from textual.events import MouseScrollUp

    return MouseScrollUp


async def test_each_source_keeps_its_place(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(numbered(300, 5000))
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        await opened(pilot, app, path)
        await pilot.press("home", "down", "down")
        app.view.show(FileSource(other))
        await until(pilot, lambda: app.rows()[-1] == " line 5299")
        await pilot.press("pageup")
        there = app.rows()
        app.view.show(FileSource(path))  # another object for the same file
        await until(pilot, lambda: app.rows()[0] == " line 2")
        app.view.show(FileSource(other))
        await until(pilot, lambda: app.rows() == there)


async def test_a_log_that_begins_anew(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("home")
        path.write_bytes(b"second life\n")
        await until(pilot, lambda: app.rows()[0] == " second life")
        assert view.following and view.status.note == "the log began anew"


async def test_not_there_yet(tmp_path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        app.view.show(FileSource(tmp_path / "late"), empty="the step has printed nothing yet")
        await pilot.pause(0.1)
        assert app.rows()[0] == " the step has printed nothing yet"
        (tmp_path / "late").write_bytes(b"here\n")
        await until(pilot, lambda: app.rows()[0] == " here")


async def test_wrapping_a_million_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    long = "".join(f"{number:05}" for number in range(100))  # 500 characters: 9 rows of 58
    path.write_bytes(b"x\n" * 1_000_000 + long.encode() + b"\nlast\n")
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        assert app.rows()[-2].endswith("›")
        await pilot.press("w")
        rows = app.rows()
        assert rows[-1] == " last" and "".join(row[1:] for row in rows[-10:-1]) == long
        assert rows[-11] == " x" and view.following
        await pilot.press(*["up"] * 12)
        assert app.rows()[-2:] == rows[6:8] and not view.following
        await pilot.press(*["down"] * 12)
        assert app.rows() == rows and view.following
        await pilot.press("home", "pagedown")
        assert view.scroll_offset.y == HEIGHT - 1
        await pilot.press("end", "w")
        assert app.rows()[-2][1:11] == long[:10]


async def test_one_line_longer_than_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = "".join(f"{number:05}" for number in range(800))  # 4000 characters: 69 rows
    path.write_bytes(text.encode() + b"\n")
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("w")
        assert app.rows()[-1][1:] == text[-(4000 % 58) :]
        seen = []
        for _ in range(60):
            seen.append(app.rows()[0])
            await pilot.press("up")
        assert app.rows()[0][1:] == text[:58] and not view.following and len(set(seen)) == 50


async def test_wide_characters_keep_shape(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(("漢字" * 40 + "\n" + "é" * 100 + "\n" + "שלום " * 30 + "\n").encode())
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        for key in ("", "w", "w", "right", "right"):
            if key:
                await pilot.press(key)
            assert {view.render_line(y).cell_length for y in range(HEIGHT)} == {view.size.width}
        await pilot.press("w")
        assert "".join(row[1:] for row in app.rows()[:3]) == "漢字" * 40


async def test_sideways(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789" * 8 + b"\n")
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        await opened(pilot, app, path)
        await pilot.press("right")
        assert app.rows()[0].startswith(" 8901234567")
        await pilot.press("right", "right", "right", "right")
        assert app.rows()[0].endswith("789")
        await pilot.press("home")
        assert app.rows()[0].startswith(" 0123")


async def test_search(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("home", "slash")
        await pilot.press(*"LINE")  # capitals: no such line
        await until(pilot, lambda: view.status.hits == 0 and not view.status.counting)
        assert app.rows()[-1].startswith("/LINE  no hit")
        await pilot.press("ctrl+u", *"line 77")
        await until(pilot, lambda: view.status.hits == 11 and not view.status.counting)
        await until(pilot, lambda: view.status.hit == 1)
        assert " hit 1 of 11" in app.rows()[-1] and ">line 77" in app.rows()
        strip = next(row for row in map(view.render_line, range(HEIGHT)) if "77" in row.text)
        assert [s.text for s in strip if s.style and s.style.reverse] == ["line 77"]
        await pilot.press("enter", "n")
        assert ">line 770" in app.rows() and view.status.hit == 2 and not view.status.note
        await pilot.press("N", "N")
        status = view.status
        assert status.hit == 11 and status.note == "went on from the end"
        await pilot.press("n")
        status = view.status
        assert status.hit == 1 and status.note == "went on from the top"
        assert not view.following and app.elsewhere == 0
        await pilot.press("escape")
        assert view.status.hits is None and app.elsewhere == 0
        await pilot.press("escape", "n")  # the search is over: these are the screen's again
        assert app.elsewhere == 2


async def test_escape_goes_back_to_where_the_search_began(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("slash", *"line 5")
        await until(pilot, lambda: ">line 5" in app.rows())
        await pilot.press("q", "n")
        assert app.elsewhere == 0  # typed, not done
        await pilot.press("escape")
        assert view.following and app.rows()[-1] == " line 999"
        await pilot.press("slash", "backspace")
        assert app.rows()[-1] == " line 999"


async def test_the_search_goes_on_with_the_log(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: view.status.text.startswith("no hit"))
        write(path, b"a needle\n")
        await until(pilot, lambda: view.status.hits == 1)
        await pilot.press("n")
        assert ">a needle" in app.rows() and view.status.hit == 1


async def test_next_error(path: Path) -> None:
    write(path, b"E: no package\n" + numbered(500) + b"0 errors\nmake: *** Error 2\n" + numbered(300))
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("home", "exclamation_mark")
        await until(pilot, lambda: ">E: no package" in app.rows())
        await until(pilot, lambda: not view.status.counting)
        await pilot.press("exclamation_mark")
        assert ">make: *** Error 2" in app.rows() and view.status.hits == 2
        await pilot.press("exclamation_mark")
        assert ">E: no package" in app.rows() and view.status.note == "went on from the top"
        await pilot.press("escape", "up")
        assert "!E: no package" in app.rows()


async def test_no_error_is_said(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: view.status.note == "no errors")


async def test_handing_over(path: Path) -> None:
    write(path, b"\x1b[31mred\x1b[0m line\n")
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        await pilot.press("o", "ctrl+s", "y")
        await pilot.click(LogView, offset=(5, 3))
        await pilot.press("y")
        pager, save, last, marked = app.asked
        assert isinstance(pager, LogView.OpenInPager) and isinstance(save, LogView.SaveLog)
        assert pager.path == save.path == path and pager.source is view.source
        assert isinstance(last, LogView.CopyLine) and last.text == "red line"
        assert isinstance(marked, LogView.CopyLine) and marked.text == app.rows()[3][1:]


async def test_lines_of_the_program() -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        source = LinesSource()
        app.view.show(source)
        for text in TEXTS:
            source.append(text)
        source.append("the end")
        await until(pilot, lambda: app.rows()[-1] == " the end")
        shown = app.rows()
        assert all(row.isprintable() for row in shown)


async def test_colours_but_not_with_no_color(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, b"\x1b[1;31mred\x1b[0m \x1b[8mhidden\x1b[0m\n")
    for no_color in (False, True):
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        app = Bed()
        async with app.run_test(size=(60, HEIGHT)) as pilot:
            view = await opened(pilot, app, path)
            assert app.rows()[-1] == " red hidden"
            styles = {s.text: s.style for s in view.render_line(HEIGHT - 1) if s.style}
            red = styles.get("red")
            assert no_color == (red is None)
            assert not any(style.conceal for style in styles.values())
    os.environ.pop("NO_COLOR", None)


async def test_hidden_is_not_read(path: Path) -> None:
    app = Bed()
    async with app.run_test(size=(60, HEIGHT)) as pilot:
        view = await opened(pilot, app, path)
        view.display = False
        await pilot.pause(0.2)
        write(path, b"later\n")
        await pilot.pause(0.3)
        assert view.source is not None and view.source.count == 1000
        view.display = True
        await until(pilot, lambda: app.rows()[-1] == " later")


async def test_every_key_says_what_it_does() -> None:
    for binding in LogView.BINDINGS:
        assert isinstance(binding, Binding) and binding.description
        assert binding.tooltip or not binding.show
