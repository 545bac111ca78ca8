"""``vmlab rm``, ``undo`` and ``trash list|empty``."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs import removing
from vmlab_tui.verbs.clean_shapes import (
    cleaner,
    plan_json,
    plan_lines,
    results_outcome,
    thing_json,
    total,
)
from vmlab_tui.verbs.removing import NO_LIMIT, refuse_over, refuse_skipped, way_back
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb, blocking
from vmlab_tui.verbs.words import age, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import JsonValue

    from vmlab_tui.lab.cleanup import Plan
    from vmlab_tui.lab.reach import Thing, World
    from vmlab_tui.lab.sweep import Cleaner
    from vmlab_tui.lab.trash import Entry

_FEWER = "name entries, or an age with --older-than; or say --no-limit"
REMOVABLE = ("vm", "image", "file", "template", "run", "adopted", "staging", "libvirt", "diagnosis")


class Remove(Verb):
    """Move named things to the trash."""

    id = "rm"
    words = ("rm",)
    help = "Move VMs, images, runs or templates to the trash"
    long_help = """\
Your word overrides a lease and the keep rules, never a need: what a VM, a snapshot, a disk header or an
open file needs stays, and a run at work is ended first (vmlab runs end). A running VM is saved with its
memory, and vmlab undo brings it back running. Without a terminal and without --yes it only shows.

THING is a name, a uuid, a path, or kind:name where several are called the same."""
    examples = (
        ("vmlab rm web-7f3a", "a VM of ours with everything that is its own"),
        ("vmlab rm image:golden", "an image that nothing stands on"),
    )
    confirms = True
    params = (
        Param(
            "thing",
            "What to remove: name, uuid, path or kind:name.",
            positional=True,
            required=True,
            multiple=True,
            metavar="THING...",
        ),
        NO_LIMIT,
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        async with cleaner(ctx, changes=True) as at_work:
            asked = await self._ask(at_work, args)
        refuse_over(asked.plan, args)
        args.shown = asked.plan
        return removing.shown(asked.plan)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        dry = not ctx.front.interactive
        async with cleaner(ctx, changes=not dry) as at_work:
            asked = await self._ask(at_work, args)
        plan = asked.plan
        if dry:
            told = "nothing was changed; do it with --yes"
            over = (f"more than the settings allow: {plan.over}",) if plan.over else ()
            lines = (*plan_lines(asked.judgement, plan), total(plan), *over, told)
            return Outcome(plan_json(ctx, asked.judgement, plan, dry_run=True), lines)
        refuse_over(plan, args)
        results = await removing.carry_out(ctx, asked.adjust, args.shown or plan)
        data: dict[str, JsonValue] = {"schema": 1, "dry_run": False}
        return results_outcome(data, results, verb="removed", then=way_back(results))

    @staticmethod
    async def _ask(at_work: Cleaner, args: Args) -> removing.Asked:
        from vmlab_tui.lab.asked import find

        world = (await at_work.look()).world
        asked = removing.ask(world, [find(world, ref, REMOVABLE) for ref in args.many("thing")])
        refuse_skipped(asked)
        return asked


class TrashList(Verb):
    """What is in the trash."""

    id = "trash.list"
    words = ("trash", "list")
    help = "List what is in the trash, and what emptying it frees"
    examples = (("vmlab trash list", ""),)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.trash import list_entries

        entries, problems = await blocking(lambda: list_entries(ctx.lab.store))
        rows = [(entry.id, _kind(entry), _held(entry), f"{age(entry.when)} ago") for entry in entries]
        frees = sum(entry.size for entry in entries)
        lines = [*table(rows, head=("entry", "thing", "frees", "moved"))]
        lines += [
            f"warning: {clean_line(name, 60)}: {clean_line(why, 200)}" for name, why in problems.items()
        ]
        if entries:
            lines += [f"emptying it frees {size(frees)}: vmlab trash empty"]
        data: JsonValue = {
            "schema": 1,
            "trash": str(ctx.lab.store.trash),
            "frees": frees,
            "entries": [entry_json(entry) for entry in entries],
            "problems": [{"entry": name, "problem": why} for name, why in problems.items()],
        }
        return Outcome(data, tuple(lines) or ("the trash is empty",))


class TrashEmpty(Verb):
    """Delete what is in the trash."""

    id = "trash.empty"
    words = ("trash", "empty")
    help = "Delete what is in the trash for good"
    long_help = """\
Without ENTRY all of it, or with --older-than and --over what is older, or the oldest beyond a size. What
something in the lab or in the trash still stands on stays. There is no way back from here."""
    examples = (
        ("vmlab trash empty", "lists what is lost, and asks"),
        ("vmlab trash empty --older-than 7d --yes", "for a timer"),
    )
    areas = ("clean-up",)
    key = "E"
    label = "empty trash"
    loses = True
    params = (
        Param(
            "entry",
            "Entries of the trash, or names of things.",
            positional=True,
            multiple=True,
            metavar="[ENTRY...]",
        ),
        Param("older_than", "Only what was moved there so long ago.", kind=Kind.DURATION, metavar="TIME"),
        Param("over", "Only the oldest, until the rest takes no more than this.", metavar="SIZE"),
        Param("due", "Only what the settings call too old or too much.", kind=Kind.FLAG),
        NO_LIMIT,
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        async with cleaner(ctx, changes=True) as at_work:
            plan, _ = await self._plan(ctx, at_work, args)
        refuse_over(plan, args, _FEWER)
        args.shown = plan
        loses = tuple(f"{clean_line(item.thing.name, 80)} ({size(item.thing.frees)})" for item in plan.items)
        return Preview(
            (f"{len(plan.items)} things are deleted for good, {size(plan.frees)} come back",), loses
        )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        async with cleaner(ctx, changes=True) as at_work:
            plan, adjust = await self._plan(ctx, at_work, args)
        if not ctx.front.interactive and plan.items:
            raise Refused(
                f"{len(plan.items)} things would be deleted for good", hint="say --yes if that is meant"
            )
        refuse_over(plan, args, _FEWER)
        async with cleaner(ctx, adjust) as at_work:
            results = await at_work.carry_out(args.shown or plan)
        freed = sum(one.thing.frees for one in results if one.state == "done")
        skipped: list[JsonValue] = [{**thing_json(thing), "why": why} for thing, why in plan.skipped]
        outcome = results_outcome({"schema": 1, "freed": freed, "skipped": skipped}, results, verb="deleted")
        lines = [
            f"stays: {clean_line(thing.name, 80)}: {clean_line(why, 200)}" for thing, why in plan.skipped
        ]
        return Outcome(outcome.data, (*outcome.lines, *lines, f"{size(freed)} came back"), outcome.exit)

    @staticmethod
    async def _plan(ctx: Context, at_work: Cleaner, args: Args) -> tuple[Plan, Callable[[World], World]]:
        from vmlab_tui.lab.asked import ask_for, find
        from vmlab_tui.lab.claims import Policy, of_trash
        from vmlab_tui.lab.cleanup import make_plan
        from vmlab_tui.lab.reach import Action, judge
        from vmlab_tui.lab.trash import list_entries
        from vmlab_tui.verbs.clean_shapes import policy

        judgement = await at_work.look()
        world = judgement.world
        older, over = args.seconds("older_than"), _bytes(args.optional("over"))
        wanted: list[Thing]
        if args.many("entry"):
            wanted = [find(world, ref, ("trash",)) for ref in args.many("entry")]
        else:
            entries, _ = await blocking(lambda: list_entries(ctx.lab.store))
            rule = policy()[0] if args.flag("due") else None
            if older is not None or over is not None:
                never = float("inf")
                rule = Policy(
                    trash_older=never if older is None else older,
                    trash_size=1 << 62 if over is None else over,
                )
            keys = [entry.id for entry in entries]
            if rule:
                keys = list(of_trash(entries, rule, time.time()))
            wanted = [world.things[key] for ident in keys if (key := ("trash", ident)) in world.things]
        wanted = [replace(thing, yields=True) if not thing.root else thing for thing in wanted]
        adjust = ask_for(wanted, Action.EMPTY, "a person asked for it")
        return make_plan(judge(adjust(world)), [thing.key for thing in wanted], policy()[1]), adjust


class Undo(Verb):
    """Bring back what was moved to the trash."""

    id = "undo"
    words = ("undo",)
    help = "Bring back what the last clean-up or rm took, or what you name"
    long_help = """\
A VM that ran comes back running, where it stood; what it stands on comes back before it."""
    examples = (
        ("vmlab undo", "the last clean-up, all of it"),
        ("vmlab undo web-7f3a", "one thing; vmlab trash list shows what there is"),
    )
    areas = ("clean-up",)
    key = "u"
    label = "undo"
    params = (
        Param(
            "entry",
            "Entries of the trash, or names of things.",
            positional=True,
            multiple=True,
            metavar="[ENTRY...]",
        ),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.trash import list_entries

        begun: set[str] = set()
        async with cleaner(ctx, changes=True, recovered=begun) as at_work:
            entries, _ = await blocking(lambda: list_entries(ctx.lab.store))
            if args.many("entry"):
                wanted = [_entry(entries, ref) for ref in args.many("entry")]
            else:
                # what a crash has interrupted is gone on with, not something earlier begun
                last = begun or {entry.batch for entry in entries[-1:]}
                wanted = [entry.id for entry in entries if entry.batch in last]
            if not wanted:
                return Outcome({"schema": 1, "results": []}, ("there is nothing more to bring back",))
            results = await at_work.undo(
                wanted,
                lambda result: ctx.front.status(f"{clean_line(result.thing.name, 60)}: {result.state}"),
            )
        return results_outcome({"schema": 1}, results, verb="back")


def _entry(entries: list[Entry], ref: str) -> str:
    found = [entry for entry in entries if ref in (entry.id, entry.name, entry.key[-1])]
    if not found:
        from vmlab_tui.lab.asked import near

        raise UsageError(
            f"nothing in the trash is called '{clean_line(ref, 80)}'",
            hint=near(ref, [entry.name for entry in entries]) or "vmlab trash list",
        )
    return found[-1].id  # of several of that name the last one that was moved there


def _bytes(text: str | None) -> int | None:
    from vmlab_tui.base.units import parse_size

    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--over '{clean_line(text, 40)}': not {error}") from error


def _kind(entry: Entry) -> str:
    from vmlab_tui.lab.proof import KINDS

    return f"{KINDS.get(entry.key[0], entry.key[0])} {clean_line(entry.name, 60)}"


def _held(entry: Entry) -> str:
    if entry.stopped:
        return "stopped only"
    memory = " +memory" if entry.domain and (entry.domain.power != "off" or entry.domain.saved) else ""
    return size(entry.size) + memory


def entry_json(entry: Entry) -> dict[str, JsonValue]:
    """An entry of the trash for programs; ``size`` in bytes."""
    return {
        "entry": entry.id,
        "batch": entry.batch,
        "key": ":".join(entry.key),
        "name": entry.name,
        "why": entry.why,
        "by": entry.by,
        "when": entry.when,
        "state": entry.state,
        "size": entry.size,
        "stopped": entry.stopped,
        "power": entry.domain.power if entry.domain else None,
        "moves": [{"from": move.src, "to": move.dst} for move in entry.moves],
    }
