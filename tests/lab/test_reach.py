"""Reachability and plans over random graphs: what is needed, foreign or unknown never goes.

Each property is tried on 2,000 of them in a few seconds; ``VMLAB_EXAMPLES=20000`` for the long run.
Hypothesis draws only a seed, of which an ordinary generator makes the graph ten times as fast.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.lab.test_claims import vm_cases
from vmlab_tui.lab.cleanup import CLASSES, Limits, after, back, choose, make_plan, undo_order
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.proof import explain, reason
from vmlab_tui.lab.reach import Action, Blind, Edge, Fate, Thing, World, judge
from vmlab_tui.lab.sizes import Shared

MANY = settings(
    phases=(Phase.explicit, Phase.generate),
    max_examples=int(os.environ.get("VMLAB_EXAMPLES", "2000")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


HOWS = (
    "backing file of /x",
    "data file of /x",
    "its definition",
    "its stored definition",
    "snapshot 'a'",
    "its saved memory",
    "its lease names the run",
    "template.json names it",
    "the plan of a run that is not over",
    "held open by its QEMU",
)
OTHERS = {
    "image": Action.TRASH,
    "run": Action.TRASH,
    "template": Action.TRASH,
    "ports": Action.FREE,
    "socket": Action.FREE,
    "left": Action.FREE,
}
STAYS = "the rules' words, not the code, say that it stays"


def kinds() -> list[Thing]:
    """Things of every kind, a table to draw from: half of them VMs, by every case of the rules."""
    found = []
    for number, case in enumerate(vm_cases()):
        claim, ours = case.claim, number % 8 != 0
        thing = Thing(
            ("vm",),
            "",
            claim.rule,
            claim.why,
            claim.root,
            ours=ours,
            action=claim.action,
            paths=("/x",) if number % 3 else (),
            details=(STAYS,) if case.lives or not ours else (),
        )
        # most of the cases live, which makes dull graphs: fewer of these, and of those that are only stopped
        if (claim.rule and claim.action is Action.TRASH) or number % 9 == 0:
            found.append(thing)
    half = len(found)
    for number, kind in zip(range(half), cycle([*OTHERS, "trash"]), strict=False):
        trash = kind == "trash"
        found.append(
            Thing(
                (kind,),
                "",
                "stale" if number % 8 else "",
                "it is stale",
                "somebody wants it" if number % 11 == 0 else "",
                ours=number % 9 != 0,
                trash=trash,
                action=Action.EMPTY if trash else OTHERS[kind],
                paths=("/x",) if number % 2 else (),
            )
        )
    return found


KINDS = kinds()


def key(number: int) -> Key:
    return ("vm", str(number))


def random_world(random: Random) -> World:
    """Chains, shared bases, circles, names of what is missing, things in the trash, unsearchable parts."""
    count = random.randint(1, 14)
    things: dict[Key, Thing] = {}
    for number, kind in enumerate(random.choices(KINDS, k=count)):
        one = (kind.key[0], str(number))
        things[one] = replace(kind, key=one, name=f"t{number}", frees=7 * number)
    keys = list(things)
    names: list[Key] = [*keys, ("disk", "gone"), ("vm", "gone")]  # the last two name what does not exist
    pairs = [
        (random.randrange(count), random.randrange(count + 2))
        for _ in range(random.randint(count // 2, 2 * count))
    ]
    if random.random() < 0.5:  # most labs have no circles
        pairs = [(user, used) for user, used in pairs if user < used]
    edges = tuple(
        Edge(
            keys[user],
            names[used],
            HOWS[(3 * user + used) % len(HOWS)],
            names[used][0] == "trash" and (user + used) % 3 > 0,
        )
        for user, used in pairs
    )
    some = [frozenset(random.choices(keys, k=random.randint(1, 2))) for _ in range(random.randint(0, 2))]
    blinds = [Blind("x", "y", hides if random.random() < 0.75 else None) for hides in some]
    return World(things, edges, tuple(blinds))


RANDOMS = st.randoms(use_true_random=True)
WORLDS = RANDOMS.map(random_world)


def everything(world: World) -> frozenset[Key]:
    return choose(judge(world), CLASSES)


def some_of(world: World, random: Random) -> frozenset[Key]:
    """Most of what may be chosen."""
    found = sorted(everything(world))
    return frozenset(found) - set(random.sample(found, k=min(len(found), random.randint(0, 2))))


def stays_by_force(world: World) -> set[Key]:
    """By brute force: what must not go, from the words of the rules rather than by the code under test."""
    fixed = {
        one
        for one, thing in world.things.items()
        if thing.root or not thing.rule or not thing.ours or STAYS in thing.details
    }
    for blind in world.blinds:
        for one, thing in world.things.items():
            if blind.hides is None and thing.paths and thing.action in (Action.TRASH, Action.EMPTY):
                fixed.add(one)
            if blind.hides is not None and one in blind.hides:
                fixed.add(one)
    held = set(fixed) | {one for one, thing in world.things.items() if thing.action is Action.STOP}
    needed = set(fixed)
    lent = {one for one in world.things if _used_in_the_trash(world, one)}
    changed = True
    while changed:
        changed = False
        for edge in world.edges:
            used = world.things.get(edge.used)
            if used is None or edge.user not in held or edge.used in needed:
                continue
            free = used.action is Action.FREE
            if used.trash or free or not world.things[edge.user].trash or edge.user in lent:
                needed.add(edge.used)
                held.add(edge.used)
                changed = True
    return needed


def _used_in_the_trash(world: World, one: Key) -> bool:
    """Whether something outside uses it right there, through whatever else lies there."""
    seen, waiting = {one}, [one]
    while waiting:
        at = waiting.pop()
        if not world.things[at].trash:
            continue
        for edge in world.used_by.get(at, ()):
            if not edge.gone and edge.user in world.things and not world.things[edge.user].trash:
                return True
            if not edge.gone and edge.user not in seen and edge.user in world.things:
                seen.add(edge.user)
                waiting.append(edge.user)
    return False


@given(WORLDS)
@MANY
def test_nothing_reachable_foreign_or_unprovable_is_ever_planned(world: World) -> None:
    plan = make_plan(judge(world), everything(world))
    assert not {item.key for item in plan.items} & stays_by_force(world)


@given(WORLDS)
@MANY
def test_all_that_nothing_needs_is_planned_unless_it_goes_in_circles(world: World) -> None:
    free = set(world.things) - stays_by_force(world)
    planned = {item.key for item in make_plan(judge(world), everything(world)).items}
    given_up = {
        one for one in free if world.things[one].action is Action.FREE and _above_in_trash(world, one)
    }
    for one in free - planned:
        users = [one, *_above(world, one)]
        assert any(above in given_up or _reaches_itself(world, above) for above in users)


def _above_in_trash(world: World, one: Key) -> bool:
    """Whether somebody needs it who will only be in the trash afterwards, and may come back."""
    users = [world.things.get(edge.user) for edge in world.used_by.get(one, ()) if edge.user != one]
    return any(user and user.action in (Action.TRASH, Action.STOP) for user in users)


def _above(world: World, start: Key) -> Iterator[Key]:
    seen, waiting = {start}, [start]
    while waiting:
        at = waiting.pop()
        for edge in world.used_by.get(at, ()):
            if edge.user not in seen:
                seen.add(edge.user)
                waiting.append(edge.user)
                yield edge.user


def _reaches_itself(world: World, start: Key) -> bool:
    return any(start in _below(world, edge.used) for edge in world.uses.get(start, ()) if edge.used != start)


def _below(world: World, start: Key) -> set[Key]:
    seen: set[Key] = set()
    waiting = [start]
    while waiting:
        for edge in world.uses.get(waiting.pop(), ()):
            if edge.used not in seen:
                seen.add(edge.used)
                waiting.append(edge.used)
    return seen


@given(WORLDS, RANDOMS)
@MANY
def test_no_prefix_of_any_plan_leaves_a_new_dangling_reference(world: World, random: Random) -> None:
    chosen = some_of(world, random)
    plan = make_plan(judge(world), chosen)
    before = world.dangling()
    at = world
    for item in plan.items:
        at = after(at, item.thing)
        assert at.dangling() <= before
    assert {item.key for item in plan.items} <= chosen


@given(WORLDS, RANDOMS)
@MANY
def test_undo_restores_the_graph(world: World, random: Random) -> None:
    chosen = some_of(world, random)
    plan = make_plan(judge(world), chosen)
    done = [item.thing for item in plan.items]
    moved = [thing for thing in done if thing.action is Action.TRASH]
    at = world
    for thing in done:
        at = after(at, thing)
    before = world.dangling()
    there = set(world.things) - {thing.key for thing in moved}
    when = {thing.key: number for number, thing in enumerate(moved)}
    for one in undo_order(at, list(when), lambda one: when.get(one, -1)):
        if one in there:
            continue  # lay in the trash before: brought along because it is needed
        at = back(at, one, world.things)
        assert at.dangling() <= before
    for thing in done:
        if thing.action is Action.STOP:
            at = back(at, thing.key, world.things)
    lost = {thing.key for thing in done if thing.action in (Action.FREE, Action.EMPTY)}
    assert at == replace(world, things={k: t for k, t in world.things.items() if k not in lost})


@given(WORLDS, RANDOMS)
@settings(MANY, max_examples=MANY.max_examples // 3)
def test_what_is_shared_counts_once_and_only_if_all_of_it_goes(world: World, random: Random) -> None:
    """Files with several names, each a thing's: a file's bytes come back with its last name."""
    keys = list(world.things)
    files = [frozenset(random.choices(keys, k=random.randint(1, 3))) for _ in range(random.randint(0, 4))]
    shares: dict[Key, tuple[Shared, ...]] = dict.fromkeys(keys, ())
    for number, those in enumerate(files):
        for one in those:
            name = frozenset([f"/{one}/{number}"])
            shares[one] += (Shared((1, number), name, len(those), 1000 if len(those) > 1 else 0),)
    things = {one: replace(thing, shares=shares[one]) for one, thing in world.things.items()}
    world = replace(world, things=things)
    plan = make_plan(judge(world), some_of(world, random))
    going = {item.key for item in plan.items if item.thing.action in (Action.TRASH, Action.EMPTY)}
    whole = sum(1000 for those in files if len(those) > 1 and those <= going)
    assert plan.frees == sum(world.things[one].frees for one in going) + whole


@given(WORLDS)
@MANY
def test_every_verdict_can_be_told(world: World) -> None:
    judgement = judge(world)
    assert set(judgement.verdicts) == set(world.things)
    for one, verdict in judgement.verdicts.items():
        assert reason(judgement, one)
        assert explain(judgement, one)
        if verdict.path:  # the chain is one of the graph's own, up to something that stands for itself
            steps = [one, *(user for user, _ in verdict.path)]
            for used, user in pairwise(steps):
                assert any(edge.used == used for edge in world.uses[user])


# -- by hand ---------------------------------------------------------------------------------------


def small(*edges: tuple[int, int], **roots: str) -> World:
    things = {
        key(n): Thing(key(n), f"t{n}", "dead-run", "it is dead", roots.get(f"r{n}", ""), ours=True, frees=10)
        for n in range(4)
    }
    return World(things, tuple(Edge(key(a), key(b), "backing file") for a, b in edges), total=100)


def planned(world: World, limits: Limits | None = None) -> list[str]:
    return [item.thing.name for item in make_plan(judge(world), everything(world), limits).items]


def test_users_go_before_what_they_use() -> None:
    assert planned(small((0, 1), (1, 2), (3, 2))) == ["t0", "t3", "t1", "t2"]


def test_one_live_user_at_the_far_end_keeps_the_whole_chain() -> None:
    world = small((0, 1), (1, 2), r0="its lease is alive")
    judgement = judge(world)
    assert planned(world) == ["t3"]
    verdict = judgement.verdicts[key(2)]
    assert verdict.fate is Fate.KEPT
    assert [user for user, _ in verdict.path] == [key(1), key(0)]
    assert verdict.why == "its lease is alive"


def test_what_stands_in_a_circle_or_below_one_is_left_alone() -> None:
    world = small((0, 1), (1, 0), (1, 2))
    assert planned(world) == ["t3"]
    assert judge(world).verdicts[key(0)].fate is Fate.UNPROVABLE


def test_a_chosen_base_stays_while_a_user_that_was_not_chosen_stays() -> None:
    plan = make_plan(judge(small((0, 1))), [key(1)])
    assert not plan.items
    assert plan.skipped[0][1] == "t0 needs it (backing file) and stays"


def test_a_base_may_follow_its_users_into_the_trash_but_is_not_deleted_before_them() -> None:
    world = small((0, 1))
    world = after(world, world.things[key(0)])
    assert "t1" in planned(world)
    for number in (0, 1):
        thing = replace(world.things[key(number)], trash=True, action=Action.EMPTY, rule="trash")
        world = replace(world, things={**world.things, key(number): thing})
    assert not make_plan(judge(world), [key(1)]).items
    assert [item.thing.name for item in make_plan(judge(world), [key(1), key(0)]).items] == ["t0", "t1"]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(3, 1.0), "4 things would go"),
        (Limits(100, 0.3, few=3), "40 % of the store"),
        (Limits(100, 0.3), ""),
        (Limits(4, 0.4, few=0), ""),
    ],
)
def test_a_plan_beyond_its_bounds_says_so(limits: Limits, says: str) -> None:
    over = make_plan(judge(small()), everything(small()), limits).over
    assert says in over
    assert bool(says) == bool(over)


def test_age_is_asked_for_and_an_unknown_age_counts_as_young() -> None:
    world = small()
    old = replace(world.things[key(0)], since=100.0)
    young = replace(world.things[key(1)], since=900.0)
    world = replace(world, things={**world.things, key(0): old, key(1): young})
    assert choose(judge(world), older_than=500, now=1000) == {key(0)}
