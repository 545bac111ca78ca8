"""``vmlab clean``: what is garbage, why that is certain, and its way into the trash."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs import removing
from vmlab_tui.verbs.clean_shapes import cleaner, plan_json, plan_lines, policy, results_outcome, total
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb

if TYPE_CHECKING:
    from vmlab_tui.lab.cleanup import Plan
    from vmlab_tui.lab.reach import Judgement
    from vmlab_tui.lab.sweep import Cleaner, Result


class Clean(Verb):
    """Find garbage, prove it, move it to the trash."""

    id = "clean"
    words = ("clean",)
    help = "Move what nothing needs any more to the trash, with proof"
    long_help = """\
Garbage is what a rule names (a VM of a dead run, an expired lease, a former build, ...) and what
nothing that stays needs: no definition, snapshot, saved memory, disk header, template, journal or open
file. What cannot be searched makes what it might use unprovable: shown, never touched. VMs past
their lease are stopped first, their memory saved; deleting them is left to the next clean-up.

Without a terminal and without --yes it only shows. Everything goes to the trash (vmlab undo brings it
back, running VMs running); vmlab trash empty frees the space.

Classes: dead-run, ended-run, expired, expired-off, no-domain, no-directory, empty-dir, libvirt, half-built,
former, image, template, run, diagnosis, adopted, stale.

Exit codes: 0 all was done, or there is nothing to do, or only shown; 1 something was skipped or failed;
3 more would go than the settings allow at once; 4 libvirt or the disk failed."""
    examples = (
        ("vmlab clean --dry-run", "what would go, and why that is safe"),
        ("vmlab clean --class former --class stale --yes", "only these classes, without being asked"),
        ("vmlab clean --older-than 7d --yes --json", "for a timer"),
        ("vmlab clean --explain web-7f3a", "why one thing may go, or must stay"),
    )
    areas = ("clean-up",)
    key = "C"
    label = "clean up"
    loses = True
    params = (
        Param("dry_run", "Only show what would be done.", kind=Kind.FLAG, short="n"),
        Param("class", "Only this class of garbage; repeat for more.", multiple=True, metavar="CLASS"),
        Param("older_than", "Only what has been garbage for so long.", kind=Kind.DURATION, metavar="TIME"),
        Param("only", "Only this thing (kind:name); repeat for more.", multiple=True, metavar="THING"),
        Param("explain", "Show the whole proof for one thing.", metavar="THING"),
        removing.NO_LIMIT,
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        if args.flag("dry_run") or args.optional("explain"):
            return Preview()
        async with cleaner(ctx, changes=True) as at_work:
            judgement, plan = await self._plan(at_work, args)
        self._refuse_over(plan, args)
        args.shown = plan
        if not plan.items:
            return Preview(())
        return Preview(
            (total(plan), *plan_lines(judgement, plan)), removing.steps(plan.items), removing.head(plan.items)
        )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        if ref := args.optional("explain"):
            return await self._explain(ctx, ref)
        dry = args.flag("dry_run") or not ctx.front.interactive
        async with cleaner(ctx, changes=not dry) as at_work:
            judgement, plan = await self._plan(at_work, args)
            data = plan_json(ctx, judgement, plan, dry_run=dry)
            if dry or not plan.items:
                return Outcome(data, self._shown(judgement, plan, dry=dry))
            self._refuse_over(plan, args)
            if args.shown is not None:
                plan = args.shown  # exactly what the person has seen; what has changed since is skipped
            done = 0

            def on_result(result: Result) -> None:
                nonlocal done
                done += 1
                ctx.front.status(f"{done} of {len(plan.items)}: {clean_line(result.thing.name, 60)}")

            results = await at_work.carry_out(plan, on_result)
        return results_outcome(data, results, verb="cleaned", then=removing.way_back(results))

    async def _plan(self, at_work: Cleaner, args: Args) -> tuple[Judgement, Plan]:
        from vmlab_tui.lab.asked import find
        from vmlab_tui.lab.cleanup import CLASSES, choose, make_plan

        for name in args.many("class"):
            if name not in CLASSES or name == "trash":
                known = ", ".join(one for one in CLASSES if one != "trash")
                raise UsageError(f"--class {clean_line(name, 40)}: there is no such class", hint=known)
        judgement = await at_work.look()
        keys = [find(judgement.world, ref).key for ref in args.many("only")] or None
        older = args.seconds("older_than") or 0.0
        chosen = choose(judgement, args.many("class"), keys, older, time.time())
        return judgement, make_plan(judgement, chosen, policy()[1])

    @staticmethod
    def _refuse_over(plan: Plan, args: Args) -> None:
        removing.refuse_over(plan, args, "look with --dry-run; then choose with --class, or say --no-limit")

    @staticmethod
    def _shown(judgement: Judgement, plan: Plan, *, dry: bool) -> tuple[str, ...]:
        lines = plan_lines(judgement, plan)
        lines += [f"not searched: {blind.what}: {blind.why}" for blind in judgement.world.blinds[:10]]
        if not plan.items:
            return (*lines, "nothing to clean up")
        lines.append(total(plan) + (f" (the store holds {size(judgement.world.total)})"))
        if plan.over:
            lines.append(f"more than the settings allow: {plan.over}")
        if dry:
            lines.append("nothing was changed; do it with: vmlab clean --yes")
        return tuple(lines)

    @staticmethod
    async def _explain(ctx: Context, ref: str) -> Outcome:
        from vmlab_tui.lab.asked import find
        from vmlab_tui.lab.proof import explain

        async with cleaner(ctx) as at_work:
            judgement = await at_work.look()
        thing = find(judgement.world, ref)
        lines = explain(judgement, thing.key)
        verdict = judgement.verdicts[thing.key]
        return Outcome(
            {
                "schema": 1,
                "key": ":".join(thing.key),
                "fate": verdict.fate.value,
                "why": verdict.why,
                "path": [{"user": ":".join(user), "how": how} for user, how in verdict.path],
                "proof": list(lines),
            },
            lines,
        )
