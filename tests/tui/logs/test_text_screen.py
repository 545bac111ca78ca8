"""A verb's longer result."""

from __future__ import annotations

from textual.app import App

from tests.tui.run_samples import shown, until
from vmlab_tui.tui.screens.text import TextScreen


async def test_a_result_has_no_error_marks_and_tells_of_a_search() -> None:
    lines = [
        "profile   it fails with an error",
        "E: this is only said",
        *(f"x {n}" for n in range(50)),
    ]
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TextScreen("runs show", lines))
        await until(pilot, lambda: "profile" in shown(app)[1])
        assert [row[0] for row in shown(app)[1:3]] == [" ", " "]
        await pilot.press("slash", *"x 4", "enter")
        await until(pilot, lambda: shown(app)[0].startswith(" runs show") and "hit 1 of 11" in shown(app)[0])
        await pilot.press("n")
        await until(pilot, lambda: "hit 2 of 11" in shown(app)[0])
        await pilot.press("escape")
        await until(pilot, lambda: shown(app)[0] == " runs show")
