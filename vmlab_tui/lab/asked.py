"""What a person names with a word, and what their own word overrides."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import replace

from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.proof import title
from vmlab_tui.lab.reach import Action, Thing, World

ASKED = "asked"
"""The class of what a person has named."""


def find(world: World, ref: str, kinds: Iterable[str] = ()) -> Thing:
    """The one thing that ``ref`` names: by name, uuid, id, path, or ``kind:name``. Raises UsageError."""
    wanted = frozenset(kinds)
    head, colon, rest = ref.partition(":")
    found = [
        thing
        for thing in world.things.values()
        if (not wanted or thing.key[0] in wanted)
        and (
            ref in (thing.name, thing.key[1], *thing.paths)
            or (bool(colon) and head == thing.key[0] and rest in (thing.name, thing.key[1]))
        )
    ]
    if len(found) > 1:
        found = [thing for thing in found if thing.ours and not thing.trash] or found
    if len(found) == 1:
        return found[0]
    if not found:
        fitting = [one for one in world.things.values() if not wanted or one.key[0] in wanted]
        raise UsageError(
            f"nothing here is called '{clean_line(ref, 80)}'",
            hint=near(ref, [one.name for one in fitting if one.ours])
            or "vmlab ls and vmlab image list show names",
        )
    names = ", ".join(f"{thing.key[0]}:{clean_line(thing.key[1], 60)}" for thing in found[:5])
    raise UsageError(f"{len(found)} things are called '{clean_line(ref, 80)}'", hint=f"say which: {names}")


def near(ref: str, names: Iterable[str]) -> str:
    """``did you mean 'web-7f3a'?``, or nothing: what is removed is named in full, and not guessed."""
    known = sorted(set(names))
    found = [name for name in known if ref and name.startswith(ref)] or difflib.get_close_matches(
        ref, known, 3
    )
    shown = " or ".join(f"'{clean_line(name, 80)}'" for name in found[:3])
    return f"did you mean {shown}?" if shown else ""


def ask_for(things: Iterable[Thing], action: Action, why: str) -> Callable[[World], World]:
    """What makes these things garbage in every look: a person wants it. Others' needs are not overridden.

    Raises Refused for what is not ours, or lives for a reason that no wish changes.
    """
    wanted: dict[Key, None] = {}
    for thing in things:
        if not thing.ours:
            raise Refused(
                f"{title(thing)} carries no lease or mark of ours: vmlab leaves it alone",
                hint=f"if it is yours: vmlab adopt {clean_line(thing.name, 80)}",
            )
        if thing.root and not thing.yields:
            raise Refused(f"{title(thing)} stays: {thing.root}", hint="end that first")
        wanted[thing.key] = None

    def adjust(world: World) -> World:
        changed = dict(world.things)
        for key in wanted:
            thing = changed.get(key)
            if thing and thing.ours and (not thing.root or thing.yields):
                changed[key] = replace(thing, rule=ASKED, why=why, root="", action=action)
        return replace(world, things=changed)

    return adjust
