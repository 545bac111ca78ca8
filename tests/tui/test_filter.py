"""What a filter line means, and how it looks and behaves in an area."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import ComposeResult
from textual.widgets import Static

from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.filtering import FIELDS, apply, fuzzy, parse, pick
from vmlab_tui.tui.screens.base import AreaScreen
from vmlab_tui.tui.widgets.filterbar import FilterBar, FilterInput
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows


def row(name: str, depth: int = 0, *, state: str = "", owner: str = "", image: str = "") -> Row:
    search = (("", name), ("state", state), ("owner", owner), ("image", image))
    return Row(name, (Cell(name), Cell(state)), depth, None, search)


TREE = [
    row("debian-12", state="image", image="debian-12"),
    row("web-1", 1, state="on", owner="ann@here", image="debian-12"),
    row("clean-boot", 2, state="snapshot"),
    row("web-2", 1, state="no domain", owner="bob@here", image="debian-12"),
    row("empty", state="image", image="empty"),
    row("other disks"),
    row("db", 1, state="off", owner="foreign"),
]


def names(line: str, me: str = "ann@here") -> list[str]:
    return [one.key for one in apply(parse(line, me=me), TREE)[0]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [one.key for one in TREE]),
        ("w1", ["debian-12", "web-1"]),
        ("WEB", ["debian-12", "web-1", "web-2"]),
        ("state:on", ["debian-12", "web-1"]),
        ("state:o", ["debian-12", "web-1", "other disks", "db"]),
        ("owner:me", ["debian-12", "web-1"]),
        ("owner:me state:off", []),
        ("web !2", ["debian-12", "web-1"]),
        ("image:deb !state:on", ["debian-12", "web-2"]),
        ("clean", ["debian-12", "web-1", "clean-boot"]),
        ("state: !", [one.key for one in TREE]),
        ("zz", []),
    ],
)
def test_which_rows_fit(line: str, expected: list[str]) -> None:
    assert names(line) == expected


def test_an_unknown_field_is_said_and_taken_as_text() -> None:
    wanted = parse("stat:on")
    assert wanted.problems == ("no stat: but state: owner: image: class:",)
    assert wanted.fits(row("stat:on"))
    assert not parse("state:on b:2:3").problems[1:]


words = st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc"]), min_size=1)
rows = st.lists(
    st.builds(
        lambda text, field, value, depth: Row("k", (), depth, None, (("", text), (field, value))),
        st.text(),
        st.sampled_from(["", *FIELDS]),
        st.text(),
        st.integers(0, 5),
    ),
    max_size=12,
)


@given(st.text(), rows)
def test_no_line_raises(line: str, some: list[Row]) -> None:
    wanted = parse(line)
    kept, fitting = apply(wanted, some)
    assert fitting <= len(kept) <= len(some)


@given(words.filter(lambda word: not word.startswith("!") and len(word.split()) == 1), rows)
def test_not_is_the_complement(word: str, some: list[Row]) -> None:
    positive, negative = parse(word), parse(f"!{word}")
    if not positive:
        assert not negative
        return
    for one in some:
        assert positive.fits(one) is not negative.fits(one)


@given(st.text(min_size=1, max_size=30), st.text(max_size=60))
def test_letters_are_where_it_says(needle: str, text: str) -> None:
    found = fuzzy(needle, text, loose=True)
    if found is None:
        assert needle.lower() not in text.lower()
        return
    low = text.lower()
    assert list(found[1]) == sorted(set(found[1]))
    assert [low[at] for at in found[1]] == list(needle.lower())


def test_a_hostile_name_takes_no_time() -> None:
    begun = time.monotonic()
    fuzzy("a" * 40 + "b", "ac" * 100_000, loose=True)
    fuzzy("ab" * 20, "aab" * 100_000)
    assert time.monotonic() - begun < 0.5


def test_picking_puts_the_best_first() -> None:
    texts = ["my quick brown start", "quickstart", "desktop"]
    assert pick("qs", texts) == [0, 1]  # beginnings of words count more
    assert pick("quickst", texts)[0] == 1
    assert pick("", texts) == [0, 1, 2]
    assert pick("start quick", texts)[0] == 1
    assert pick("zz", texts) == []


class Bench(AreaScreen):
    """An area over the rows above."""

    IDENT = "lab"

    def body(self) -> ComposeResult:
        yield Rows((Column("name"), Column("state", 10)), id="rows")

    def on_mount(self) -> None:
        super().on_mount()
        self._show()

    def _show(self, _: object = None) -> None:
        self.show_rows(self.query_one(Rows), TREE, "empty")


async def test_the_line_filters_while_one_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    app = LabApp("test:///default", tmp_path / "store")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = Bench()
        await app.push_screen(screen)
        rows, bar = screen.query_one(Rows), screen.query_one(FilterBar)

        def told() -> str:
            return str(screen.query_one("#count", Static).render())

        assert not bar.display
        await pilot.press("slash", *"state:on")
        assert type(app.focused) is FilterInput
        assert [one.key for one in rows.rows] == ["debian-12", "web-1"]
        assert "1 of 7" in told()
        await pilot.press("down")
        assert rows.cursor and rows.cursor.key == "web-1"

        await pilot.press("enter")
        assert rows.has_focus
        assert bar.display
        assert "state:on" in str(screen.query_one("#kept", Static).render())
        assert "esc clears" in told()

        await pilot.press("escape")
        assert len(rows.rows) == len(TREE)
        assert not bar.display
        assert rows.cursor and rows.cursor.key == "web-1"

        await pilot.press("slash", *"xyz")
        assert rows.rows == ()
        assert rows.empty == "nothing here fits the filter"
        await pilot.press("escape")

        await pilot.press("slash", *"stat:on")
        assert "! no stat: but state: owner: image: class:" in "".join(
            segment.text for strips in screen._compositor.render_strips() for segment in strips
        )
        await pilot.press("escape")
        assert rows.has_focus
        assert not bar.display

        await pilot.press("slash", *"[@click=app.quit]x[/]", "enter")
        assert str(screen.query_one("#kept", Static).render()) == "[@click=app.quit]x[/]"
        await pilot.click("#kept")
        assert app.is_running
