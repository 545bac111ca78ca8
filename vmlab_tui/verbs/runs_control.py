"""``vmlab runs wait``, ``resume`` and ``end``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.verbs.run import DETACH, ENV, ENV_FILE, JUNIT, check_junit
from vmlab_tui.verbs.runs_view import RUN
from vmlab_tui.verbs.secrets import refuse_values, secrets_again
from vmlab_tui.verbs.shapes import finished
from vmlab_tui.verbs.verb import Args, Context, Interrupt, Kind, Outcome, Param, Preview, Verb, blocking
from vmlab_tui.verbs.words import left, local, table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.runs.client import RunView


class RunsWait(Verb):
    """Follow a run until it has ended; the exit code is the run's."""

    id = "runs.wait"
    words = ("runs", "wait")
    help = "Follow a run to its end and exit as it did"
    long_help = "Ctrl-C stops the waiting, not the run."
    examples = (
        ("vmlab runs wait last", "follow the newest run"),
        ("vmlab runs wait last --json", "its journal as it is written, one JSON object a line"),
    )
    json = "journal"
    reports_run = True
    params = (RUN, JUNIT)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.runs import client

        junit = args.path("junit")
        check_junit(junit)
        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        return await finished(await ctx.front.follow(ctx.lab, view.run_id, Interrupt.LEAVE), junit)


class RunsResume(Verb):
    """Put a new worker on an interrupted run."""

    id = "runs.resume"
    words = ("runs", "resume")
    help = "Go on with an interrupted run where it stands"
    long_help = """\
A run is interrupted when its worker process died. Steps that had finished are not done again. The
step in flight is read back from the guest: a script runs on there by itself, and its output and
exit status are picked up.

Secrets are not stored anywhere, so a run that has some needs them again."""
    examples = (
        ("vmlab runs resume last", ""),
        ("vmlab runs resume last --env TOKEN", "a run with a secret"),
    )
    areas = ("runs",)
    key = "g"
    json = "journal"
    reports_run = True
    params = (RUN, DETACH, ENV, ENV_FILE, JUNIT)

    def applies(self, status: str) -> bool:
        return status == "interrupted"

    async def run(self, ctx: Context, args: Args) -> Outcome:
        refuse_values(args.many("env"))

        from vmlab_tui.runs import client, launch

        junit = args.path("junit")
        check_junit(junit)
        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        run_id = await launch.resume(ctx.lab, view.run_id, await secrets_again(view, args))
        if args.flag("detach"):
            return Outcome({"run": run_id}, (run_id, f"  vmlab runs wait {run_id}"))
        return await finished(await ctx.front.follow(ctx.lab, run_id, Interrupt.END), junit)


class RunsEnd(Verb):
    """End a run, or remove what an ended or interrupted one still owns."""

    id = "runs.end"
    words = ("runs", "end")
    help = "End a run and remove exactly what it made"
    long_help = """\
A run that is being worked on ends as its own table says (on_fail), unless --destroy or --keep says
otherwise. Of a run that has ended with its VM kept, or that is interrupted, everything it owns is
removed: domain, disk, seed, ports. The run's directory with its logs and reports stays.

--keep on a kept VM renews its time."""
    examples = (
        ("vmlab runs end last", "remove a kept VM, or end a run"),
        ("vmlab runs end last --keep", "keep its VM for another while"),
        ("vmlab runs end last --yes", "without being asked at the terminal"),
    )
    areas = ("runs",)
    key = "X"
    loses = True
    params = (
        RUN,
        Param("destroy", "Remove the VM, whatever the run's table says.", kind=Kind.FLAG),
        Param("keep", "Keep the VM.", kind=Kind.FLAG),
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        from vmlab_tui.runs import client

        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        how = self._how(args, at_work=view.at_work)
        if how == "keep" or (how == "table" and view.plan.on_fail != "destroy"):
            return Preview(
                (*self._ends(view), f"VM {view.plan.vm.name} will be kept; ending it again removes it")
            )
        async with ctx.host(readonly=True) as host:
            things = await client.owned(host, view)
        if not things:
            return Preview(("nothing of it exists any more",))
        loses = tuple(f"{thing.what} {thing.detail or thing.id}" for thing in things if thing.what != "file")
        return Preview((*self._ends(view), f"everything that run {view.run_id} made will be removed"), loses)

    @staticmethod
    def _ends(view: RunView) -> tuple[str, ...]:
        """That a run which goes on is stopped, and where."""
        if not view.at_work:
            return ()
        at = view.state.current
        where = f" at step {at.number:02}" if at else ""
        return (f"run {view.run_id} goes on and will be ended{where}",)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.leases import whoami
        from vmlab_tui.runs import client

        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        how = self._how(args, at_work=view.at_work)
        result = await client.end(ctx.lab, view.run_id, how, whoami())
        removed = [(thing.what, thing.id) for thing in result.removed]
        if result.asked:
            words = {"table": f"as it says itself: on_fail {view.plan.on_fail}", "keep": "and keep its VM"}
            ctx.front.say(f"asked run {view.run_id} to end, {words.get(how, 'and remove its VM')}")
            async for event in client.follow(ctx.lab, view.run_id, since=view.state.seq):
                if event.kind == "removed":
                    removed.append((str(event.data["what"]), str(event.data["id"])))
            view = await blocking(lambda: client.get_run(ctx.lab, view.run_id))
            ended = view.state.ended
            disposition = ended.disposition if ended else "unknown"
            until = ended.until if ended else None
            gone = disposition != "kept" and ended is not None
        else:
            until = result.kept_until
            gone = until is None
        data: JsonValue = {
            "schema": 1,
            "run": view.run_id,
            "asked": result.asked,
            "disposition": "kept" if until else "destroyed" if gone else "unknown",
            "until": until,
            "removed": [{"what": what, "id": name} for what, name in removed],
        }
        if until:
            lines = [f"VM {view.plan.vm.name} is kept until {local(until)} ({left(until)})"]
        elif not gone:
            lines = [f"run {view.run_id} has lost its worker", f"  vmlab runs end {view.run_id}"]
        elif removed:
            lines = [f"removed of run {view.run_id}:", *table(removed, indent="  ")]
        else:
            lines = [f"nothing of run {view.run_id} exists any more"]
        return Outcome(data, tuple(lines))

    @staticmethod
    def _how(args: Args, *, at_work: bool) -> str:
        if args.flag("destroy") and args.flag("keep"):
            raise UsageError("--destroy and --keep contradict each other", hint="drop one of them")
        if args.flag("destroy"):
            return "destroy"
        if args.flag("keep"):
            return "keep"
        return "table" if at_work else "destroy"
