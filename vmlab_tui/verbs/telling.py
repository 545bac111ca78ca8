"""One event of a run as one line for people."""

from __future__ import annotations

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration, size
from vmlab_tui.guests.stage import SHORT
from vmlab_tui.journal.events import (
    Altered,
    Checkpoint,
    CheckResult,
    Continued,
    EndRequested,
    Event,
    GoingBack,
    Note,
    Paused,
    Progress,
    Stage,
    StepAmended,
    StepFinished,
    StepStarted,
    WentBack,
    WorkerStarted,
)
from vmlab_tui.runs.plan import Plan

_LIMIT = 160


def step_title(plan: Plan, number: int) -> str:
    """``05 boot``; a step that the plan does not have is only its number."""
    name = clean_line(plan.step(number).name, 40) if 1 <= number <= len(plan.steps) else ""
    return f"{number:02} {name}".rstrip()


def amount(progress: Progress) -> str:
    """``1.2M of 40M``, ``3 of 10 files``, ``1.2M``."""
    bytes_ = progress.unit.lower() in ("b", "byte", "bytes")
    done = size(int(progress.done)) if bytes_ else f"{progress.done:g}"
    total = ""
    if progress.total is not None:
        total = f" of {size(int(progress.total)) if bytes_ else f'{progress.total:g}'}"
    unit = "" if bytes_ or not progress.unit else f" {progress.unit}"
    return f"{done}{total}{unit} {progress.detail}".strip()


def line_of(event: Event, plan: Plan) -> str:
    """What the event says; empty for one that is only book-keeping."""
    payload = event.payload()
    match payload:
        case WorkerStarted():
            return (
                "a new worker goes on with it"
                if payload.resumed
                else f"on image {plan.image.name}, {plan.vm.accel}"
            )
        case StepStarted():
            again = f" (attempt {payload.attempt})" if payload.attempt > 1 else ""
            return f"{step_title(plan, payload.number)}{again} ..."
        case Stage():
            stage = SHORT.get(payload.stage, payload.stage)
            text = f"{stage}: {payload.detail}" if payload.detail else stage
            return f"{step_title(plan, payload.number)}: {clean_line(text, _LIMIT)}"
        case Progress():
            return f"{step_title(plan, payload.number)}: {clean_line(amount(payload), _LIMIT)}"
        case StepFinished():
            word = "FAILED" if payload.state == "failed" else payload.state
            detail = f", {clean_line(payload.detail, _LIMIT)}" if payload.detail else ""
            return f"{step_title(plan, payload.number)}: {word} in {duration(payload.seconds)}{detail}"
        case CheckResult():
            detail = f": {clean_line(payload.detail, _LIMIT)}" if payload.detail else ""
            return f"check {clean_line(payload.check, 80)} {payload.state}{detail}"
        case Checkpoint():
            where = step_title(plan, payload.after)
            return f"checkpoint {clean_line(payload.name, 80)} after {where}, {size(payload.size)}"
        case StepAmended():
            return f"{step_title(plan, payload.number)} has another text from now on"
        case GoingBack():
            return f"going back to checkpoint {clean_line(payload.name, 80)}"
        case WentBack():
            return (
                f"back at checkpoint {clean_line(payload.name, 80)}, after {step_title(plan, payload.after)}"
            )
        case Altered():
            return f"no checkpoint from here on starts a later run: {clean_line(payload.reason, _LIMIT)}"
        case Paused():
            return f"paused: {clean_line(payload.reason, _LIMIT)}"
        case Continued():
            return f"goes on: {clean_line(payload.reason, _LIMIT)}"
        case EndRequested():
            return f"asked to end by {clean_line(payload.by, 60)} ({payload.how})"
        case Note():
            return f"{'warning: ' if payload.level == 'warn' else ''}{clean_line(payload.text, _LIMIT)}"
    return ""
