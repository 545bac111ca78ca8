"""A run's opening steps when it starts from a template or a checkpoint instead of booting.

The guest wakes up in another VM's memory snapshot: with that VM's host name, host key, machine id and clock.
It is given its own before anything else is done in it, over a connection that still knows the old host key;
the inherited snapshot then goes, so that every snapshot of a VM carries the VM's own identity.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import write_durably
from vmlab_tui.base.units import size
from vmlab_tui.guests.identity import Identity, become
from vmlab_tui.guests.keys import HostKey
from vmlab_tui.guests.ssh import Guest, HostKeyError
from vmlab_tui.guests.waiting import wait_ready
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.fork import Origin, copy_disk, define_fork, drop_other_snapshots, origin_of
from vmlab_tui.hosts.model import Power, VmSpec
from vmlab_tui.lab import templates
from vmlab_tui.lab.forks import keep_pin
from vmlab_tui.lab.vmdir import vm_dir
from vmlab_tui.runs.budget import make_room
from vmlab_tui.runs.checkpoints import phase, take_anyway
from vmlab_tui.runs.context import Result, RunContext
from vmlab_tui.runs.plan import PlannedStart, PlannedStep

INHERITED = declare("inherited.dropped", "the guest runs, the snapshot it started from is gone")
IDENTITY_SET = declare("identity.set", "the guest has its own identity, the lab still knows the old one")

_ORIGIN = "origin.xml"
_OLD_PIN = "inherited_host"


def told(start: PlannedStart) -> str:
    """Where a run starts, in words."""
    if start.kind == "template":
        return f"template {start.source[:12]} of run {start.run_id}"
    return f"checkpoint '{start.snapshot}' of run {start.run_id}"


async def reuse(run: RunContext, step: PlannedStep) -> Result:
    """A step that was done where this run starts. After the last of them, the checkpoint there, our own."""
    start = run.plan.start
    assert start is not None
    if step.number == start.after and step.number > run.plan.phase("clean-boot").number:
        why = "named" if step.checkpoint else "auto"
        await take_anyway(run, f"after-{step.number:02}-{step.slug}"[:60], step.number, why)
    return Result("reused", f"as in {told(start)}")


def _old_pin(run: RunContext) -> Path:
    """The host key that the guest shows until it has its own; gone afterwards."""
    return run.vm.path / _OLD_PIN


async def copy(run: RunContext, start: PlannedStart) -> None:
    """The disk with the snapshot in it, beside it the snapshot's XML and the guest's present host key."""
    if start.kind == "template":
        template = await asyncio.to_thread(templates.find_template, run.store, start.source)
        if template is None:
            raise _gone(start)
        origin, uuid = templates.origin(run.store, template), None
        pin = templates.folder_of(run.store, start.source) / templates.KNOWN_HOST
    else:
        uuid = start.source
        try:
            origin = await origin_of(run.host, uuid, start.snapshot)
        except NotFound as error:
            raise _gone(start) from error
        pin = vm_dir(run.store, uuid).known_host
    try:
        known = pin.read_bytes()
    except FileNotFoundError as error:
        raise _gone(start) from error
    write_durably(run.vm.path / _ORIGIN, origin.snapshot_xml)
    write_durably(_old_pin(run), known)
    copied = run.vm.path / ".copied.qcow2"
    await copy_disk(run.host, uuid, origin.disk, copied)
    await drop_other_snapshots(copied, start.snapshot)
    copied.rename(run.vm.disk)


def _gone(start: PlannedStart) -> LabError:
    return LabError(f"{told(start)} has been removed since this run was planned", hint="start the run again")


async def define(run: RunContext, start: PlannedStart, spec: VmSpec) -> None:
    xml = (run.vm.path / _ORIGIN).read_text()
    await define_fork(run.host, Origin(start.snapshot, xml, run.vm.disk), spec)


async def wake(run: RunContext, start: PlannedStart) -> None:
    """Let the guest go on from the inherited snapshot, and drop that."""
    uuid = run.plan.vm.uuid
    # the only snapshot there can be so far: a worker that died here may have dropped it already
    inherited = {one.name for one in await run.host.snapshots(uuid)}
    if start.snapshot in inherited:
        if await run.host.power(uuid) is not Power.ON:
            await run.host.revert(uuid, start.snapshot)
        await run.host.delete_snapshot(uuid, start.snapshot)
    elif await run.host.power(uuid) is not Power.ON:
        await run.host.start(uuid)
    point(INHERITED)


async def clean_boot(run: RunContext, step: PlannedStep) -> Result:
    """The checkpoint of the clean boot; of a cold one the store keeps a copy, to start from."""
    result = await phase(run, step)
    if (
        result.state == "ok"
        and run.plan.start is None
        and run.plan.key(step.number)
        and not run.state.altered
    ):
        await _leave_template(run, step)
    return result


async def _leave_template(run: RunContext, step: PlannedStep) -> None:
    """Best effort: a run does not fail for what only later ones would use."""
    plan, key = run.plan, run.plan.key(step.number)
    if plan.vm.network not in ("isolated", "user") or templates.find_template(run.store, key):
        return
    if not await make_room(run, 2 * run.state.checkpoints[-1].size):
        run.note(f"no template is kept of this boot: the budget of {size(plan.budget)} is used up")
        return
    template = templates.Template(
        key=key,
        image=plan.image.name,
        digest=plan.image.digest,
        cpus=plan.vm.cpus,
        memory=plan.vm.memory,
        snapshot=step.kind,
        mac=plan.vm.mac,
        instance_id=plan.instance_id,
        run_id=plan.run_id,
        created="",
    )
    run.stage("template", "a copy for later runs")
    run.write("intent", what="template", id=key)
    try:
        with run.wait("copy"):
            await templates.make_template(run.store, run.host, run.vm, plan.vm.uuid, template)
        how = "the store's now"
    except (LabError, OSError) as error:
        templates.drop_unfinished(run.store, plan.run_id)
        run.note(f"no template is kept of this boot: {error}", level="warn")
        how = "not made"
    run.write("removed", what="template", id=key, detail=how)


async def enter(run: RunContext, deadline: Deadline) -> Guest | None:
    """The connection to a guest that has been given its own identity; None when it had that already."""
    pin = _old_pin(run)
    if not pin.exists():
        return None
    from vmlab_tui.runs.opening import watchers

    assert run.endpoint is not None
    try:
        old = replace(run.endpoint, host_key=pin.read_text().strip())
        guest = await wait_ready(old, deadline, **watchers(run))
    except HostKeyError:
        pin.unlink()  # a worker that died here had done it
        return None
    key = HostKey(run.vm.host_key.read_text(), run.vm.known_host.read_text().strip())
    identity = Identity(hostname=run.plan.vm.name, host_key=key, machine_id=secrets.token_hex(16))
    run.stage("identity", "host name, host key, machine id, clock")
    uuid = run.plan.vm.uuid
    for problem in await become(guest, run.host, uuid, identity, timeout=deadline.part(60)):
        run.note(f"the guest keeps what it had of where it started: {problem}", level="warn")
    keep_pin(run.vm, guest, old)
    point(IDENTITY_SET)
    pin.unlink()
    return guest
