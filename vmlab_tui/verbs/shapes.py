"""Runs as programs and as people read them; shared by the verbs about runs."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Exit, LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.verbs.verb import Outcome, blocking
from vmlab_tui.verbs.words import left, local, moment

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.journal.events import Checkpoint
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.film import Frame
    from vmlab_tui.runs.plan import PlannedStep

REPORTS = ("report.md", "report.json", "junit.xml", "console.log", "cloud-init.log", "worker.log")


def elapsed(view: RunView) -> float:
    """Seconds since the run's first event, until its last if nobody works on it; its own count once ended."""
    if view.state.ended:
        return view.state.ended.seconds
    first, last = moment(view.state.started), datetime.now(UTC) if view.live else moment(view.state.updated)
    return (last - first).total_seconds() if first and last else 0.0


def stopped_at(view: RunView) -> PlannedStep | None:
    """The step at which a person is asked, else the one that failed, else the one in flight."""
    if view.state.pause_at and 1 <= view.state.pause_at <= len(view.plan.steps):
        return view.plan.step(view.state.pause_at)
    failed = next((step for step in view.state.steps.values() if step.state == "failed"), None)
    found = failed or view.state.current
    return view.plan.step(found.number) if found and 1 <= found.number <= len(view.plan.steps) else None


def step_state(view: RunView, number: int) -> str:
    """``ok``, ``failed``, ``skipped``, ``running``, ``unknown``, or ``-`` when it was not begun."""
    known = view.state.steps.get(number)
    if known is None:
        return "-"
    return "unknown" if known.state == "running" and not view.live else known.state


def exit_of(view: RunView) -> int:
    """The exit code a run stands for: its own once ended, else that of the lab (its worker died)."""
    return view.state.ended.exit if view.state.ended else Exit.LAB


def log_of(view: RunView, step: PlannedStep, attempt: int | None = None) -> Path:
    """The log of an attempt of a step (default: the last one); it need not exist."""
    known = view.state.steps.get(step.number)
    return view.folder / "steps" / step.log_name(attempt or (known.attempt if known else 1))


def checkpoints_there(view: RunView) -> tuple[Checkpoint, ...]:
    """Those of its checkpoints that exist: whoever deletes one as a snapshot of its VM tells no run.

    Reads its disk: all of them where that cannot be read, none once its VM is gone.
    """
    from vmlab_tui.images.header import BadImage, inspect
    from vmlab_tui.lab.vmdir import vm_dir

    known = view.state.checkpoints
    folder = vm_dir(Store(view.plan.store), view.plan.vm.uuid)
    if not known or (view.state.ended and not folder.path.is_dir()):
        return ()
    try:
        names = {name for name, _ in inspect(folder.disk).saved}
    except BadImage:
        return known
    return tuple(one for one in known if one.name in names)


def summary(view: RunView) -> dict[str, JsonValue]:
    """A run as one entry of a list."""
    at = stopped_at(view)
    ended = view.state.ended
    return {
        "run": view.run_id,
        "profile": view.plan.profile.name,
        "status": view.status,
        "live": view.live,
        "seq": view.state.seq,
        "started": view.state.started or None,
        "finished": view.state.finished or None,
        "seconds": round(elapsed(view), 3),
        "step": at.number if at else None,
        "step_name": at.name if at else None,
        "exit": ended.exit if ended else None,
        "disposition": ended.disposition if ended else None,
        "until": view.state.until,
        "vm": view.plan.vm.name,
        "vm_uuid": view.plan.vm.uuid,
        "checkpoints_bytes": sum(one.size for one in checkpoints_there(view)),
        "folder": str(view.folder),
    }


def details(view: RunView, owned: list[tuple[str, str]]) -> dict[str, JsonValue]:
    """A run with its steps, checks and what exists of it."""
    from vmlab_tui.runs.compare import slow_step

    steps: list[JsonValue] = []
    for step in view.plan.steps:
        known = view.state.steps.get(step.number)
        log = log_of(view, step)
        steps.append(
            {
                "number": step.number,
                "kind": step.kind,
                "name": step.name,
                "component": step.component,
                "state": step_state(view, step.number),
                "attempt": known.attempt if known else None,
                "stage": known.stage if known else "",
                "seconds": known.seconds if known else None,
                "usual": step.usual,
                "slow": slow_step(view, step.number),
                "detail": known.detail if known else "",
                "exit_status": known.exit_status if known else None,
                "log": str(log) if log.exists() else None,
            }
        )
    return {
        "schema": 1,
        **summary(view),
        "detail": view.state.ended.detail if view.state.ended else "",
        "start": view.plan.start.model_dump(mode="json") if view.plan.start else None,
        "start_reason": view.plan.why,
        "checkpoints": [one.model_dump(mode="json") for one in view.state.checkpoints],
        "steps": steps,
        "checks": [check.model_dump(mode="json") for check in view.state.checks],
        "waited": dict(view.state.waited),
        "screens": [str(one.path) for one in film(view)],
        "owns": [{"what": what, "id": name} for what, name in owned],
        "notes": [note.model_dump(mode="json") for note in view.state.notes],
    }


def film(view: RunView) -> tuple[Frame, ...]:
    """The pictures of its boot; blocks on files."""
    from vmlab_tui.runs.film import frames

    return frames(view.folder)


def verdict(view: RunView) -> tuple[str, ...]:
    """How a run ended, in a few lines: the result, what became of the VM, where the report is."""
    ended = view.state.ended
    took = duration(elapsed(view))
    if ended is None:
        if view.live:
            return (f"{view.run_id} is {view.status} ({took})",)
        kinds = ", ".join(dict.fromkeys(what for what, _ in view.state.owns)) or "nothing"
        return (
            f"INTERRUPTED {view.run_id} after {took}: its worker is gone",
            f"  what it made is still there: {kinds}",
        )
    word = {"passed": "PASSED", "failed": "FAILED", "error": "ERROR", "ended": "ENDED"}.get(
        ended.state, ended.state.upper()
    )
    lines = [f"{word} {view.run_id} in {took}"]
    if ended.state not in ("passed", "failed") and ended.detail:
        lines.append(f"  {clean_line(ended.detail, 300)}")
    passed = sum(check.state == "passed" for check in view.state.checks)
    if view.state.checks:
        lines.append(f"  {passed} of {len(view.state.checks)} checks passed")
    lines.append(f"  {kept(view)}")
    report = view.folder / "report.md"
    if report.exists():
        lines.append(f"  {report}")
    return tuple(lines)


def kept(view: RunView) -> str:
    """What became of the VM, in words."""
    ended = view.state.ended
    if ended is None:
        return f"VM {view.plan.vm.name} belongs to it"
    if ended.disposition == "destroyed":
        return f"VM {view.plan.vm.name} is removed"
    if ended.disposition == "none":
        return "nothing was made"
    until = f" until {local(ended.until)} ({left(ended.until)})" if ended.until else ""
    return f"VM {view.plan.vm.name} is kept{until}"


def next_commands(view: RunView) -> list[tuple[str, str]]:
    """What one would do next with a run, with what each is for."""
    run, at = view.run_id, stopped_at(view)
    ended = view.state.ended
    if at and log_of(view, at).exists():
        logs = (f"vmlab runs logs {run}", f"all of step {at.number}'s output")
    else:
        logs = (f"vmlab runs logs {run} console", "the VM's serial console")
    if ended is None and not view.live:
        return [
            (f"vmlab runs resume {run}", "put a new worker on it"),
            (f"vmlab runs end {run}", "remove what it owns"),
            logs,
        ]
    if ended is None and view.state.state == "paused":
        return [*answers(view), (f"vmlab ssh {run}", "a shell in the VM"), logs]
    if ended is None:
        return [(f"vmlab runs wait {run}", "follow it"), logs, (f"vmlab runs end {run}", "end it")]
    found = [logs]
    if ended.disposition == "kept":
        found.insert(0, (f"vmlab ssh {run}", "a shell in the VM"))
        found.append((f"vmlab runs end {run}", "remove the VM"))
    return found


def answers(view: RunView) -> list[tuple[str, str]]:
    """What a run that stands still may be told, with what each would do."""
    run, step = view.run_id, stopped_at(view)
    found = []
    if view.state.pause_why in ("before", "after", "asked"):
        found.append((f"vmlab runs continue {run}", "go on"))
    if view.state.pause_why in ("failed", "unknown", "after"):
        found.append((f"vmlab runs retry {run}", "try the step again, in place"))
    if goal := next((one for one in reversed(view.state.line) if step and one.after < step.number), None):
        found.append((f"vmlab runs back {run}", f"go back to '{goal.name}' and try again from there"))
    if step and step.kind == "run":
        found.append((f"vmlab runs edit {run}", "edit the step's script and try again"))
    if step and (step.index is not None or step.kind == "checks"):
        found.append((f"vmlab runs skip {run}", "leave the step out"))
    return [*found, (f"vmlab runs keep {run}", "end it, keep the VM"), (f"vmlab runs end {run}", "end it")]


def copy_junit(view: RunView, target: Path) -> str:
    """Copy the run's JUnit file to ``target``; returns what to say about it."""
    source = view.folder / "junit.xml"
    if not source.exists():
        return f"no {target}: the run has written no JUnit report"
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise LabError(
            f"{target} cannot be written: {error.strerror}", hint=f"the report is in {source}"
        ) from error
    return f"JUnit report in {target}"


async def finished(view: RunView, junit: Path | None) -> Outcome:
    """The outcome of a verb that followed a run which is now over, or which the person left."""
    lines: tuple[str, ...] = ()
    if junit and view.state.ended:
        lines = (await blocking(lambda: copy_junit(view, junit)),)
    return Outcome(None, lines, exit_of(view))
