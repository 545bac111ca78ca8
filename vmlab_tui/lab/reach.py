"""What needs what, and therefore what may go: reachability over frozen values. No file, no libvirt.

A :class:`Thing` goes as a whole or not at all. A rule *claims* it as garbage; that alone decides nothing. It
may go only if it is ours and nothing that stays needs it, however indirectly, and nothing that could not be
looked into might.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.sizes import Shared, together


class Action(StrEnum):
    """What becomes of a thing that may go."""

    TRASH = "trash"
    """Moved to the trash, from where it can be had back."""
    STOP = "stop"
    """A VM is stopped with its memory saved; it stays."""
    FREE = "free"
    """Something that holds no data (a port, a dead socket, an empty directory) is given up."""
    EMPTY = "empty"
    """What lies in the trash is deleted: the only action without a way back."""


@dataclass(frozen=True)
class Thing:
    """Something that goes as a whole: a VM with its directory, an image, a run's directory, a foreign disk.

    ``rule``: the class of garbage that claims it, empty for none; ``why``: that claim as a sentence's end.
    ``root``: why it lives for itself, whatever a rule says. ``ours``: a lease, a mark or a register of ours
    names it. ``trash``: it lies in the trash. ``since``: when it became garbage, in seconds since 1970.
    ``frees``: bytes on the disk. ``stamp``: what it is right now; another one means that it has changed.
    """

    key: Key
    name: str
    rule: str = ""
    why: str = ""
    root: str = ""
    ours: bool = False
    trash: bool = False
    action: Action = Action.TRASH
    since: float | None = None
    paths: tuple[str, ...] = ()
    frees: int = 0
    shares: tuple[Shared, ...] = ()
    """Its files that others have a part in; ``frees`` counts of them what comes back if it goes alone."""
    stamp: str = ""
    details: tuple[str, ...] = ()
    """What else a person may want to know: power, image, owner."""
    yields: bool = False
    """Whether ``root`` is a wish (a lease, no rule) that a person's own word overrides."""
    run: str = ""
    """The run that made it."""
    mounts: tuple[str, ...] = ()
    """What is mounted in it, and is unmounted before it moves; in the order in which that is done."""
    was: str = ""
    """Of what lies in the trash: the kind of thing that it was, as the first part of a key."""


def bytes_of(things: Iterable[Thing], staying: Iterable[Thing] = ()) -> int:
    """Bytes on the disk that come back if all of ``things`` go at once, while ``staying`` stay."""
    alone, shares = 0, list[Shared]()
    for thing in things:
        alone += thing.frees - (together(thing.shares) if thing.shares else 0)
        shares += thing.shares
    return alone + together(shares, (one for thing in staying for one in thing.shares))


@dataclass(frozen=True)
class Edge:
    """``user`` needs ``used``; ``how`` in words: ``backing file of /x/disk.qcow2``."""

    user: Key
    used: Key
    how: str
    gone: bool = False
    """Whether ``user`` names it where it was, and it lies in the trash."""


@dataclass(frozen=True)
class Blind:
    """Something that could not be searched. ``hides``: what it might use; None: anything there is."""

    what: str
    why: str
    hides: frozenset[Key] | None = None


@dataclass(frozen=True)
class World:
    """All things at one moment. ``edges`` may lead to keys that no longer exist: those dangle already."""

    things: Mapping[Key, Thing]
    edges: tuple[Edge, ...] = ()
    blinds: tuple[Blind, ...] = ()
    searched: tuple[str, ...] = ()
    """In words, what was searched: the URI, the folders, the journals."""
    total: int = 0
    """Bytes that the whole store takes on the disk."""

    @cached_property
    def uses(self) -> Mapping[Key, tuple[Edge, ...]]:
        """Edges by user."""
        return _by(self.edges, lambda edge: edge.user)

    @cached_property
    def used_by(self) -> Mapping[Key, tuple[Edge, ...]]:
        """Edges by what they lead to."""
        return _by(self.edges, lambda edge: edge.used)

    @cached_property
    def lent(self) -> frozenset[Key]:
        """What lies in the trash and is used right there by something outside, however indirectly."""
        found: set[Key] = set()
        waiting = [key for key, thing in self.things.items() if not thing.trash]
        while waiting:
            for edge in self.uses.get(waiting.pop(), ()):
                used = self.things.get(edge.used)
                if used is not None and used.trash and not edge.gone and edge.used not in found:
                    found.add(edge.used)
                    waiting.append(edge.used)
        return frozenset(found)

    def binds(self, user: Thing, used: Thing) -> bool:
        """Whether ``user``, staying where it is, forbids that ``used`` goes one step further.

        What lies in the trash needs its base back only when it comes back itself, and the base may lie in the
        trash until then, unless somebody uses it there; deleted or given up it may not be.
        """
        if used.trash or used.action is Action.FREE or not user.trash:
            return True
        return user.key in self.lent

    def dangling(self) -> frozenset[tuple[Key, Key]]:
        """References to what is not there: (user, used). What is in the trash is there for the trash only."""
        found = set()
        for edge in self.edges:
            user, used = self.things.get(edge.user), self.things.get(edge.used)
            if user is not None and (used is None or (used.trash and not user.trash)):
                found.add((edge.user, edge.used))
        return frozenset(found)


def _by(edges: Iterable[Edge], key: object) -> Mapping[Key, tuple[Edge, ...]]:
    found: dict[Key, list[Edge]] = {}
    for edge in edges:
        found.setdefault(key(edge), []).append(edge)  # type: ignore[operator]
    return {one: tuple(those) for one, those in found.items()}


class Fate(StrEnum):
    """What may become of a thing."""

    KEPT = "kept"
    UNPROVABLE = "unprovable"
    """It may be in use by something that could not be looked into: shown, never touched."""
    GARBAGE = "garbage"


@dataclass(frozen=True)
class Verdict:
    """``path``: from the thing's user up to what keeps it: (user, how it needs the one before)."""

    fate: Fate
    why: str
    path: tuple[tuple[Key, str], ...] = ()


@dataclass(frozen=True)
class Judgement:
    """A verdict on every thing of a world, and garbage in an order in which it can go."""

    world: World
    verdicts: Mapping[Key, Verdict]
    order: tuple[Key, ...] = field(default=())
    """Garbage, users before what they use."""


FOREIGN = "it carries no lease or mark of ours"
NO_RULE = "no rule calls it garbage"
CIRCLE = "it stands in a circle of things that need each other"


def judge(world: World) -> Judgement:
    """What may go, and why what may not stays. Whatever nothing claims keeps all that it needs."""
    verdicts: dict[Key, Verdict] = {}
    for thing in world.things.values():
        if (why := _keeps_itself(thing)) is not None:
            verdicts[thing.key] = Verdict(Fate.KEPT, why)
    # a VM that is only stopped goes on needing what it stands on
    stays = [key for key, thing in world.things.items() if thing.action is Action.STOP]
    _spread(world, verdicts, [*verdicts, *stays], Fate.KEPT)
    hidden: list[Key] = []
    for blind in world.blinds:
        for key, thing in world.things.items():
            if key not in verdicts and (_has_files(thing) if blind.hides is None else key in blind.hides):
                verdicts[key] = Verdict(Fate.UNPROVABLE, f"{blind.what} could not be searched: {blind.why}")
                hidden.append(key)
    _spread(world, verdicts, hidden, Fate.UNPROVABLE)
    order = _ordered(world, [key for key in world.things if key not in verdicts])
    circles = [key for key in world.things if key not in verdicts and key not in set(order)]
    for key in circles:
        verdicts[key] = Verdict(Fate.UNPROVABLE, CIRCLE)
    # what stands below a circle is in no order either, but for its own sake it is told apart
    for key in order:
        verdicts[key] = Verdict(Fate.GARBAGE, world.things[key].why)
    return Judgement(world, verdicts, tuple(order))


def _keeps_itself(thing: Thing) -> str | None:
    if thing.root:
        return thing.root
    if not thing.rule:
        return NO_RULE if thing.ours else FOREIGN
    return None if thing.ours else FOREIGN


def _has_files(thing: Thing) -> bool:
    return bool(thing.paths) and thing.action in (Action.TRASH, Action.EMPTY)


def _spread(world: World, verdicts: dict[Key, Verdict], start: Iterable[Key], fate: Fate) -> None:
    """Give ``fate`` to all that ``start`` needs, however indirectly, and that has none yet."""
    waiting = deque(start)
    while waiting:
        at = waiting.popleft()
        user = world.things[at]
        for edge in world.uses.get(at, ()):
            used = world.things.get(edge.used)
            if used is None or edge.used in verdicts or not world.binds(user, used):
                continue
            above = verdicts.get(at)
            path = ((at, edge.how), *(above.path if above else ()))
            verdicts[edge.used] = Verdict(fate, above.why if above else user.why, path)
            waiting.append(edge.used)


def _ordered(world: World, keys: Iterable[Key]) -> list[Key]:
    """``keys`` with users before what they use; those in or below a circle are left out."""
    among = dict.fromkeys(keys)
    users: dict[Key, set[Key]] = {key: set() for key in among}
    for edge in world.edges:
        inside = edge.user in among and edge.used in among and edge.user != edge.used
        if inside and world.binds(world.things[edge.user], world.things[edge.used]):
            users[edge.used].add(edge.user)
    ready = deque(key for key in among if not users[key])
    done: list[Key] = []
    while ready:
        at = ready.popleft()
        done.append(at)
        for edge in world.uses.get(at, ()):
            waiting = users.get(edge.used)
            if waiting and at in waiting:
                waiting.discard(at)
                if not waiting:
                    ready.append(edge.used)
    return done
