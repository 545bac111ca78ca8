"""What is said before something goes: what comes back, and what holds nothing to bring back."""

from __future__ import annotations

import pytest

from vmlab_tui.lab.cleanup import Item
from vmlab_tui.lab.reach import Action, Thing
from vmlab_tui.lab.sweep import Result
from vmlab_tui.verbs.removing import head, way_back

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
