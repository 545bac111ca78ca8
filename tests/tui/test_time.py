"""Going back from the Lab area: which snapshot, how, and what is said before, on libvirt's test driver."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.runs.samples import UUID
from tests.tui.conftest import opened, text, until
from tests.verbs.vm_bed import RAW, UEFI, lease, node
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.leases import write_lease
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.screens.dialogs import ConfirmDialog, FormDialog, MessageDialog
from vmlab_tui.tui.screens.pick import PickDialog
from vmlab_tui.tui.widgets.rows import Rows
from vmlab_tui.verbs.snapshot_revert import SnapshotRevert
from vmlab_tui.verbs.verb import Args, Context, Outcome

WHOLE = (120, 40)


@pytest.fixture
def lab(lab_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A VM of ours with the snapshots 'one' and 'two', one on a raw disk, one with UEFI; all on."""
    store = Store(lab_dir)
    for uuid, name in ((UUID, "sample-7f3a"), (RAW, "raw"), (UEFI, "uefi")):
        store.vm(uuid).mkdir(parents=True)
        write_lease(store, lease(name).model_copy(update={"uuid": uuid}))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", f"test://{node(lab_dir.parent)}")
    return lab_dir


async def on(app: LabApp, pilot: Pilot[None], *key: str) -> None:
    """Put the cursor on the row of that key."""
    await until(pilot, lambda: app.screen.query_one(Rows).move_to("\x1f".join(key)))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Args]:
    """The calls of snapshot revert, which then are not made: the test driver dies of them."""
    calls: list[Args] = []

    async def run(self: SnapshotRevert, ctx: Context, args: Args) -> Outcome:
        calls.append(args)
        return Outcome(lines=("is back",))

    monkeypatch.setattr(SnapshotRevert, "run", run)
    return calls


async def told(app: LabApp, pilot: Pilot[None], words: Sequence[str]) -> None:
    await until(pilot, lambda: all(word in text(app) for word in words))


async def test_how_to_go_back_is_chosen_where_it_is_asked(lab: Path, done: list[Args]) -> None:
    async with opened() as (app, pilot):
        await on(app, pilot, "snapshot", UUID, "one")
        await pilot.press("R")
        await told(app, pilot, ["goes back to 'one'", "and runs then", "is kept first", "This is lost:"])
        assert isinstance(app.screen, ConfirmDialog)
        assert app.focused is not None
        assert app.focused.id == "no"
        await pilot.press("t", "t")
        await told(app, pilot, ["then: paused", "and is paused then"])
        await pilot.press("s")
        await told(app, pilot, ["[x] Do not keep the present", "NOT kept"])
        await pilot.press("t", "t")
        await told(app, pilot, ["then: as it was", "and runs then", "NOT kept"])
        await pilot.press("t")
        await told(app, pilot, ["then: running", "and runs then"])
        await pilot.press("y")
        await until(pilot, lambda: done)
        (args,) = done
        assert (args.text("vm"), args.text("snapshot")) == (UUID, "one")
        assert (args.optional("then"), args.flag("no_safety")) == ("running", True)
        assert args.seen, "what has moved since is not lost unseen"


async def test_nobody_agrees_to_what_is_not_known_yet(lab: Path) -> None:
    known = asyncio.Event()
    answers: list[bool | None] = []
    param = next(one for one in SnapshotRevert.params if one.name == "then")

    async def look(chosen: Mapping[str, object]) -> tuple[str, list[str]]:
        await known.wait()
        if chosen["then"] == "paused":
            raise LabError("that cannot be")
        return f"{chosen['then']} it is", ["something"]

    async with opened() as (app, pilot):
        app.push_screen(ConfirmDialog("as it was", ["all"], [("t", param)], look), answers.append)
        await told(app, pilot, ["then: as it was", "- all"])
        await pilot.press("t", "y")
        assert answers == []
        known.set()
        await told(app, pilot, ["running it is", "- something"])
        await pilot.press("t")
        await told(app, pilot, ["! that cannot be"])
        await pilot.press("y")
        assert answers == []
        await pilot.press("t")
        await told(app, pilot, ["off it is"])
        await pilot.press("y")
        await until(pilot, lambda: answers)
        assert answers == [True]


async def test_on_a_vm_it_asks_which_snapshot(lab: Path, done: list[Args]) -> None:
    async with opened(WHOLE) as (app, pilot):
        await on(app, pilot, "vm", UUID)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, PickDialog))
        await told(app, pilot, ["which snapshot of sample-7f3a?", "memory, 1 h ago"])
        await pilot.press("down", "enter")
        await told(app, pilot, ["goes back to 'one'"])
        await pilot.press("y")
        await until(pilot, lambda: done)
        await on(app, pilot, "vm", RAW)
        await pilot.press("R")
        await told(app, pilot, ["has no snapshots", "a raw disk cannot hold"])
        assert isinstance(app.screen, MessageDialog)


async def test_the_keys_say_why_a_uefi_vm_cannot_travel_in_time(lab: Path) -> None:
    async with opened(WHOLE) as (app, pilot):
        await on(app, pilot, "vm", UEFI)
        await pilot.press("R")
        await told(app, pilot, ["uefi has no snapshots: no time travel: ", "UEFI guests"])
        assert isinstance(app.screen, MessageDialog)
        await pilot.press("escape", "m")
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        await pilot.press("ctrl+s")
        await told(app, pilot, ["VM uefi: no time travel: ", "UEFI guests"])


async def test_a_description_is_there_to_be_changed(lab: Path) -> None:
    async with opened(WHOLE) as (app, pilot):
        await on(app, pilot, "snapshot", UUID, "two")
        await told(app, pilot, ["about", "red text", "after", "current"])
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        await told(app, pilot, ["snapshot describe two", "red text"])
        await pilot.press("end", *" no more", "ctrl+s")
        await told(app, pilot, ["snapshot two of sample-7f3a says 'red text no more' now"])


async def test_what_becomes_of_children_is_said_before_one_is_deleted(lab: Path) -> None:
    async with opened() as (app, pilot):
        await on(app, pilot, "snapshot", UUID, "one")
        await pilot.press("D")
        await told(app, pilot, ["snapshots taken after it stay, then at the root: two", "snapshot 'one'"])
