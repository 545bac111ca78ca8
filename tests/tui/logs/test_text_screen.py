"""A verb's longer result."""

from __future__ import annotations

from textual.app import App

from tests.tui.conftest import lines, until
from vmlab_tui.tui.screens.text import TextScreen


async def test_a_result_has_no_error_marks_and_tells_of_a_search() -> None:
    result = [
        "profile   it fails with an error",
        "E: this is only said",
        *(f"x {n}" for n in range(50)),
    ]
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TextScreen("runs show", result))
        await until(pilot, lambda: "profile" in lines(app)[1])
        assert [row[0] for row in lines(app)[1:3]] == [" ", " "]
        await pilot.press("slash", *"x 4", "enter")
        await until(pilot, lambda: lines(app)[0].startswith(" runs show") and "hit 1 of 11" in lines(app)[0])
        await pilot.press("n")
        await until(pilot, lambda: "hit 2 of 11" in lines(app)[0])
        await pilot.press("escape")
        await until(pilot, lambda: lines(app)[0] == " runs show")
