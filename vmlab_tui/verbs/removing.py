"""What a person names goes to the trash, by the same proof whatever verb they say it with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Refused
from vmlab_tui.base.text import clean_line
from vmlab_tui.verbs.clean_shapes import cleaner, policy
from vmlab_tui.verbs.verb import Args, Context, Kind, Param, Preview

if TYPE_CHECKING:
    from vmlab_tui.lab.cleanup import Item, Plan
    from vmlab_tui.lab.graph import Key
    from vmlab_tui.lab.reach import Judgement, Thing, World
    from vmlab_tui.lab.sweep import Result

BACK = "vmlab undo brings it back"
NO_LIMIT = Param("no_limit", "Take more at once than the settings allow.", kind=Kind.FLAG)


@dataclass(frozen=True)
class Asked:
    """What a person's word comes to: the plan, and what makes it so in every later look."""

    judgement: Judgement
    plan: Plan
    adjust: Callable[[World], World]


def ask(world: World, things: Iterable[Thing], why: str = "a person asked for it") -> Asked:
    """The plan to move these to the trash; what is needed is in ``plan.skipped``.

    Raises Refused for what is not ours, or lives for a reason that no wish changes.
    """
    from vmlab_tui.lab.asked import ask_for
    from vmlab_tui.lab.cleanup import make_plan
    from vmlab_tui.lab.reach import Action, judge

    wanted = list(things)
    adjust = ask_for(wanted, Action.TRASH, why)
    judgement = judge(adjust(world))
    return Asked(judgement, make_plan(judgement, [thing.key for thing in wanted], policy()[1]), adjust)


def stays(world: World, thing: Thing, why: str) -> Refused:
    """The refusal for one thing that something needs."""
    from vmlab_tui.lab.proof import title

    vms = [clean_line(name, 60) for name in _vms_on(world, thing.key)]
    more = f" and {len(vms) - 10} more" if len(vms) > 10 else ""
    standing = f" (VMs that stand on it: {', '.join(vms[:10])}{more})" if vms else ""
    return Refused(
        f"{title(thing)} stays: {why}{standing}",
        hint=f"vmlab clean --explain {thing.key[0]}:{clean_line(thing.name, 80)}",
    )


def _vms_on(world: World, key: Key) -> list[str]:
    """The names of the VMs outside the trash that need a thing, however indirectly."""
    seen, waiting = {key}, [key]
    while waiting:
        for edge in world.used_by.get(waiting.pop(), ()):
            if edge.user not in seen and edge.user in world.things and not world.things[edge.user].trash:
                seen.add(edge.user)
                waiting.append(edge.user)
    return sorted(world.things[one].name for one in seen - {key} if one[0] == "vm")


def refuse_skipped(asked: Asked) -> None:
    """Raises Refused for the first thing that cannot go."""
    for thing, why in asked.plan.skipped:
        raise stays(asked.judgement.world, thing, why)


def refuse_over(plan: Plan, args: Args, hint: str = "name fewer, or say --no-limit") -> None:
    """Raises Refused for more than the settings allow at once."""
    if plan.over and not args.flag("no_limit"):
        raise Refused(plan.over, hint=hint)


def shown(plan: Plan) -> Preview:
    """What a person is asked about."""
    from vmlab_tui.lab.proof import title

    lines = tuple(f"{title(item.thing)} goes to the trash" for item in plan.items)
    return Preview(lines, steps(plan.items), head(plan.items))


def steps(items: Iterable[Item]) -> tuple[str, ...]:
    """Everything that is done, in order."""
    from vmlab_tui.lab.proof import operations

    return tuple(clean_line(line, 200) for item in items for line in operations(item.thing))


def head(items: Iterable[Item]) -> str:
    """What stands above the steps: whether there is a way back."""
    from vmlab_tui.lab.reach import Action

    free = [item.thing.action is Action.FREE for item in items]
    if free and all(free):
        return "In this order; these hold nothing to bring back:"
    if any(free):
        return f"In this order; {BACK}, but for what is given up, which holds nothing to bring back:"
    return f"In this order; {BACK}:"


def way_back(results: Iterable[Result]) -> str:
    """What to say after it was done; empty where nothing lies in the trash."""
    return BACK if any(one.entry and one.state == "done" for one in results) else ""


async def carry_out(ctx: Context, adjust: Callable[[World], World], plan: Plan) -> list[Result]:
    """Do what the plan says, each thing looked at again first."""
    async with cleaner(ctx, adjust) as at_work:
        return await at_work.carry_out(plan)
