"""Clean-ups as programs and as people read them; shared by the verbs about them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Exit, Refused
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size, span
from vmlab_tui.verbs.verb import Context, Outcome, blocking
from vmlab_tui.verbs.words import table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.lab.claims import Policy
    from vmlab_tui.lab.cleanup import Limits, Plan
    from vmlab_tui.lab.reach import Judgement, Thing, World
    from vmlab_tui.lab.sweep import Cleaner, Result


def policy() -> tuple[Policy, Limits]:
    """What the person's settings call garbage, and how much of it one clean-up may take."""
    from vmlab_tui.lab.claims import ImageRule, Policy
    from vmlab_tui.lab.cleanup import Limits
    from vmlab_tui.spec.settings import load_settings

    settings = load_settings()
    rules = settings.clean
    return Policy(
        watch=tuple(Path(folder).expanduser() for folder in rules.watch),
        hosts=rules.hosts,
        images=tuple(ImageRule(one.prefix, one.keep, one.older) for one in rules.images),
        templates=settings.budget,
        runs_keep=rules.runs_keep,
        runs_older=rules.runs_older,
        trash_older=rules.trash_older,
        trash_size=rules.trash_size,
    ), Limits(rules.items, rules.share / 100)


@asynccontextmanager
async def cleaner(
    ctx: Context,
    adjust: Callable[[World], World] | None = None,
    *,
    changes: bool = False,
    recovered: set[str] | None = None,
    beside: Iterable[Path] = (),
) -> AsyncIterator[Cleaner]:
    """What looks, and cleans; with ``changes`` it first finishes what a crash has left.

    ``recovered`` gets the batches of what was half-done. ``beside``: more folders to look right into.
    """
    from vmlab_tui.lab.leases import whoami
    from vmlab_tui.lab.scan import Scanner
    from vmlab_tui.lab.sweep import Cleaner

    if not await blocking(ctx.lab.store.root.is_dir):
        raise Refused(f"there is no store {ctx.lab.store.root}", hint="vmlab run quickstart makes it")
    async with ctx.host() as host:
        found = Cleaner(
            Scanner(ctx.lab, policy()[0], beside), host, whoami(), adjust or (lambda world: world)
        )
        if changes:
            for one in await found.recover():
                ctx.front.say(one.text)
                if recovered is not None and one.batch:
                    recovered.add(one.batch)
        yield found


def thing_json(thing: Thing) -> dict[str, JsonValue]:
    """A thing for programs; ``frees`` in bytes, ``since`` in seconds since 1970."""
    return {
        "key": ":".join(thing.key),
        "kind": thing.key[0],
        "name": thing.name,
        "class": thing.rule or None,
        "action": thing.action.value,
        "frees": thing.frees,
        "since": thing.since,
        "paths": list(thing.paths),
    }


def plan_json(ctx: Context, judgement: Judgement, plan: Plan, *, dry_run: bool) -> dict[str, JsonValue]:
    """A plan with its proofs, and what is shown but never touched."""
    from vmlab_tui.lab.proof import explain, operations, reason
    from vmlab_tui.lab.reach import Fate

    items: list[JsonValue] = [
        {
            **thing_json(item.thing),
            "why": reason(judgement, item.key),
            "proof": list(explain(judgement, item.key)),
            "operations": list(operations(item.thing)),
        }
        for item in plan.items
        if item.key in judgement.verdicts
    ]
    unprovable: list[JsonValue] = [
        {**thing_json(judgement.world.things[key]), "why": reason(judgement, key)}
        for key, verdict in judgement.verdicts.items()
        if verdict.fate is Fate.UNPROVABLE
    ]
    return {
        "schema": 1,
        "uri": ctx.lab.uri,
        "store": str(ctx.lab.store.root),
        "dry_run": dry_run,
        "items": items,
        "skipped": [{**thing_json(thing), "why": why} for thing, why in plan.skipped],
        "unprovable": unprovable,
        "frees": plan.frees,
        "over": plan.over or None,
        "searched": list(judgement.world.searched),
        "not_searched": [{"what": blind.what, "why": blind.why} for blind in judgement.world.blinds],
    }


def plan_lines(judgement: Judgement, plan: Plan) -> list[str]:
    """A plan for people: what goes and why; what is not touched because nobody knows; the total."""
    from vmlab_tui.lab.proof import reason, title
    from vmlab_tui.lab.reach import Action, Fate

    rows = [
        (
            item.thing.rule,
            title(item.thing),
            {Action.STOP: "stop", Action.FREE: "-"}.get(item.thing.action) or size(item.thing.frees),
            old(item.thing),
        )
        for item in plan.items
    ]
    lines: list[str] = []
    for line, item in zip(table(rows), plan.items, strict=True):
        lines += [line, f"    {reason(judgement, item.key)}"]
    unknown = [key for key, verdict in judgement.verdicts.items() if verdict.fate is Fate.UNPROVABLE]
    for key in unknown[:10]:
        lines.append(f"not touched: {title(judgement.world.things[key])}: {reason(judgement, key)}")
    if len(unknown) > 10:
        lines.append(f"not touched: {len(unknown) - 10} more that cannot be proved (--json lists them)")
    lines += [f"stays: {title(thing)}: {why}" for thing, why in plan.skipped]
    return lines


def old(thing: Thing) -> str:
    return span(time.time() - thing.since) if thing.since is not None else "-"


def total(plan: Plan) -> str:
    """``3 things; 1.2G come back once the trash is emptied``."""
    from vmlab_tui.lab.reach import Action

    count = len(plan.items)
    many = f"{count} thing{'s' if count != 1 else ''}"
    if any(item.thing.action is Action.EMPTY for item in plan.items):
        return f"{many}; {size(plan.frees)} come back"
    return f"{many}; {size(plan.frees)} come back once the trash is emptied"


def results_outcome(
    data: dict[str, JsonValue], results: Sequence[Result], *, verb: str, then: str = ""
) -> Outcome:
    """What a clean-up or an undo came to: 0 if all was done, 1 if something was skipped or failed."""
    from vmlab_tui.lab.proof import bare_title

    words = {"done": verb, "skipped": "skipped", "failed": "failed", "back": "put back"}
    lines = [
        f"{words[one.state]}: {bare_title(one.thing)}" + (f": {clean_line(one.why, 300)}" if one.why else "")
        for one in results
    ]
    data["results"] = [
        {**thing_json(one.thing), "state": one.state, "why": one.why or None, "entry": one.entry or None}
        for one in results
    ]
    if then and any(one.state == "done" for one in results):
        lines.append(f"  {then}")
    bad = any(one.state != "done" for one in results)
    return Outcome(data, tuple(lines), int(Exit.FAILED if bad else Exit.PASSED))
