"""What the cursor or the marks stand on, as verbs take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmlab_tui.verbs.verb import Param, Verb


@dataclass(frozen=True)
class Target:
    """One thing on the screen. ``kind``: vm, run, image, template, snapshot, profile, recipe.

    ``ref`` is how a verb is told of it (uuid, run id, name); ``label`` how people are, already cleaned.
    ``parent`` is the uuid of a snapshot's VM. ``state`` is its state in one word.
    """

    kind: str
    ref: str
    label: str
    parent: str = ""
    state: str = ""


def subject(verb: Verb) -> Param | None:
    """The parameter that says what a verb acts on, or None when it acts on nothing in particular."""
    named = [param for param in verb.params if param.positional and param.names]
    snapshots = [param for param in named if param.names == "snapshot"]
    return next(iter(snapshots or named), None)


def fits(verb: Verb, target: Target | None) -> bool:
    """Whether ``verb`` can act on ``target`` (None: on nothing in particular)."""
    param = subject(verb)
    if param is None or param.names in ("profile", "recipe"):
        return True  # asks for it
    if target is None:
        return False
    if not applies(verb, target):
        return False
    if param.names == target.kind or (verb.at_snapshots and target.kind == "snapshot"):
        return True
    if verb.picks and target.kind == "vm":
        return True
    return param.names == "vm" and target.kind == "run" and "runs" in verb.areas


def applies(verb: Verb, target: Target) -> bool:
    """Whether it makes sense in the state that the target is in."""
    param = subject(verb)
    known = target.state and param is not None and param.names == target.kind
    return verb.applies(target.state) if known and target.kind in ("vm", "run") else True


def values(verb: Verb, targets: Sequence[Target]) -> dict[str, object]:
    """The arguments by which ``verb`` is told of ``targets`` (one, unless it takes several)."""
    param = subject(verb)
    if param is None or not targets:
        return {}
    first = targets[0]
    if param.names == "snapshot":
        vm = next((one for one in verb.params if one.positional and one.names == "vm"), None)
        found: dict[str, object] = {}
        if vm:
            uuid = first.parent if first.kind == "snapshot" else first.ref
            found[vm.name] = (uuid,) if vm.multiple else uuid
        if first.kind == "snapshot":
            found[param.name] = tuple(one.ref for one in targets) if param.multiple else first.ref
        return found
    if param.multiple:
        return {param.name: tuple(one.ref for one in targets)}
    at_snapshot = first.kind == "snapshot" and verb.at_snapshots
    return {param.name: f"{first.parent}@{first.ref}" if at_snapshot else first.ref}


def takes_several(verb: Verb) -> bool:
    """Whether one call can act on several targets."""
    param = subject(verb)
    return param is not None and param.multiple
