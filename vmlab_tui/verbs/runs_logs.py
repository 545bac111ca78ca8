"""``vmlab runs logs``: what a step printed, the console, cloud-init's log."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.text import Cleaner, clean
from vmlab_tui.verbs.runs_view import RUN
from vmlab_tui.verbs.shapes import log_of, stopped_at
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb, blocking

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.lab.context import Lab
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.plan import PlannedStep

FILES = {
    "console": "console.log",
    "cloud-init": "cloud-init.log",
    "worker": "worker.log",
    "report": "report.md",
    "commands": "commands.log",
}
_POLL = 0.2
_CHUNK = 1 << 20


class RunsLogs(Verb):
    """Print a log of a run, or follow it."""

    id = "runs.logs"
    words = ("runs", "logs")
    help = "Print what a step printed, the console or cloud-init's log"
    long_help = """\
Without STEP: the output of the step that failed; else of the one that is running; else of every
step.

STEP is a step's number or name (vmlab runs show RUN lists them), or one of: console, cloud-init,
worker, report, commands (what the run did to libvirt and files, as virsh and qemu-img commands).

-f goes on until the run has ended, from step to step."""
    examples = (
        ("vmlab runs logs last", "why it failed"),
        ("vmlab runs logs last -f", "watch a run's output"),
        ("vmlab runs logs last 'web server'", "one step by its name"),
        ("vmlab runs logs last console", "the VM's serial console"),
        ("vmlab runs logs last commands", "the commands really run"),
    )
    areas = ("runs",)
    key = "l"
    params = (
        RUN,
        Param(
            "step",
            "A step's number or name, or console, cloud-init, worker, report, commands.",
            positional=True,
            metavar="[STEP]",
        ),
        Param("follow", "Go on until the run has ended.", kind=Kind.FLAG, short="f"),
        Param("attempt", "Another attempt of the step than the last.", metavar="N"),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.runs import client

        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        attempt = attempt_number(args.optional("attempt"))
        if args.flag("follow"):
            return await self._follow(ctx, view, args.optional("step"), attempt)
        files = await blocking(lambda: choose(view, args.optional("step"), attempt))
        if ctx.wants_data:
            logs: list[JsonValue] = [
                {"title": title, "file": str(path), "text": await _whole(path)} for title, path in files
            ]
            return Outcome({"schema": 1, "run": view.run_id, "logs": logs})
        for title, path in files:
            if len(files) > 1:
                ctx.front.write(f"== {title}\n")
            await self._print(ctx, path)
        return Outcome()

    @staticmethod
    async def _print(ctx: Context, path: Path) -> None:
        tail = tail_of(path, sgr=ctx.front.colour)
        while text := await blocking(tail.read):
            ctx.front.write(text)
        ctx.front.write(tail.finish())

    async def _follow(self, ctx: Context, view: RunView, step: str | None, attempt: int | None) -> Outcome:
        if ctx.wants_data:
            raise UsageError(
                "-f and --json do not go together", hint="vmlab runs wait RUN --json has the journal"
            )
        if step is not None:
            (_, path), *_ = await blocking(lambda: choose(view, step, attempt, missing_ok=True))
            await self._follow_file(ctx, view.run_id, path)
            return Outcome()
        await self._follow_steps(ctx, view)
        return Outcome()

    @staticmethod
    async def _follow_file(ctx: Context, run_id: str, path: Path) -> None:
        import asyncio

        tail = tail_of(path, sgr=ctx.front.colour)
        while True:
            live = await blocking(lambda: _live(ctx.lab, run_id))
            while text := await blocking(tail.read):
                ctx.front.write(text)
            if not live:
                ctx.front.write(tail.finish())
                return
            await asyncio.sleep(_POLL)

    @staticmethod
    async def _follow_steps(ctx: Context, view: RunView) -> None:
        """Every step's output in turn, from the one in flight on (or from the first, once it is over)."""
        import asyncio

        from vmlab_tui.runs import client

        at = stopped_at(view)
        number, tail = (at.number if at else 1), None
        title = ""
        while True:
            view = await blocking(partial(client.get_run, ctx.lab, view.run_id))
            begun = max(view.state.steps, default=0)
            while number <= begun:
                step = view.plan.step(number)
                if tail is None:
                    tail, title = (
                        Tail(log_of(view, step), sgr=ctx.front.colour),
                        f"== {number:02} {step.name}\n",
                    )
                while text := await blocking(tail.read):
                    ctx.front.write(title + text)
                    title = ""
                if number == begun and view.live:
                    break
                ctx.front.write(tail.finish())
                tail, number = None, number + 1
            if not view.live:
                return
            await asyncio.sleep(_POLL)


class Tail:
    """Reads a log as it grows, cleaned. A missing file counts as empty."""

    def __init__(self, path: Path, *, sgr: bool = False) -> None:
        self._path = path
        self._offset = 0
        self._cleaner = Cleaner(sgr=sgr)

    def read(self) -> str:
        """What was added, at most a mebibyte at a time; empty when there is nothing new."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_CHUNK)
        except FileNotFoundError:
            return ""
        self._offset += len(data)
        text = self._cleaner.feed(data)
        return text if text or not data else self.read()

    def finish(self) -> str:
        """What the cleaner still held back."""
        return self._cleaner.finish()


class CommandTail(Tail):
    """The same for the commands of a run's worker, a line each as people read it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rest = ""

    def read(self) -> str:
        from vmlab_tui.runs.commandlog import as_text

        *lines, self._rest = (self._rest + super().read()).split("\n")
        return "".join(f"{as_text(line)}\n" for line in lines)


def tail_of(path: Path, *, sgr: bool) -> Tail:
    """What reads the log ``path``."""
    return CommandTail(path) if path.name == FILES["commands"] else Tail(path, sgr=sgr)


def attempt_number(text: str | None) -> int | None:
    """Raises UsageError unless ``text`` is a number from 1."""
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--attempt {text}: not a number from 1")
    return int(text)


def choose(
    view: RunView, ref: str | None, attempt: int | None, *, missing_ok: bool = False
) -> list[tuple[str, Path]]:
    """The logs that ``ref`` means, as (title, file). Raises UsageError when there are none."""
    if ref in FILES:
        path = view.folder / FILES[ref]
        if not path.exists() and not missing_ok:
            raise UsageError(
                f"run {view.run_id} has no {path.name} yet", hint=f"vmlab runs show {view.run_id}"
            )
        return [(ref, path)]
    step = find_step(view, ref) if ref is not None else stopped_at(view)
    if step is not None:
        path = log_of(view, step, attempt)
        if path.exists() or missing_ok:
            return [(f"{step.number:02} {step.name}", path)]
        if ref is not None:
            raise UsageError(
                f"step {step.number:02} '{step.name}' of run {view.run_id} has printed nothing",
                hint=f"vmlab runs show {view.run_id} says how it went; vmlab runs logs {view.run_id} console "
                "has the serial console",
            )
    found = [(f"{one.number:02} {one.name}", log_of(view, one)) for one in view.plan.steps]
    logs = [(title, path) for title, path in found if path.exists()]
    if not logs:
        raise UsageError(
            f"run {view.run_id} has no output of a step yet",
            hint=f"vmlab runs logs {view.run_id} console has the serial console",
        )
    return logs


def find_step(view: RunView, ref: str, others: Iterable[str] = FILES) -> PlannedStep:
    """The step with that number, name or unique beginning of a name.

    Raises UsageError with the choices, ``others`` among them.
    """
    steps = view.plan.steps
    if ref.isdigit() and 1 <= int(ref) <= len(steps):
        return view.plan.step(int(ref))
    found = [step for step in steps if ref in (step.name, step.slug, step.id)]
    found = found or [step for step in steps if step.name.startswith(ref)]
    if len(found) == 1:
        return found[0]
    choices = ", ".join(f"{step.number} {step.name}" for step in (found or steps))
    problem = (
        f"run {view.run_id} has no step '{clean(ref)}'" if not found else f"'{ref}' is more than one step"
    )
    raise UsageError(problem, hint=f"one of: {', '.join([choices, *others])}")


async def _whole(path: Path) -> str:
    return clean(await blocking(path.read_bytes))


def _live(lab: Lab, run_id: str) -> bool:
    from vmlab_tui.runs import client

    return client.get_run(lab, run_id).live
