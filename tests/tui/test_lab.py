"""The Lab area and how verbs are done from it, on libvirt's test driver."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual import events

from tests.tui.conftest import lines, opened, text, until
from vmlab_tui.tui.screens.dialogs import ChoiceDialog, ConfirmDialog, FormDialog, MessageDialog
from vmlab_tui.tui.screens.keys import KeysScreen
from vmlab_tui.tui.screens.text import TextScreen
from vmlab_tui.tui.widgets.rows import Rows


def find_row(found: list[str], word: str) -> str:
    return next(line for line in found if word in line)


async def test_a_foreign_vm_is_shown_as_such_and_touched_only_after_a_yes(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        row = find_row(lines(app), "test ")
        assert "VM on" in row
        assert "foreign" in row
        await pilot.press("end", "space")
        await pilot.pause()
        assert "(1 marked)" in text(app)
        await pilot.press("escape", "end", "p")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        assert "foreign" in text(app)
        assert app.focused is not None and app.focused.id == "no"
        await pilot.press("n")
        await pilot.pause()
        assert "VM on" in find_row(lines(app), "test ")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: "VM paused" in text(app))
        await pilot.press("p")  # the same key goes on with it
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: "VM on" in text(app))


async def test_what_cannot_be_is_refused_with_the_name_and_what_to_do(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("end", "D")
        await until(pilot, lambda: isinstance(app.screen, MessageDialog))
        assert "test" in text(app)
        assert "lease" in text(app)
        assert "What to do:" in text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, MessageDialog)


async def test_a_snapshot_is_asked_for_and_what_was_typed_survives_a_refusal(lab_dir: Path) -> None:
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("end", "m")
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        await pilot.press(*"before", "tab", *"all well", "ctrl+s")
        await until(pilot, lambda: "no time travel" in text(app))  # the test driver's VM has no disk
        assert isinstance(app.screen, FormDialog)
        assert "before" in text(app)
        assert "all well" in text(app)


async def test_a_fork_asks_for_name_and_number(lab_dir: Path) -> None:
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("end", "k")
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        await pilot.press("3", "tab", *"copy", "ctrl+s")
        await until(pilot, lambda: "no vmlab lease" in text(app))
        assert isinstance(app.screen, FormDialog)
        assert "copy" in text(app)


async def test_details_beside_when_wide_and_instead_when_narrow(lab_dir: Path) -> None:
    async with opened((120, 30)) as (app, pilot):
        await pilot.press("end")
        await pilot.pause()
        assert "uuid" in text(app)
        assert "no vmlab lease" in text(app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "no vmlab lease" not in text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "no vmlab lease" in text(app)
        assert "VM on" not in text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "VM on" in text(app)


async def test_long_results_get_a_screen(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("end", "i")
        await until(pilot, lambda: isinstance(app.screen, TextScreen))
        assert "test" in text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query_one(Rows).has_focus


async def test_a_name_goes_to_the_clipboard(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("end", "y")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("n")
        await pilot.pause()
        assert app.clipboard == "test"


async def test_every_key_of_the_screen_is_told_and_those_that_do_nothing_are_not_at_the_bottom(
    lab_dir: Path,
) -> None:
    async with opened((120, 40)) as (app, pilot):
        bottom = lines(app)[-1]
        assert "pause" not in bottom  # the cursor is on the row of other disks
        await pilot.press("end")
        await pilot.pause()
        assert "p pause" in lines(app)[-1]
        assert "start" not in lines(app)[-1]  # it runs
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        for sentence in (
            "Pull the plug",
            "The images, VMs and snapshots",
            "The commands that were really run",
        ):
            assert sentence in text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, KeysScreen)


async def test_a_libvirt_that_is_not_there_is_said_and_the_screen_still_works(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from vmlab_tui.tui.app import LabApp

    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", f"qemu+unix:///session?socket={tmp_path}/none")
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.hub.host.state == "gone")
        await pilot.press("2", "3", "1", "question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        await pilot.press("escape")
        await pilot.pause()
        assert "gone" in lines(app)[0]


async def test_leaving_with_nothing_at_work_asks_nothing(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("q")
        await pilot.pause()
        assert app._exit


async def test_the_commands_really_run_are_told_as_one_would_type_them(lab_dir: Path) -> None:
    async with opened((120, 30)) as (app, pilot):
        await pilot.press("end", "p")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: "VM paused" in text(app))
        await pilot.press("at")
        await until(pilot, lambda: "virsh -c test:///default suspend" in text(app))
        assert "virsh suspend" in text(app)  # in the list without what all of them have in common
        await pilot.press("y")
        assert app.clipboard.startswith("virsh -c test:///default suspend")
        await pilot.press("escape")
        await until(pilot, lambda: "VM paused" in text(app))
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: "VM on" in text(app))


async def test_a_click_on_a_key_presses_it(lab_dir: Path) -> None:
    async with opened((120, 40)) as (app, pilot):
        told = lines(app)[-1]
        await pilot.click(offset=(told.index("? keys") + 4, 39))
        await until(pilot, lambda: "Keys that work here" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: "Keys that work here" not in text(app))
        await pilot.click(offset=(len(told) + 3, 39))
        await pilot.pause()
        assert lines(app)[-1] == told


async def test_many_keys_that_wait_are_looked_after_once(lab_dir: Path) -> None:
    async with opened() as (app, _):
        before = len(app._timers)
        for number in range(60):
            app.post_message(events.Key("up" if number % 2 else "down", None))
        most = 0
        while app._under_way or app._message_queue.qsize():
            most = max(most, len(app._timers))
            await asyncio.sleep(0)
        assert most <= before + 1
