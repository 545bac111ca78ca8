"""Where a run can start: behind the longest prefix of its steps that a kept VM or a template has done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import is_locked
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Snapshot
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.events import Checkpoint
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import Lease, all_leases
from vmlab_tui.lab.templates import find_template
from vmlab_tui.runs.folder import LOCK
from vmlab_tui.runs.keys import differences
from vmlab_tui.runs.plan import Plan, PlannedKey, PlannedStart, PlannedStep, read_plan

_NAMES = 4


@dataclass(frozen=True)
class Start:
    """Where to start, and in words why not later. ``start`` None: cold. ``mac``: the card's address there."""

    start: PlannedStart | None
    why: str
    mac: str = ""


@dataclass(frozen=True)
class Kept:
    """A VM of ours that is still there, with what its run tells."""

    lease: Lease
    plan: Plan
    state: RunState


@dataclass(frozen=True)
class Match:
    """A checkpoint whose key is that of our step ``number``."""

    kept: Kept
    checkpoint: Checkpoint
    number: int


async def find_start(
    lab: Lab, host: Host, profile: str, steps: Sequence[PlannedStep], keys: Sequence[PlannedKey]
) -> Start:
    """The best start for a run with these keys: the longest prefix, of those the newest.

    A checkpoint counts only while its VM has the very snapshot that the journal tells of.
    """
    boot = next(step.number for step in steps if step.kind == "clean-boot")
    kept = await asyncio.to_thread(kept_vms, lab)
    matches = best_first(kept, keys)
    template = await asyncio.to_thread(find_template, lab.store, keys[0].key)
    relatives = [one for one in kept if one.plan.profile.name == profile]
    for match in matches:
        if match.number == boot and template:
            break  # nobody has to stand still for it
        if not await _is_there(host, match):
            continue
        plan, uuid = match.kept.plan, match.kept.lease.uuid
        start = PlannedStart(
            kind="checkpoint",
            source=uuid,
            snapshot=match.checkpoint.name,
            # of a clean boot a run takes its own, so that every snapshot of a VM has that VM's identity
            after=match.number if match.number > boot else boot - 1,
            key=match.checkpoint.key,
            run_id=plan.run_id,
            instance_id=plan.start.instance_id if plan.start else uuid,
        )
        return Start(start, why_not_later(match.number, steps, keys, [match.kept]), match.kept.lease.mac)
    why = why_not_later(boot, steps, keys, relatives)
    if template:
        start = PlannedStart(
            kind="template",
            source=template.key,
            snapshot=template.snapshot,
            after=boot - 1,
            key=template.key,
            run_id=template.run_id,
            instance_id=template.instance_id,
        )
        return Start(start, why, template.mac)
    return Start(None, why)


def best_first(kept: Sequence[Kept], keys: Sequence[PlannedKey]) -> list[Match]:
    """Every checkpoint with one of ``keys``: most steps done first, of those the newest first."""
    numbers = {one.key: one.number for one in keys}
    matches = [
        Match(one, checkpoint, numbers[checkpoint.key])
        for one in kept
        for checkpoint in one.state.checkpoints
        if checkpoint.key in numbers and _is_as_it_says(one.plan, checkpoint)
    ]
    matches.sort(key=lambda one: (one.number, one.checkpoint.created), reverse=True)
    return matches


def _is_as_it_says(plan: Plan, checkpoint: Checkpoint) -> bool:
    """Not of a step before the one that its run began after: vmlab once took those where the run began."""
    return plan.start is None or checkpoint.after >= plan.start.after


def kept_vms(lab: Lab) -> list[Kept]:
    """The VMs of ours whose runs can be read and stand still, the newest first.

    The VM of a run that goes on is not kept yet: it may be gone before it is copied, and would have to
    stop for that.
    """
    found = []
    for lease in all_leases(lab.store)[0].values():
        folder = lab.store.run(lease.run_id)
        try:
            if folder.is_dir():
                kept = Kept(lease, read_plan(folder), load_state(folder))
                busy = kept.state.state in ("starting", "running") and is_locked(folder / LOCK)
                if kept.plan.vm.uuid == lease.uuid and not busy:
                    found.append(kept)
        except LabError:
            continue  # what cannot be read cannot be reused
    found.sort(key=lambda one: one.plan.created, reverse=True)
    return found


async def _is_there(host: Host, match: Match) -> bool:
    domain = await host.domain(match.kept.lease.uuid, snapshots=True)
    return domain is not None and any(is_snapshot_of(one, match.checkpoint) for one in domain.snapshots)


def is_snapshot_of(one: Snapshot, wanted: Checkpoint) -> bool:
    """Whether a VM's snapshot is the one that the journal tells of, and something can go on from it."""
    same = one.name == wanted.name and one.created == wanted.created
    return same and one.memory and not one.external


def why_not_later(
    done: int, steps: Sequence[PlannedStep], keys: Sequence[PlannedKey], others: Sequence[Kept]
) -> str:
    """Why step after ``done`` is done anew, told by the newest of ``others`` that got there."""
    following = next((one for one in keys if one.number > done), None)
    if following is None:
        return "every step is as it was; only the checks are made again"
    step = next(one for one in steps if one.number == following.number)
    named = f"step {step.number:02} '{clean_line(step.name, 60)}'"
    if not others:
        return f"{named}: no VM of an earlier run of this profile is kept"
    other = others[0]
    theirs = {one.number: one for one in other.plan.keys}
    told = f"in run {other.plan.run_id}"
    for one in keys:
        if one.number > following.number:
            break
        was = theirs.get(one.number)
        if was is None:
            return f"{named}: {told} there was no such step"
        if was.key != one.key:
            found = differences(one.parts, was.parts) or ["an earlier step changed"]
            more = f" and {len(found) - _NAMES} more" if found[_NAMES:] else ""
            at = "" if one.number == step.number else "the clean boot: "
            what = clean_line(", ".join(found[:_NAMES]), 200)
            return f"{named}: {at}{what}{more} since run {other.plan.run_id}"
    known = other.state.steps.get(step.number)
    if known is None:
        return f"{named}: run {other.plan.run_id} did not get there"
    if known.state in ("failed", "unknown"):
        return f"{named}: it failed {told}"
    if other.state.altered:
        return f"{named}: {told} {clean_line(other.state.altered, 200)}"
    return f"{named}: {told} no checkpoint was taken after it"
