"""`:` finds every verb, area and thing, and does to what is chosen what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.command import CommandList, CommandPalette
from textual.pilot import Pilot

from tests.lab.test_inventory import node
from tests.tui.conftest import lines, opened, text, until
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.screens.dialogs import ConfirmDialog
from vmlab_tui.tui.screens.images import ImagesArea
from vmlab_tui.tui.screens.lab import LabArea
from vmlab_tui.tui.screens.pick import PickDialog
from vmlab_tui.tui.widgets.rows import Rows
from vmlab_tui.verbs.registry import VERBS


async def palette(app: LabApp, pilot: Pilot[None], typed: str = "") -> list[str]:
    """Open it, type, and wait for what it finds."""
    await pilot.press("colon")
    await until(pilot, lambda: isinstance(app.screen, CommandPalette))
    if typed:
        await pilot.press(*typed)
    await pilot.pause(0.4)
    await until(pilot, lambda: app.screen.has_class("-ready"))
    found = app.screen.query_one(CommandList)
    return [str(option.prompt) for option in found.options]


async def test_everything_is_in_it_and_what_fits_comes_first(lab_dir: Path) -> None:
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("end")  # the test driver's VM
        found = await palette(app, pilot)
        assert len(found) > len(VERBS)
        for verb in VERBS:
            assert any(" ".join(verb.words) in line and verb.help in line for line in found), verb.id
        assert " test" in found[0]  # a verb on the VM under the cursor
        assert not any("unpause test" in line for line in found)  # it is not paused
        assert any("Images" in line and line.startswith("3") for line in found)
        assert any("go to VM on" in line for line in found)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_each_has_one_line(lab_dir: Path, size: tuple[int, int]) -> None:
    async with opened(size) as (app, pilot):
        found = await palette(app, pilot)
        at = next(row for row, line in enumerate(lines(app)) if line.strip().startswith("n "))
        listed = app.screen.query_one(CommandList).scrollable_content_region.height
        for prompt, line in zip(found[: listed - 1], lines(app)[at:], strict=False):
            assert line.strip(" ▁▂▃▄▅▆▇█").startswith(prompt.strip()[:30])


async def test_a_verb_acts_on_what_is_chosen(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("end")
        found = await palette(app, pilot, "pause test")
        assert "pause test" in found[0]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        assert "test" in text(app)


async def test_a_verb_that_fits_nothing_chosen_asks_which(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("3")
        found = await palette(app, pilot, "pause")
        assert found[0].startswith("p")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PickDialog))
        assert "test" in text(app)
        await pilot.press(*"te", "enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        assert "test" in text(app)
        await pilot.press("n")
        await palette(app, pilot, "image rm")
        await pilot.press("enter")
        await until(pilot, lambda: any("there is no image" in note.message for note in app._notifications))


async def test_going_to_areas_and_things(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await palette(app, pilot, "images")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ImagesArea))
        found = await palette(app, pilot, "test")
        at = next(index for index, line in enumerate(found) if "go to VM" in line)
        await pilot.press(*["down"] * at, "enter")
        await until(pilot, lambda: isinstance(app.screen, LabArea))
        cursor = app.screen.query_one(Rows).cursor
        assert cursor and cursor.cells[0].text == "test"


async def test_help_is_found_by_words(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        found = await palette(app, pilot, "plug")
        assert "off" in found[0]
        assert await palette_is_empty(app, pilot)


async def palette_is_empty(app: LabApp, pilot: Pilot[None]) -> bool:
    await pilot.press("escape")
    await pilot.pause()
    return not await palette(app, pilot, "qqqqzzzz")


async def test_a_question_is_answered_first(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("end", "p")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("colon")
        assert isinstance(app.screen, ConfirmDialog)


async def test_themes(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await palette(app, pilot, "theme light")
        await pilot.press("enter")
        await until(pilot, lambda: app.theme == "textual-light")


async def test_hostile_names(lab_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "[@click=app.quit]q",
        "x[red]",
        "a\x9b31mb",
        "r\u202egnp",
        "a" * 200,
        "名前" * 30,
        "$text-error",
        "-rf",
    ]
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", node(tmp_path / "node.xml", {name: [] for name in names}))
    async with opened((120, 40)) as (app, pilot):
        for typed in ("", "click", "aaab", "x[r"):
            await palette(app, pilot, typed)
            assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in "".join(lines(app)))
            await pilot.press("escape")
            await pilot.pause()
        found = await palette(app, pilot, "[@click=app.quit]")
        assert "[@click=app.quit]q" in found[0]
        await pilot.click(CommandList, offset=(10, 1))
        await until(pilot, lambda: isinstance(app.screen, LabArea))
        assert app.is_running
