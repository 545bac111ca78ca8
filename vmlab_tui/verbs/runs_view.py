"""``vmlab runs list`` and ``vmlab runs show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import duration, size
from vmlab_tui.verbs.shapes import (
    checkpoints_there,
    details,
    elapsed,
    film,
    next_commands,
    step_state,
    stopped_at,
    summary,
    verdict,
)
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.words import age, commands, cut, left, local, table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.journal.events import Checkpoint
    from vmlab_tui.runs.client import RunView

RUN = Param(
    "run",
    "A run: its id, the beginning of it, its VM's name, or 'last'.",
    positional=True,
    required=True,
    metavar="RUN",
    names="run",
)


class RunsList(Verb):
    """Every run of the store, newest first."""

    id = "runs.list"
    words = ("runs", "list")
    help = "List runs, newest first"
    long_help = """\
'interrupted' means that the run's worker died (a crash, a reboot): what the run made is still
there, and vmlab runs resume or vmlab runs end takes care of it."""
    examples = (
        ("vmlab runs list", "the newest 20"),
        ("vmlab runs list --all --json", "all of them, for a program"),
    )
    params = (Param("all", "Not only the newest 20.", kind=Kind.FLAG, short="a"),)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.runs import client

        views, problems = await blocking(lambda: client.list_runs(ctx.lab))
        shown = views if args.flag("all") else views[:20]
        data: JsonValue = {
            "schema": 1,
            "runs": [summary(view) for view in shown],
            "problems": [{"run": name, "problem": text} for name, text in problems.items()],
        }
        lines = [
            *table(
                (self._row(view) for view in shown), head=("run", "status", "at", "age", "took", "kept VM")
            )
        ]
        if len(views) > len(shown):
            lines.append(f"... and {len(views) - len(shown)} older ones (--all)")
        lines += [
            f"{clean_line(name, 60)}: cannot be read: {clean_line(text)}" for name, text in problems.items()
        ]
        if not lines:
            lines = ["no runs yet", "  vmlab run quickstart"]
        return Outcome(data, tuple(lines))

    @staticmethod
    def _row(view: RunView) -> tuple[str, ...]:
        at = stopped_at(view)
        ended = view.state.ended
        keep = left(view.state.until) if ended and ended.disposition == "kept" else "-"
        where = f"{at.number:02} {cut(at.name, 12)}" if at else "-"
        return (
            cut(view.run_id, 36),
            view.status,
            where,
            age(view.plan.created),
            duration(elapsed(view)),
            keep,
        )


class RunsShow(Verb):
    """One run with its steps, checks, and what exists of it."""

    id = "runs.show"
    words = ("runs", "show")
    help = "Show one run: steps, checks, what it owns, what to do next"
    examples = (
        ("vmlab runs show last", "the newest run"),
        ("vmlab runs show quick --json", "the one whose id begins with 'quick'"),
    )
    areas = ("runs",)
    key = "enter"
    params = (RUN,)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.runs import client
        from vmlab_tui.runs.start import told

        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        problem = ""
        owned: list[tuple[str, str]] = []
        try:
            async with ctx.host(readonly=True) as host:
                owned = [(thing.what, thing.id) for thing in await client.owned(host, view)]
        except LabError as error:  # a run can be read without libvirt
            problem = error.message
        lines = [*verdict(view), f"  {told(view.plan)}", ""]
        lines += table(
            (self._row(view, number) for number in range(1, len(view.plan.steps) + 1)), indent="  "
        )
        if view.state.checks:
            lines += ["", "checks"]
            lines += table(
                (
                    (check.state, clean_line(check.check, 40), clean_line(check.detail, 60))
                    for check in view.state.checks
                ),
                indent="  ",
            )
        if view.state.checkpoints:
            there = await blocking(lambda: checkpoints_there(view))
            lines += ["", f"checkpoints, {size(sum(one.size for one in there))} of memory in them"]
            lines += table(
                (self._checkpoint(view, one, there=one in there) for one in view.state.checkpoints),
                indent="  ",
            )
        if pictures := film(view):
            span = duration((pictures[-1].taken - pictures[0].taken).total_seconds())
            many = f"{len(pictures)} pictures" if len(pictures) > 1 else "1 picture"
            lines += ["", f"screen while it booted: {many} over {span} in screens/"]
        lines += [f"  {note.level}: {clean_line(note.text)}" for note in view.state.notes]
        if view.state.finished:
            lines.append(f"  ended {local(view.state.finished)}")
        if owned:
            lines += ["", "exists now", *table(self._things(owned), indent="  ")]
        elif problem:
            lines += ["", f"what exists of it is not known: {clean_line(problem)}"]
        lines += ["", *commands(next_commands(view)), f"  {view.folder}"]
        return Outcome({**details(view, owned), "owns_known": not problem}, tuple(lines))

    @staticmethod
    def _checkpoint(view: RunView, one: Checkpoint, *, there: bool) -> tuple[str, ...]:
        step = view.plan.step(one.after)
        about = "abandoned" if one.name in view.state.lost else "automatic" if one.why == "auto" else ""
        return (
            clean_line(one.name, 60),
            f"after {one.after:02} {cut(step.name, 28)}",
            size(one.size),
            f"took {duration(one.seconds)}",
            about if there else "deleted",
        )

    @staticmethod
    def _things(owned: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """What exists, the files only counted: they are in the VM's directory."""
        files = sum(what == "file" for what, _ in owned)
        inside = f" ({files} file{'s' * (files > 1)})" if files else ""
        return [(what, name + inside if what == "vm-dir" else name) for what, name in owned if what != "file"]

    @staticmethod
    def _row(view: RunView, number: int) -> tuple[str, ...]:
        from vmlab_tui.runs.compare import slow_step

        step, known = view.plan.step(number), view.state.steps.get(number)
        state = step_state(view, number)
        took = duration(known.seconds) if known and known.state not in ("running", "unknown") else ""
        told = clean(known.detail or known.stage).splitlines() if known else []
        mark = "FAIL" if state == "failed" else state
        again = f" (attempt {known.attempt})" if known and known.attempt > 1 else ""
        slow = ", slow" if slow_step(view, number) else ""
        return (
            mark,
            f"{number:02}",
            cut(step.name, 28) + again,
            took,
            f"~{duration(step.usual)}{slow}" if took and step.usual is not None else "",
            clean_line(told[0] if told else "", 90),  # whole, where it is the run that a step is reused from
        )
