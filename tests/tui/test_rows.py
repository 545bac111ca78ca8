"""The list of rows: its cursor and marks belong to things, not to places."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import App, ComposeResult

from vmlab_tui.tui.text import fit
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows


def row(key: str, *, text: str = "", depth: int = 0, fold: bool | None = None) -> Row:
    return Row(key, (Cell(text or key), Cell("on", "good")), depth, fold)


class Bed(App[None]):
    def __init__(self, rows: list[Row]) -> None:
        super().__init__()
        self.first = rows
        self.heard: list[object] = []

    def compose(self) -> ComposeResult:
        yield Rows((Column("name"), Column("state", 6)), markable=True, empty="nothing")

    def on_mount(self) -> None:
        self.shown.set_rows(self.first)
        self.shown.focus()

    @property
    def shown(self) -> Rows:
        return self.query_one(Rows)

    def on_rows_opened(self, event: Rows.Opened) -> None:
        self.heard.append(("opened", event.row and event.row.key))

    def on_rows_folded(self, event: Rows.Folded) -> None:
        self.heard.append(("folded", event.key, event.unfold))

    def lines(self) -> list[str]:
        return [self.shown.render_line(y).text for y in range(self.shown.size.height)]


def names(count: int) -> list[Row]:
    return [row(f"vm-{number:03}") for number in range(count)]


async def test_the_cursor_stays_on_its_row_whatever_comes_and_goes_above() -> None:
    app = Bed(names(10))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("down", "down", "down")
        assert app.shown.cursor and app.shown.cursor.key == "vm-003"
        app.shown.set_rows(names(10)[2:])
        assert app.shown.cursor.key == "vm-003"
        app.shown.set_rows([row("a"), row("b"), *names(10)])
        assert app.shown.cursor.key == "vm-003"
        await pilot.press("enter")
        await pilot.pause()
        assert app.heard == [("opened", "vm-003")]


async def test_a_removed_row_gives_the_cursor_to_its_neighbour_below_and_keeps_no_mark() -> None:
    app = Bed(names(6))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("down", "space", "space")
        assert app.shown.marked == {"vm-001", "vm-002"}
        await pilot.press("up")
        app.shown.set_rows([one for one in names(6) if one.key != "vm-002"])
        assert app.shown.cursor and app.shown.cursor.key == "vm-003"
        assert app.shown.marked == {"vm-001"}
        assert [one.key for one in app.shown.chosen] == ["vm-001"]
        app.shown.set_rows([])
        assert app.shown.cursor is None
        assert app.shown.chosen == ()
        await pilot.press("enter", "space", "down", "home", "end", "left")
        assert any("nothing" in line for line in app.lines())


async def test_what_the_person_looks_at_stays_where_it_is_on_the_screen() -> None:
    app = Bed(names(100))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("end")
        await pilot.pause()
        before = app.lines()
        assert "vm-099" in before[-1]
        app.shown.set_rows([row("new"), *names(100)])
        await pilot.pause()
        assert app.lines()[1:] == before[1:]


async def test_wide_combining_and_long_names_keep_every_line_as_wide_as_the_screen() -> None:
    texts = [
        "日本語のとても長い名前のゲスト" * 3,
        "e\u0301" * 60,
        "שלום עולם",
        "👩‍👩‍👧 x",
        "[red]x[/x]",
        "-" * 500,
    ]
    app = Bed([row(str(number), text=text) for number, text in enumerate(texts)])
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        for line in app.lines():
            assert cell_len(line) == app.shown.size.width
        assert any("[red]x[/x]" in line for line in app.lines())


async def test_folding_is_asked_for_and_left_goes_to_the_parent() -> None:
    app = Bed([row("image", fold=True), row("vm", depth=1), row("other", fold=False)])
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("down", "left")
        assert app.shown.cursor and app.shown.cursor.key == "image"
        await pilot.press("left", "end", "right")
        await pilot.pause()
        assert app.heard == [("folded", "image", False), ("folded", "other", True)]
        assert ">v image" in app.lines()[1] or "v image" in app.lines()[1]


async def test_a_click_moves_and_a_second_one_opens() -> None:
    app = Bed(names(5))
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.click(Rows, offset=(6, 3))
        assert app.shown.cursor and app.shown.cursor.key == "vm-002"
        await pilot.click(Rows, offset=(6, 3))
        await pilot.pause()
        assert app.heard == [("opened", "vm-002")]
        await pilot.click(Rows, offset=(6, 11))
        assert app.shown.cursor.key == "vm-002"


async def test_columns_go_where_there_is_no_room() -> None:
    class Narrow(Bed):
        def compose(self) -> ComposeResult:
            yield Rows((Column("name"), Column("kept", 8), Column("dropped", 8, drop=1)))

    app = Narrow([])
    async with app.run_test(size=(34, 5)) as pilot:
        app.shown.set_rows([Row("a", (Cell("a"), Cell("b"), Cell("c")))])
        await pilot.pause()
        assert "kept" in app.lines()[0]
        assert "dropped" not in app.lines()[0]
        await pilot.resize_terminal(60, 5)
        await pilot.pause()
        assert "dropped" in app.lines()[0]


def test_a_text_is_cut_in_its_middle_where_its_end_tells_it_apart() -> None:
    assert fit("quickstart-20261121-051105-6f3c", 17, middle=True) == "quickstart…5-6f3c"
    assert fit("short", 17, middle=True) == "short".ljust(17)
    assert cell_len(fit("日本語の長い名前のゲスト-6f3c", 17, middle=True)) == 17
