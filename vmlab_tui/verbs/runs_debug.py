"""``vmlab runs pause|continue|retry|back|edit|skip|keep``: what to do about a run that stands still."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs.editor import edit
from vmlab_tui.verbs.runs_view import RUN
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb, blocking
from vmlab_tui.verbs.words import left, local

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.plan import PlannedStep

SCRIPT = Param(
    "script",
    "The step's text from now on, from a file; - is standard input.",
    kind=Kind.PATH,
    metavar="FILE",
)
_DIFF = 30
"""Lines of a difference that a question shows."""
_WAIT = 30.0
"""Seconds within which a worker takes an answer up."""


class _OfRun(Verb):
    """A verb about one run that has a worker."""

    areas = ("runs",)
    params: ClassVar[tuple[Param, ...]] = (RUN,)
    when: ClassVar[tuple[str, ...]] = ("paused",)
    """The states of a run in which it makes sense."""
    done: ClassVar[str] = ""
    """What has been begun, in words that a step's name can follow."""

    def applies(self, status: str) -> bool:
        return status in self.when

    async def view(self, ctx: Context, args: Args) -> RunView:
        from vmlab_tui.runs import client

        return await blocking(lambda: client.get_run(ctx.lab, args.text("run")))

    async def decide(self, ctx: Context, args: Args, view: RunView, do: str, **more: str) -> Outcome:
        """Have the worker do it; returns when the run has moved on. Raises Refused when it has before."""
        from vmlab_tui.lab.leases import whoami
        from vmlab_tui.runs import client
        from vmlab_tui.runs.asking import ask

        refuse_unless_paused(view)
        seen = args.seen.get(view.run_id, view.state.seq)
        request: dict[str, object] = {"verb": "decide", "by": whoami(), "seq": seen, "do": do, **more}
        await ask(view.folder, timeout=_WAIT, **request)
        async for event in client.follow(ctx.lab, view.run_id, since=view.state.seq):
            if event.kind not in ("step_amended", "continued"):
                break
        at = view.plan.step(view.state.pause_at) if view.state.pause_at else None
        data: JsonValue = {"schema": 1, "run": view.run_id, "did": do}
        where = f" {at.number:02} '{clean_line(at.name, 60)}'" if at else ""
        return Outcome(data, (f"run {view.run_id}: {self.done}{where}", f"  vmlab runs wait {view.run_id}"))


def refuse_unless_paused(view: RunView) -> None:
    """Raises Refused with what can be done instead when the run does not stand still."""
    if view.live and view.state.state == "paused":
        return
    if view.state.over:
        hint = f"an ended run stays as it is; anew: vmlab run {shlex.quote(str(view.plan.profile_file))}"
        if view.state.ended and view.state.ended.disposition == "kept":
            hint += (
                "\nthat begins on a copy of its VM, at the newest checkpoint that the profile still fits"
                f"\nwhere it failed: vmlab ssh {view.run_id} --here"
            )
    elif view.live:
        hint = f"vmlab runs pause {view.run_id}"
    else:
        hint = f"vmlab runs resume {view.run_id}"
    raise Refused(f"run {view.run_id} is {view.status}, not paused", hint=hint)


def paused_step(view: RunView) -> PlannedStep:
    """The step at which a run stands still. Raises Refused when it does not."""
    refuse_unless_paused(view)
    number = view.state.pause_at
    if number is None:
        raise Refused(f"run {view.run_id} was paused by an older vmlab", hint="continue or end it with that")
    return view.plan.step(number)


class RunsPause(_OfRun):
    id = "runs.pause"
    words = ("runs", "pause")
    help = "Let a run stand still before its next step, and ask"
    long_help = """\
The step that is at work is done to its end first. While the run stands still its VM goes on: look into
it with vmlab ssh. The time limit of the whole run does not count meanwhile."""
    examples = (("vmlab runs pause last", "then: vmlab runs continue last"),)
    key = "p"
    when = ("running", "starting")

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.leases import whoami
        from vmlab_tui.runs.asking import ask

        view = await self.view(ctx, args)
        if not view.at_work:
            raise Refused(f"run {view.run_id} is {view.status}: nothing of it is at work")
        if view.state.state == "paused":
            raise Refused(f"run {view.run_id} is paused already", hint=f"vmlab runs continue {view.run_id}")
        await ask(view.folder, verb="pause", by=whoami(), seq=view.state.seq)
        data: JsonValue = {"schema": 1, "run": view.run_id}
        return Outcome(data, (f"run {view.run_id} will stand still before its next step",))


class RunsContinue(_OfRun):
    id = "runs.continue"
    words = ("runs", "continue")
    help = "Let a run that was paused at a break go on"
    examples = (("vmlab runs continue last", ""),)
    key = "p"
    done = "goes on at step"

    async def run(self, ctx: Context, args: Args) -> Outcome:
        return await self.decide(ctx, args, await self.view(ctx, args), do="continue")


class RunsRetry(_OfRun):
    id = "runs.retry"
    words = ("runs", "retry")
    help = "Try the step at which a run stands still once more, in place"
    long_help = """\
The guest stays as it is, with what the failed attempt has left in it. To have the step begin in the state
that it began in before, go back: vmlab runs back."""
    examples = (
        ("vmlab runs retry last", ""),
        ("vmlab runs retry last --script ./fixed.sh", "with another text"),
    )
    key = "r"
    params = (RUN, SCRIPT)
    done = "a new attempt at step"

    async def run(self, ctx: Context, args: Args) -> Outcome:
        view = await self.view(ctx, args)
        return await self.decide(ctx, args, view, do="retry", **await script_of(args, view))


class RunsBack(_OfRun):
    id = "runs.back"
    words = ("runs", "back")
    help = "Go back to a checkpoint before the step, and run on from there"
    long_help = """\
Without --to it is the newest checkpoint before the step at which the run stands still. What the guest did
since then is abandoned: its attempts stay in the journal with their logs, and the VM's present is kept in
a safety snapshot. Steps between the checkpoint and this one are done again. --to also takes a checkpoint
of a future that was abandoned: the run goes on from there as if nobody had left it."""
    examples = (
        ("vmlab runs back last", "the newest checkpoint before the failed step"),
        ("vmlab runs back last --to clean-boot", "to the very beginning"),
        ("vmlab runs back last --script ./fixed.sh", "and the step with another text"),
    )
    key = "b"
    confirms = True
    params = (
        RUN,
        Param("to", "A checkpoint (vmlab runs show lists them).", metavar="NAME", names="checkpoint"),
        SCRIPT,
    )
    done = "went back, on its way to step"

    async def preview(self, ctx: Context, args: Args) -> Preview:
        view = await self.view(ctx, args)
        step = paused_step(view)
        args.seen[view.run_id] = view.state.seq
        name = args.optional("to") or ""
        goal = view.state.way_back(name, step.number)
        if goal is None:
            return Preview((f"there is no such checkpoint before step {step.number:02}",))
        if goal.name in view.state.lost:
            where = f"VM {view.plan.vm.name} goes back into an abandoned future, to '{goal.name}'"
            return Preview((where, f"on from after step {goal.after:02}; its present is kept"))
        again = [view.plan.step(n) for n in range(goal.after + 1, step.number + 1)]
        names = ", ".join(f"{one.number:02} {clean_line(one.name, 30)}" for one in again)
        return Preview(
            (
                f"VM {view.plan.vm.name} goes back to checkpoint '{goal.name}', after step {goal.after:02}",
                f"done again: {names}",
                "its present is kept in a safety snapshot",
            )
        )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        view = await self.view(ctx, args)
        more = await script_of(args, view)
        return await self.decide(ctx, args, view, do="back", to=args.optional("to") or "", **more)


class RunsSkip(_OfRun):
    id = "runs.skip"
    words = ("runs", "skip")
    help = "Leave out the step at which a run stands still, and go on"
    long_help = "The report says that it was skipped. Steps before the profile's own cannot be skipped."
    examples = (("vmlab runs skip last", ""),)
    key = "j"
    confirms = True
    done = "skipped step"

    async def preview(self, ctx: Context, args: Args) -> Preview:
        view = await self.view(ctx, args)
        step = paused_step(view)
        args.seen[view.run_id] = view.state.seq
        return Preview((f"step {step.number:02} '{clean_line(step.name, 60)}' will be left out",))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        return await self.decide(ctx, args, await self.view(ctx, args), do="skip")


class RunsKeep(_OfRun):
    id = "runs.keep"
    words = ("runs", "keep")
    help = "End a run that stands still and keep its VM"
    examples = (("vmlab runs keep last", "its time is the profile's ttl"),)
    key = "k"

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.leases import whoami
        from vmlab_tui.runs import client

        view = await self.view(ctx, args)
        refuse_unless_paused(view)
        await client.end(ctx.lab, view.run_id, "keep", whoami())
        async for _ in client.follow(ctx.lab, view.run_id, since=view.state.seq):
            pass
        view = await blocking(lambda: client.get_run(ctx.lab, view.run_id))
        until = view.state.ended.until if view.state.ended else None
        data: JsonValue = {"schema": 1, "run": view.run_id, "until": until}
        told = f"kept until {local(until)} ({left(until)})" if until else "not kept"
        return Outcome(data, (f"VM {view.plan.vm.name} is {told}",))


class RunsEdit(_OfRun):
    id = "runs.edit"
    words = ("runs", "edit")
    help = "Edit the script of the step a run stands still at, and try it again"
    asks_itself = True
    long_help = """\
Opens the step's script in $VISUAL or $EDITOR and shows what you changed. Then the step is tried again with
it: in place, or with --back from the checkpoint before it. With --save, or if you say so when asked, the
profile (or the script's own file) gets the new text as well; comments and layout of the YAML stay.

Nothing happens when the editor fails or the text stays the same. --yes says yes to both questions."""
    examples = (
        ("vmlab runs edit last", "edit, retry in place"),
        ("vmlab runs edit last --back --save", "from the checkpoint before it, and keep the text"),
    )
    key = "e"
    params = (
        RUN,
        Param("back", "Go back to the checkpoint before the step first.", kind=Kind.FLAG),
        Param("save", "Write the text back into the profile.", kind=Kind.FLAG),
    )
    done = "a new attempt with the edited text at step"

    async def run(self, ctx: Context, args: Args) -> Outcome:
        view = await self.view(ctx, args)
        step = paused_step(view)
        old = await blocking(lambda: script_text(view, step))
        new = await edit(ctx, old, f"{step.slug}.sh")
        if new == old:
            return Outcome(
                {"schema": 1, "run": view.run_id, "did": "nothing"}, ("the text is as it was: nothing done",)
            )
        told = f"{step.number:02} '{clean_line(step.name, 60)}'"
        lines = difference(old, new)
        shown = "\n".join([*lines[:_DIFF], *(["..."] if lines[_DIFF:] else [])])
        if not await ctx.front.confirm(f"{shown}\nTry step {told} again with this text?"):
            return Outcome({"schema": 1, "run": view.run_id, "did": "nothing"}, ("nothing done",))
        sha = await blocking(lambda: put_script(view, step, new))
        did = await self.decide(ctx, args, view, do="back" if args.flag("back") else "retry", sha=sha)
        saved: tuple[str, ...] = ()
        if args.flag("save") or await ctx.front.confirm("Write the new text back into the profile as well?"):
            saved = (f"saved in {await blocking(lambda: save_script(view, step, old, new))}",)
        return Outcome(did.data, (*did.lines[:1], *saved, *did.lines[1:]))


def script_text(view: RunView, step: PlannedStep) -> str:
    """The text that the step has now. Raises Refused for a step without a script."""
    from vmlab_tui.runs.steps import text_of
    from vmlab_tui.spec.model import RunStep

    what = view.plan.profile.steps[step.index] if step.index is not None else None
    if not isinstance(what, RunStep):
        raise Refused(
            f"step {step.number:02} '{clean_line(step.name, 60)}' has no script",
            hint="only scripts are edited",
        )
    return text_of(view.folder, view.state, step, what)


def put_script(view: RunView, step: PlannedStep, text: str) -> str:
    """Lay the step's next text where the worker looks for it; returns its digest. Raises UsageError."""
    from vmlab_tui.base.paths import write_durably
    from vmlab_tui.runs.keys import digest
    from vmlab_tui.runs.pauses import next_attempt
    from vmlab_tui.spec.profile import MAX_SCRIPT

    if not text.strip() or "\0" in text or len(text.encode()) > MAX_SCRIPT:
        raise UsageError(
            f"step {step.number:02}: the text is empty, binary, or longer than {size(MAX_SCRIPT)}",
            hint="nothing was done; the step's old text stays",
        )
    path = view.folder / "steps" / step.script_name(next_attempt(view.state, step))
    write_durably(path, text)
    return digest(text)


async def script_of(args: Args, view: RunView) -> dict[str, str]:
    """The part of a decision that --script makes."""
    path = args.path("script")
    if path is None:
        return {}
    step = paused_step(view)

    def read() -> str:
        import sys

        if str(path) == "-":
            return sys.stdin.read()
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--script {path}: {error}", hint="name a readable text file") from error

    await blocking(lambda: script_text(view, step))
    text = await blocking(read)
    return {"sha": await blocking(lambda: put_script(view, step, text))}


def difference(old: str, new: str) -> list[str]:
    """What changed, as a unified diff without its head."""
    return [
        clean_line(line, 400)
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
        if not line.startswith(("---", "+++"))
    ]


def save_script(view: RunView, step: PlannedStep, old: str, new: str) -> Path:
    """Write the text into the script's own file, or the profile's YAML; returns the file.

    Raises LabError when that has changed since the run was planned: nothing is overwritten then.
    """
    from vmlab_tui.base.paths import write_durably
    from vmlab_tui.spec.model import RunStep
    from vmlab_tui.spec.writeback import replace_script

    assert step.index is not None
    what = view.plan.profile.steps[step.index]
    assert isinstance(what, RunStep)
    path = what.script_file or view.plan.profile_file
    try:
        present = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}", hint=_kept(view)) from error
    if what.script_file:
        if present != what.script and present != old:
            raise LabError(f"{path} has changed since the run began: not overwritten", hint=_kept(view))
        text = new
    else:
        text = replace_script(present, step.index, new, expect=(what.script, old))
    write_durably(path, text, mode=mode)
    return path


def _kept(view: RunView) -> str:
    return f"the new text is in {view.folder / 'steps'}"
