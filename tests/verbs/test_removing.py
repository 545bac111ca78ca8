"""What is said before something goes: what comes back, and what holds nothing to bring back."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.runs.samples import UUID
from tests.verbs.vm_bed import RUN, context, do, end_run
from vmlab_tui.lab.cleanup import Item
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.reach import Action, Thing
from vmlab_tui.lab.sweep import Result
from vmlab_tui.runs.client import get_run
from vmlab_tui.runs.folder import take_lock
from vmlab_tui.verbs.registry import by_id
from vmlab_tui.verbs.removing import head, way_back
from vmlab_tui.verbs.verb import Args

VM = Thing(("vm", "1"), "web")
PORT = Thing(("ports", "1"), "22001", action=Action.FREE)
BACK = "vmlab undo brings it back"


@pytest.mark.parametrize(
    ("things", "back", "nothing"),
    [((VM,), True, False), ((PORT,), False, True), ((VM, PORT), True, True)],
)
def test_a_way_back_is_promised_only_where_there_is_one(
    things: tuple[Thing, ...], back: bool, nothing: bool
) -> None:
    said = head([Item(thing) for thing in things])
    assert (BACK in said) is back
    assert ("nothing to bring back" in said) is nothing
    results = [Result(thing, "done", entry="" if thing is PORT else "e") for thing in things]
    assert (way_back(results) == BACK) is back


async def test_what_a_run_kept_is_removed_though_its_worker_is_still_about_to_go(lab: Lab) -> None:
    end_run(lab)
    bare = Lab("test:///default", lab.store)  # where there is no domain of it
    ctx, _ = context(bare)
    view = get_run(bare, RUN)
    lock = take_lock(view.folder)
    try:
        assert get_run(bare, RUN).live
        preview = await by_id("runs.end").preview(ctx, Args({"run": RUN}))
        assert "will be removed" in "\n".join(preview.lines)
        ending = asyncio.create_task(do(bare, "runs.end", run=RUN))
        await asyncio.sleep(0.3)
        assert not ending.done()
    finally:
        os.close(lock)
    outcome = await ending
    assert outcome.data["disposition"] == "destroyed"
    assert not lab.store.vm(UUID).exists()
