"""The plan of a clean-up and of its undoing: which things, in which order, within which bounds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.proof import reason
from vmlab_tui.lab.reach import Action, Fate, Judgement, Thing, World, bytes_of

CLASSES: dict[str, str] = {
    "dead-run": "VMs whose run was interrupted or is gone, without a lease that keeps them",
    "ended-run": "VMs that their ended run should have removed",
    "expired": "running VMs past their lease: they are stopped, their memory saved",
    "expired-off": "VMs past their lease that are off",
    "no-domain": "VM directories of ours without a domain",
    "no-directory": "domains of ours whose directory is gone",
    "empty-dir": "empty VM directories",
    "libvirt": "what domains of ours left in libvirt's own folders",
    "half-built": "images that were never finished, and what is still mounted in them",
    "former": "files of former image builds that nothing stands on",
    "image": "images that a rule of the settings calls disposable",
    "template": "templates past their budget",
    "run": "run directories past the keep rule",
    "diagnosis": "what older diagnoses of a run or a VM kept",
    "adopted": "adopted files past the time they were to be kept",
    "stale": "port reservations of VMs that are gone, sockets that nobody answers",
    "trash": "things in the trash past its age or size",
}
"""Every class of garbage, with what it means."""


@dataclass(frozen=True)
class Limits:
    """How much one clean-up may do. ``share``: of the store's bytes, 0 to 1.

    The share counts for more than ``few`` things: of a lab with a single VM that one is nearly all.
    """

    items: int = 100
    share: float = 0.5
    few: int = 10


@dataclass(frozen=True)
class Item:
    """One thing that goes. ``stamp``: what it was when planned; ``operations``: in words, in order."""

    thing: Thing
    proof: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.thing.key


@dataclass(frozen=True)
class Plan:
    """What will be done, in order; every prefix leaves a valid lab.

    ``skipped``: chosen things that stay, with the reason. ``over``: why the plan is beyond the limits.
    """

    items: tuple[Item, ...] = ()
    skipped: tuple[tuple[Thing, str], ...] = ()
    over: str = ""
    frees: int = field(default=0)
    """Bytes that really come back, once the trash is emptied."""


def choose(
    judgement: Judgement,
    classes: Iterable[str] = (),
    keys: Iterable[Key] | None = None,
    older_than: float = 0.0,
    now: float = 0.0,
) -> frozenset[Key]:
    """The garbage of ``classes`` (none: all but the trash), among ``keys`` if given, that is so for as long.

    ``older_than`` in seconds; garbage whose age is not known counts as young.
    """
    wanted = frozenset(classes) or frozenset(CLASSES) - {"trash"}
    among = None if keys is None else frozenset(keys)
    found = set()
    for key in judgement.order:
        thing = judgement.world.things[key]
        if thing.rule not in wanted or (among is not None and key not in among):
            continue
        if older_than and (thing.since is None or now - thing.since < older_than):
            continue
        found.add(key)
    return frozenset(found)


def make_plan(
    judgement: Judgement,
    chosen: Iterable[Key],
    limits: Limits | None = None,
    proof: Callable[[Key], tuple[str, ...]] = lambda _key: (),
) -> Plan:
    """The plan for ``chosen``; what is no garbage, or is needed by garbage that stays, is skipped."""
    world = judgement.world
    wanted = set(chosen)
    skipped: dict[Key, str] = {}
    for key in wanted:
        verdict = judgement.verdicts.get(key)
        if verdict is None:
            skipped[key] = "it does not exist any more"
        elif verdict.fate is not Fate.GARBAGE:
            skipped[key] = reason(judgement, key)
    going = wanted - skipped.keys()
    for key in judgement.order:  # users come first, so one pass is enough
        if key not in going:
            continue
        thing = world.things[key]
        for edge in world.used_by.get(key, ()):
            user = world.things.get(edge.user)
            if user is None or user.key == key or (user.key in going and user.action in _leaves(thing)):
                continue
            if thing.action is not Action.STOP and world.binds(user, thing):
                going.discard(key)
                skipped[key] = f"{user.name} needs it ({edge.how}) and stays"
                break
    items = tuple(Item(world.things[key], proof(key)) for key in judgement.order if key in going)
    frees = frees_of(world, [item.key for item in items])
    gone = tuple((world.things[key], why) for key, why in sorted(skipped.items()) if key in world.things)
    return Plan(items, gone, _over(items, frees, world, limits), frees)


def _leaves(used: Thing) -> tuple[Action, ...]:
    """What has to become of a user so that ``used`` may go: in the trash it would not find again what was
    given up."""
    gone = (Action.EMPTY, Action.FREE)
    return gone if used.action is Action.FREE else (*gone, Action.TRASH)


def frees_of(world: World, keys: Iterable[Key]) -> int:
    """Bytes that come back in the end if the things of ``keys`` go at once: what they share counts once."""
    going = {key for key in keys if world.things[key].action in (Action.TRASH, Action.EMPTY)}
    staying = (thing for key, thing in world.things.items() if key not in going)
    return bytes_of((world.things[key] for key in going), staying)


def _over(items: tuple[Item, ...], frees: int, world: World, limits: Limits | None) -> str:
    if limits is None:
        return ""
    if len(items) > limits.items:
        return f"{len(items)} things would go, and at most {limits.items} may at once"
    if len(items) > limits.few and world.total and frees > limits.share * world.total:
        return (
            f"{100 * frees / world.total:.0f} % of the store would go, and at most "
            f"{100 * limits.share:.0f} % may at once"
        )
    return ""


def undo_order(
    world: World, keys: Iterable[Key], moved: Callable[[Key], object] = lambda key: key
) -> tuple[Key, ...]:
    """Things in the trash in the order in which they come back: what was moved last comes first.

    What else in the trash they need comes too. ``moved``: sorts by the time of moving, as the keys of
    entries do themselves. A base goes after its users, so back it comes before them.
    """
    waiting = [key for key in keys if key in world.things and world.things[key].trash]
    wanted: set[Key] = set()
    while waiting:
        at = waiting.pop()
        if at in wanted:
            continue
        wanted.add(at)
        waiting += [
            edge.used
            for edge in world.uses.get(at, ())
            if edge.used in world.things and world.things[edge.used].trash
        ]
    return tuple(sorted(wanted, key=moved, reverse=True))  # type: ignore[arg-type]  # whatever sorts


def after(world: World, thing: Thing) -> World:
    """The world once a plan's item on ``thing`` is done."""
    things: dict[Key, Thing] = dict(world.things)
    match thing.action:
        case Action.TRASH:
            things[thing.key] = replace(thing, trash=True)
        case Action.STOP:
            things[thing.key] = replace(thing, rule="", root="stopped")
        case Action.FREE | Action.EMPTY:
            del things[thing.key]
    return replace(world, things=things)


def back(world: World, key: Key, as_it_was: Mapping[Key, Thing]) -> World:
    """The world once what lies in the trash under ``key`` has come back."""
    return replace(world, things={**world.things, key: as_it_was[key]})
