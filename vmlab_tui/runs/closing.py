"""The steps after the profile's own: checks, evidence, and what becomes of the VM."""

from __future__ import annotations

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, StepError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.units import size
from vmlab_tui.checks.registry import run_check
from vmlab_tui.checks.result import CheckResult
from vmlab_tui.guests.transfer import fetch
from vmlab_tui.lab.leases import keep
from vmlab_tui.lab.owned import remove_vm
from vmlab_tui.lab.templates import drop_unfinished
from vmlab_tui.runs.context import Result, RunContext
from vmlab_tui.runs.plan import CHECK_SECONDS, PlannedStep

CHECK_DONE = declare("check.done", "one check has been made, others perhaps not")
COLLECTED = declare("collected", "the artifacts are fetched")
LEASE_EXTENDED = declare("lease.extended", "the lease of a kept VM has its expiry, the run is not ended")
REMOVED = declare("removed", "the VM is gone, the journal does not know")

ARTIFACT_LIMIT = 2 << 30
"""Bytes fetched from one guest at most: a guest is not to fill the host's disk."""


async def checks(run: RunContext, step: PlannedStep) -> Result:
    """Every check of the profile, also after one has failed. Raises StepError when any did not pass."""
    for spec in run.plan.profile.checks:
        run.stage(spec.label)
        with run.wait("command"):
            result = await run_check(spec, run.guest, Deadline(spec.within + CHECK_SECONDS))
        _write(run, step, result)
        point(CHECK_DONE)
    bad = [one for one in run.state.checks if one.state not in ("passed", "skipped")]
    if bad:
        shown = "\n".join(f"{one.check}: {one.detail}" for one in bad[:10])
        raise StepError(f"{len(bad)} of {len(run.state.checks)} checks failed\n{shown}")
    return Result(detail=f"{len(run.state.checks)} passed" if run.state.checks else "none in the profile")


def _write(run: RunContext, step: PlannedStep, result: CheckResult) -> None:
    run.write(
        "check_result",
        number=step.number,
        check=result.check,
        component=result.component,
        state=result.state,
        seconds=round(result.seconds, 3),
        detail=result.detail,
        evidence=result.evidence,
    )


async def collect(run: RunContext, step: PlannedStep) -> Result:
    """Fetch the profile's artifacts. A guest that is gone or lacks one does not fail the run."""
    globs = run.plan.profile.artifacts
    if not globs:
        return Result(detail="no artifacts in the profile")
    if not run.connected:
        return Result("skipped", "the guest never answered")
    target = run.folder / "artifacts"
    target.mkdir(mode=0o700, exist_ok=True)

    def on_progress(done: int, total: int, name: str) -> None:
        run.stage("fetching", name)

    try:
        with run.wait("transfer"):
            fetched = await fetch(run.guest, globs, target, on_progress=on_progress, limit=ARTIFACT_LIMIT)
    except LabError as error:
        run.note(f"artifacts: {error.message}", level="warn")
        return Result("skipped", error.message)
    for problem in fetched.problems:
        run.note(f"artifacts: {problem}", level="warn")
    point(COLLECTED)
    return Result(detail=f"{len(fetched.files)} files, {size(fetched.bytes)}")


async def keep_vm(run: RunContext) -> str:
    """Give the VM's lease its expiry; returns it (ISO 8601, UTC)."""
    until = keep(run.store, run.plan.vm.uuid, run.plan.ttl)
    point(LEASE_EXTENDED)
    return until


async def destroy_vm(run: RunContext) -> int:
    """Remove what this run made; returns how many things went."""
    with run.wait("libvirt"):
        gone = await remove_vm(run.store, run.host, run.plan.vm.uuid, run.plan.run_id)
    point(REMOVED)
    record_removed(run)
    return len(gone)


def record_removed(run: RunContext) -> None:
    """Journal that everything the run owned is gone."""
    drop_unfinished(run.store, run.plan.run_id)
    for what, ident in run.state.owns:
        run.write("removed", what=what, id=ident)
