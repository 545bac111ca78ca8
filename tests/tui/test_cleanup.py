"""The Clean-up area: what may go, the proof, marks, the trash, and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.disks import qcow2
from tests.lab.test_leases import lease
from tests.tui.conftest import lines, opened, text, until
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.leases import write_lease
from vmlab_tui.lab.trash import list_entries
from vmlab_tui.tui.screens.dialogs import ConfirmDialog
from vmlab_tui.tui.screens.text import TextScreen
from vmlab_tui.tui.widgets.rows import Rows

DEAD = "0d0d0d0d-1111-2222-3333-444444444444"


@pytest.fixture
def store(lab_dir: Path) -> Store:
    store = Store(lab_dir)
    for name in ("images", "vms", "runs", "trash", "keys"):
        (lab_dir / name).mkdir(parents=True, exist_ok=True)
    for name in ("old-1", "old-2"):
        os.utime(qcow2(store.images / f"{name}.qcow2"), (1, 1))
    (store.vms / DEAD).mkdir()
    qcow2(store.vms / DEAD / "disk.qcow2")
    write_lease(store, lease(DEAD, name="dead\u202e[/red]", created="2020-01-01T00:00:00+00:00"))
    return store


def keys(rows: Rows) -> set[str]:
    return {row.key.replace("\x1f", ":") for row in rows.rows}


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_garbage_goes_to_the_trash_and_comes_back(store: Store, size: tuple[int, int]) -> None:
    async with opened(size) as (app, pilot):
        await pilot.press("4")
        rows = app.screen.query_one("#things", Rows)
        everything = {f"vm:{DEAD}", "file:old-1.qcow2", "file:old-2.qcow2"}
        await until(pilot, lambda: keys(rows) == everything)
        assert "3 may go and free" in text(app)
        assert "4 Clean-up" in lines(app)[0]
        await pilot.press("slash", *"class:former", "enter")
        await until(pilot, lambda: len(rows.rows) == 2)
        await pilot.press("a", "C")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        assert "old-1" in text(app)
        assert "dead" not in text(app)
        await pilot.press("y")
        await until(pilot, lambda: not list(store.images.glob("*.qcow2")))
        await until(pilot, lambda: not isinstance(app.screen, ConfirmDialog))
        assert len(list_entries(store)[0]) == 2
        assert (store.vms / DEAD).is_dir()
        await pilot.press("escape", "escape", "4")
        await until(pilot, lambda: any("in trash" in line for line in lines(app)))
        await pilot.press("home", "u")
        await until(pilot, lambda: len(list(store.images.glob("*.qcow2"))) == 2)
        await until(pilot, lambda: keys(rows) == everything)


async def test_enter_shows_what_was_searched(store: Store) -> None:
    async with opened((140, 50)) as (app, pilot):
        await pilot.press("4")
        rows = app.screen.query_one("#things", Rows)
        await until(pilot, lambda: len(rows.rows) == 3)
        await pilot.press("enter")
        shown = text(app)
        assert "named by" in shown
        assert "searched" in shown
        assert "test:///default" in shown
        assert "will do" in shown
        assert "\u202e" not in shown


async def test_the_trash_is_emptied_for_good_after_a_question(store: Store) -> None:
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("4")
        rows = app.screen.query_one("#things", Rows)
        await until(pilot, lambda: len(rows.rows) == 3)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: len(list_entries(store)[0]) == 3)
        await until(
            pilot, lambda: isinstance(app.screen, TextScreen)
        )  # what was done, in more than a few lines
        assert not list(store.vms.iterdir())
        await pilot.press("escape")
        await until(pilot, lambda: sum("in trash" in line for line in lines(app)) == 3)
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(app.screen, ConfirmDialog))
        assert len(list_entries(store)[0]) == 3
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: not list_entries(store)[0])
