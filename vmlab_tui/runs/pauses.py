"""A run that stands still and asks a person: what may be answered, and how going back is carried out."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.text import clean_line
from vmlab_tui.journal.events import Checkpoint, PauseWhy
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.rewind import go_back
from vmlab_tui.runs import altered
from vmlab_tui.runs.context import RunContext
from vmlab_tui.runs.decision import Decision
from vmlab_tui.runs.keys import digest
from vmlab_tui.runs.plan import PlannedStep

GOING_BACK = declare("back.begun", "the journal says that the VM is being reverted, it is not yet")
GONE_BACK = declare("back.done", "the VM is reverted, the journal does not say so")


async def ask(run: RunContext, step: PlannedStep, why: PauseWhy, reason: str) -> Decision | None:
    """Stand still at ``step`` until somebody decides; None when the pause's time is over."""
    pause = run.pause
    until = datetime.now(UTC) + timedelta(seconds=run.plan.pause_limit)
    pause.step, pause.why = step, why
    pause.answer = asyncio.get_running_loop().create_future()
    run.write(
        "paused",
        reason=reason,
        until=until.isoformat(timespec="seconds"),
        number=step.number,
        why=why,
    )
    told = "the pause's time is over"
    try:
        decision = await asyncio.wait_for(pause.answer, run.plan.pause_limit)
        told = decision.text
        return decision
    except TimeoutError:
        return None
    except asyncio.CancelledError:
        told = run.stop.by or "the run is ending"
        raise
    finally:
        pause.answer = pause.step = None
        run.write("continued", reason=told)


def answer(run: RunContext, decision: Decision) -> None:
    """Give the run that stands still its answer. Raises Refused when it does not, or that makes no sense."""
    pause, step = run.pause, run.pause.step
    if pause.answer is None or pause.answer.done() or step is None:
        raise Refused("it is not paused", hint=f"vmlab runs pause {run.plan.run_id}")
    named = f"step {step.number:02} '{step.name}'"
    own = step.index is not None or step.kind == "checks"
    if decision.do == "continue" and pause.why in ("failed", "unknown"):
        raise Refused(f"{named} has not passed", hint="retry it, go back, or skip it")
    if decision.do == "skip" and not own:
        raise Refused(f"{named} cannot be skipped: nothing works without it", hint="retry it, or end the run")
    if decision.do == "back":
        target(run, step, decision.to)
    if decision.sha:
        if step.kind != "run":
            raise Refused(f"{named} has no script", hint="only script steps can be edited")
        path = run.folder / "steps" / step.script_name(next_attempt(run.state, step))
        if not path.is_file() or digest(path.read_text()) != decision.sha:
            raise Refused(f"{path} does not hold the text that was sent")
    pause.answer.set_result(decision)


def target(run: RunContext, step: PlannedStep, name: str) -> Checkpoint:
    """The checkpoint to go back to: the one of that name, or the newest before ``step``. Raises Refused."""
    if run.plan.vm.time_travel:
        raise Refused(f"nobody can go back: {run.plan.vm.time_travel}", hint="retry the step in place")
    if found := run.state.way_back(name, step.number):
        return found
    known = ", ".join(one.name for one in run.state.line if one.after < step.number)
    hint = f"there are: {known}" if known else "retry the step in place"
    which = f"'{clean_line(name, 80)}' " if name else ""
    raise Refused(f"there is no checkpoint {which}before step {step.number:02}", hint=hint)


def next_attempt(state: RunState, step: PlannedStep) -> int:
    """The number of the attempt that comes next."""
    return state.attempts.get(step.number, 0) + 1


async def revert(run: RunContext, checkpoint: Checkpoint) -> None:
    """Bring the VM back to ``checkpoint``; afterwards every later step has still to be done.

    Raises LabError; then the VM is in its present still, unless that says otherwise.
    """
    run.write("going_back", name=checkpoint.name)
    point(GOING_BACK)
    run.stage("going back", checkpoint.name)
    guest = run.guest if run.connected else None
    if guest:
        with contextlib.suppress(LabError):
            await guest.close()
    with run.wait("libvirt"):
        went = await go_back(run.host, run.plan.vm.uuid, checkpoint.name, endpoint=run.endpoint, guest=guest)
    for line in went.lines:
        run.note(line, level="warn" if line.startswith("!") else "info")
    point(GONE_BACK)
    run.write("went_back", name=checkpoint.name, after=checkpoint.after)
    altered.begin_anew(run)
