"""The profile's own steps: copy, run, reboot, wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import time
from pathlib import Path

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError, StepError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import write_durably
from vmlab_tui.base.text import Masker
from vmlab_tui.base.units import duration, size
from vmlab_tui.checks.registry import CheckSpec, run_check
from vmlab_tui.guests.transfer import send_tree
from vmlab_tui.guests.units import UnitSpec, kill_unit, run_unit
from vmlab_tui.guests.waiting import beside, boot_id, reboot
from vmlab_tui.journal.state import RunState
from vmlab_tui.runs import altered
from vmlab_tui.runs.context import Result, RunContext
from vmlab_tui.runs.keys import digest, step_parts
from vmlab_tui.runs.opening import is_alive, tail_of, watchers
from vmlab_tui.runs.plan import PlannedStep
from vmlab_tui.spec.model import CopyStep, RebootStep, RunStep, WaitStep

STEP_BEGUN = declare("step.begun", "a script step is journaled as started, its unit is not")
UNIT_STARTED = declare("unit.started", "the step's unit runs in the guest and has printed something")
UNIT_ENDED = declare("unit.ended", "the unit has ended, the journal does not know")
COPY_DONE = declare("copy.done", "files are in the guest, the journal does not know")

_PROGRESS_SECONDS = 0.5
_DISK_SECONDS = 2.0


async def profile_step(run: RunContext, step: PlannedStep) -> Result:
    """Do one step of the profile. Raises StepError when the guest's part of it fails."""
    assert step.index is not None
    what = run.plan.profile.steps[step.index]
    match what:
        case CopyStep():
            return await _copy(run, step, what)
        case RunStep():
            return await _script(run, step, what)
        case RebootStep():
            return await _reboot(run, step)
        case WaitStep():
            return await _wait(run, step, what)


async def _copy(run: RunContext, step: PlannedStep, what: CopyStep) -> Result:
    told = 0.0

    def on_progress(done: int, total: int, name: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS or done == total:
            told = time.monotonic()
            run.progress(done, total, "bytes", name)

    with run.wait("transfer"):
        sent = await send_tree(
            run.guest,
            what.src,
            what.to,
            exclude=what.exclude,
            delete=what.delete,
            owner=what.owner,
            on_progress=on_progress,
            timeout=step.timeout,
        )
    await _amend_if_changed(run, step, what)
    for name in sent.left_out:
        run.note(f"step '{step.name}' leaves out {name}: neither file, folder nor link", level="warn")
    point(COPY_DONE)
    return Result(detail=f"{sent.files} files, {size(sent.bytes)} sent, {sent.skipped} unchanged")


async def _amend_if_changed(run: RunContext, step: PlannedStep, what: CopyStep) -> None:
    """Journal it when the files are not those that the plan's keys were made of."""
    planned = next((one.parts for one in run.plan.keys if one.number == step.number), None)
    if planned is None:
        return
    now = await asyncio.to_thread(step_parts, what, {}, {})
    if now != planned:
        run.note(f"files of step '{step.name}' changed while the run was at work", level="warn")
        run.write("step_amended", number=step.number, attempt=run.attempt(step), sha=digest(dict(now)))


def text_of(folder: Path, state: RunState, step: PlannedStep, what: RunStep) -> str:
    """The script of a step of the run in ``folder`` as it runs now: the profile's, or what somebody has made
    of it since."""
    attempt = state.amended.get(step.number)
    if attempt is None:
        return what.script
    path = folder / "steps" / step.script_name(attempt)
    try:
        return path.read_text()
    except OSError as error:
        raise LabError(
            f"{path}, the edited text of step {step.number:02}, cannot be read: {error}"
        ) from error


def unit_of(run: RunContext, step: PlannedStep, what: RunStep) -> UnitSpec:
    """The unit of this attempt; its name is the same in every worker."""
    return UnitSpec(
        run_id=run.plan.run_id,
        number=step.number,
        attempt=run.attempt(step),
        script=text_of(run.folder, run.state, step, what),
        user=what.user,
        env={**run.plan.env, **what.env},
        secrets=run.secrets,
        timeout=step.timeout,
    )


async def _script(run: RunContext, step: PlannedStep, what: RunStep) -> Result:
    """Run the script once, however many workers see it: the guest knows whether this attempt was begun."""
    unit = unit_of(run, step, what)
    point(STEP_BEGUN)
    with run.wait("command"):
        try:
            status = await _follow(run, step, unit, Deadline(step.timeout))
        except DeadlineError as error:
            if run.stuck:
                raise StepError(
                    f"step '{step.name}' passed its time limit of {duration(step.timeout)}: "
                    "the VM stands still, since its disk could not be written",
                    hint=f"make room, then: vmlab unpause {run.plan.vm.name}",
                ) from error
            await kill_unit(run.guest, unit)
            raise StepError(
                f"step '{step.name}' was stopped after {duration(step.timeout)}, its time limit",
                hint="give it more with timeout: in the profile",
            ) from error
        except asyncio.CancelledError:
            # shielded: the wish to end must not leave the script running in a VM that is kept
            await asyncio.shield(kill_unit(run.guest, unit, timeout=20))
            raise
    point(UNIT_ENDED)
    if status:
        raise ScriptFailed(step.name, status, tail_of(run.log(step), 3))
    return Result(exit_status=0)


class ScriptFailed(StepError):
    """A script step ended with a status other than 0."""

    def __init__(self, name: str, status: int, tail: str) -> None:
        super().__init__(f"step '{name}' exited with {status}" + (f"\n{tail}" if tail else ""))
        self.status = status


async def _follow(run: RunContext, step: PlannedStep, unit: UnitSpec, deadline: Deadline) -> int:
    """Copy the unit's output, from its beginning and masked, into the attempt's log."""
    masker = Masker(run.secrets.values())
    handle = os.open(run.log(step), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as log:
        lost = False

        def keep(text: bytes) -> None:
            """What finds no room here is lost; the step goes on, and its end counts all the same."""
            nonlocal lost
            try:
                if lost or log.write(text) == len(text):
                    return
                why = "no space left"
            except OSError as error:
                why = error.strerror or str(error)
            lost = True
            run.note(f"from here on the output of step '{step.name}' is not kept: {why}", level="warn")

        def on_bytes(raw: bytes) -> None:
            keep(masker.feed(raw))
            point(UNIT_STARTED)

        try:
            work = run_unit(run.guest, unit, on_bytes, deadline, alive=lambda: _there(run))
            return await beside(work, _look_at_disk(run))
        finally:
            keep(masker.finish())


async def _look_at_disk(run: RunContext) -> None:
    """Have it noted when the VM stands still for a full disk: from within it looks like a slow command."""
    while True:
        await asyncio.sleep(_DISK_SECONDS)
        with contextlib.suppress(LabError):  # whoever needs the VM or libvirt says so
            await is_alive(run)


async def _there(run: RunContext) -> bool:
    """Whether the VM that a connection was lost to is still on. Raises Moved when it is, at another moment.

    There, nobody would know of the unit any more, and it would be begun anew.
    """
    for _ in range(12):
        if await is_alive(run):
            await altered.require_same(run)
            return True
        await asyncio.sleep(0.25)  # a revert takes a VM off for a moment
    return False


async def _reboot(run: RunContext, step: PlannedStep) -> Result:
    """Reboot and wait for a guest with another boot id."""
    deadline = Deadline(step.timeout)
    marker = run.folder / "steps" / f".boot-{step.number:02}.{run.attempt(step)}"
    with run.wait("boot"):
        if not marker.exists():
            write_durably(marker, await boot_id(run.guest))
        run.guest = await reboot(run.guest, marker.read_text(), deadline, **watchers(run))
    return Result()


def _condition(what: WaitStep, seconds: float) -> CheckSpec:
    """The check that a wait step repeats until it passes."""
    for kind, field, value in (
        ("port", "port", what.port),
        ("service", "name", what.service),
        ("command", "command", what.command),
    ):
        if value is not None:
            return CheckSpec.model_validate({"kind": kind, "params": {field: value}, "within": seconds})
    raise LabError("a wait step waits for nothing")


async def _wait(run: RunContext, step: PlannedStep, what: WaitStep) -> Result:
    if what.seconds is not None:
        with run.wait("command"):
            await asyncio.sleep(what.seconds)
        return Result(detail=duration(what.seconds))
    condition = _condition(what, step.timeout)
    with run.wait("command"):
        verdict = await run_check(condition, run.guest, Deadline(step.timeout))
    if verdict.state != "passed":
        raise StepError(f"step '{step.name}': {verdict.check}: {verdict.detail}")
    return Result(detail=shlex.quote(verdict.check) if not verdict.detail else verdict.detail)
