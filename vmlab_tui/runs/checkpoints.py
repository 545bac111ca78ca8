"""Checkpoints: snapshots that a run takes of its VM at the boundaries of steps, and when it takes one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.units import size
from vmlab_tui.hosts.model import Power
from vmlab_tui.images import qemuimg
from vmlab_tui.journal.events import Checkpoint
from vmlab_tui.runs import altered
from vmlab_tui.runs.budget import excess, make_room
from vmlab_tui.runs.context import Result, RunContext
from vmlab_tui.runs.plan import Plan, PlannedStep

SNAPSHOT_MADE = declare("snapshot.made", "a snapshot exists that the journal does not call done")

_LITTLE = 1 << 28
"""Bytes that a store has free when that is why a snapshot failed, probably."""

SHARE = 0.05
"""What an automatic checkpoint may cost of the time that going back to it would save."""


def told(plan: Plan) -> str:
    """When a run will take checkpoints, in words."""
    always = "after the clean boot and at the end"
    marked = sum(step.checkpoint for step in plan.steps)
    steps = f"after {marked or 'no'} marked step{'s' * (marked != 1)}"
    if plan.checkpoints == "auto":
        return f"auto: {always}, {steps}, and before a step where one costs little beside what it may save"
    if plan.checkpoints == "named":
        return f"named: {always}, {steps}"
    return f"none: only {always}" + (f", not {steps}" if marked else "")


async def phase(run: RunContext, step: PlannedStep) -> Result:
    """The steps ``clean-boot`` and ``provisioned``: a checkpoint of that name."""
    if run.plan.vm.time_travel:
        return Result("skipped", f"no time travel: {run.plan.vm.time_travel}")
    # of the second nobody runs on: it is a state to look at, and to fork from
    made: Checkpoint | None = None
    async with _not_the_end(run, f"after step {step.number:02}"):
        made = await take_anyway(run, step.kind, step.number, step.kind)
    if made is None:
        if await run.host.power(run.plan.vm.uuid) is not Power.ON:
            raise LabError(f"{run.plan.vm.name} does not run any more", hint="vmlab diagnose says why")
        return Result("skipped", "no checkpoint could be made")
    return Result(detail=f"{size(made.size)} of memory" if made.size else "")


async def take_anyway(run: RunContext, name: str, after: int, why: str) -> Checkpoint:
    """:func:`take` one that a run must have. What room there is for it is made; if that is too little,
    the run's log says so.
    """
    # the one before tells how large it will be; of the first that is known only afterwards
    known = run.state.checkpoints
    await make_room(run, known[-1].size if known else 0)
    made = await take(run, name, after, why)
    if not await make_room(run, 0):
        much = await asyncio.to_thread(excess, run.store, run.plan.budget)
        run.note(f"checkpoint {made.name} is taken all the same: {much}", level="warn")
    return made


async def take(run: RunContext, name: str, after: int, why: str) -> Checkpoint:
    """The snapshot ``name`` of the VM as it is after step ``after``; kept if this run has it already.

    Where an abandoned future has one of that name, this is called ``name-2`` and so on.
    """
    uuid = run.plan.vm.uuid
    if known := next((one for one in run.state.line if one.name == name), None):
        return known
    taken = {one.name for one in run.state.checkpoints}
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    name = next(one for one in names if one not in taken)
    started = time.monotonic()
    with run.making("snapshot", f"{uuid}/{name}"), run.wait("libvirt"):
        if name not in {one.name for one in await run.host.snapshots(uuid)}:
            about = f"vmlab run {run.plan.run_id}, after step {after:02}"
            await run.host.create_snapshot(uuid, name, about)
        point(SNAPSHOT_MADE)
        created = next(one.created for one in await run.host.snapshots(uuid) if one.name == name)
    seconds = round(time.monotonic() - started, 3)
    await altered.look(run)
    with run.wait("qemu-img"):
        held = (await qemuimg.info(run.vm.disk, "qcow2")).snapshots.get(name, 0)
    # a step that did not do what was planned has another key, and so has all that follows
    amended = any(number <= after for number in run.state.amended)
    key = "" if amended or run.state.altered else run.plan.key_at(after)
    run.write(
        "checkpoint", name=name, after=after, key=key, created=created, size=held, seconds=seconds, why=why
    )
    return run.state.checkpoints[-1]


def worth_it(cost: float, usual: float | None, since: float) -> bool:
    """Whether an automatic checkpoint before a step costs little beside what it may save; all in seconds.

    ``cost``: what the last one took. ``usual``: what the step took in earlier runs; None for a step that
    nobody has timed. ``since``: the work since the last checkpoint, which without this one would be lost.
    """
    return cost < SHARE * max(usual or 0.0, since)


async def before_step(run: RunContext, step: PlannedStep, since: float) -> None:
    """An automatic checkpoint before ``step`` where the policy, the time it costs and the budget allow it.

    ``since``: seconds of work that a guest going back to the last checkpoint would have to do again.
    """
    plan, taken = run.plan, run.state.line
    last = step.number - 1
    if plan.checkpoints != "auto" or plan.vm.time_travel or not taken or taken[-1].after == last:
        return
    newest = taken[-1]
    if not worth_it(newest.seconds, step.usual, since):
        return
    where = f"before step {step.number:02}"
    async with _not_the_end(run, where):
        if await make_room(run, newest.size):
            await take(run, f"before-{step.number:02}-{step.slug}"[:60], last, "auto")
        else:
            run.note(f"no checkpoint {where}: the budget of {size(plan.budget)} is used up")


async def after_step(run: RunContext, step: PlannedStep) -> None:
    """The checkpoint that the profile wants after ``step``."""
    if run.plan.marked(step):
        async with _not_the_end(run, f"after step {step.number:02}"):
            await take_anyway(run, f"after-{step.number:02}-{step.slug}"[:60], step.number, "named")


@contextlib.asynccontextmanager
async def _not_the_end(run: RunContext, where: str) -> AsyncIterator[None]:
    """A checkpoint that cannot be taken is noted, and the VM goes on; the run does without it."""
    uuid = run.plan.vm.uuid
    try:
        yield
    except LabError as error:
        with contextlib.suppress(LabError):
            if await run.host.power(uuid) is Power.PAUSED:
                await run.host.resume(uuid)
        free = shutil.disk_usage(run.store.root).free
        # QEMU says only that there was an input/output error
        full = f" ({size(free)} free in {run.store.root})" if free < _LITTLE else ""
        run.note(f"no checkpoint {where}: {error}{full}", level="warn")
        for what, ident in run.state.pending:
            if what == "snapshot":  # what is there of it must not be taken for a later state
                with contextlib.suppress(LabError):
                    await run.host.delete_snapshot(uuid, ident.removeprefix(f"{uuid}/"))
                    run.write("removed", what=what, id=ident, detail="not finished")
