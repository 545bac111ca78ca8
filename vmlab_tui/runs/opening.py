"""The steps before the profile's own: from nothing to a guest that answers.

Each is written so that running it again after a crash at any instant is right: what exists and is whole
is kept, what may be half done is done anew.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypedDict

from vmlab_tui import __version__
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import Refused, StepError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import write_durably
from vmlab_tui.base.text import clean
from vmlab_tui.base.units import size
from vmlab_tui.guests.cloudinit import CloudInitState, wait_cloud_init
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import ensure_user_key, new_host_key, warm_up
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.stage import Stage
from vmlab_tui.guests.waiting import wait_ready, while_alive
from vmlab_tui.hosts.model import Accel, Mark, Power, VmSpec
from vmlab_tui.hosts.vitals import DISK_ERROR
from vmlab_tui.images.qemuimg import create_overlay
from vmlab_tui.images.seed import SeedSpec, write_seed
from vmlab_tui.lab.leases import FILE as LEASE_FILE
from vmlab_tui.lab.leases import Lease, PortLease, now, whoami, write_lease
from vmlab_tui.lab.ports import reserve
from vmlab_tui.lab.vmdir import make_vm_dir
from vmlab_tui.runs import warm
from vmlab_tui.runs.context import Result, RunContext
from vmlab_tui.runs.plan import PlannedStep

VM_DIR_MADE = declare("vm-dir.made", "the VM's directory exists, without a lease")
LEASE_WRITTEN = declare("lease.written", "the lease exists, no ports and no disk")
PORTS_RESERVED = declare("ports.reserved", "ports are reserved, no disk")
OVERLAY_MADE = declare("overlay.made", "the overlay exists, no seed")
SEED_MADE = declare("seed.made", "overlay and seed exist, no domain")
DOMAIN_DEFINED = declare("domain.defined", "the domain is defined and off")
DOMAIN_STARTED = declare("domain.started", "the domain runs, the guest is not up")
SSH_READY = declare("ssh.ready", "the guest answers")


async def preflight(run: RunContext, step: PlannedStep) -> Result:
    """Once more, in the worker, what may have changed since the plan was made."""
    plan = run.plan
    if not plan.image.file.exists():
        raise Refused(
            f"image {plan.image.name}: {plan.image.file} is gone",
            hint=f"build it with: vmlab image build {plan.image.name}",
        )
    missing = [name for name in plan.secret_names if name not in run.secrets]
    if missing:
        raise Refused(
            f"secrets not given: {', '.join(missing)}",
            hint="pass them with " + " ".join(f"--env {name}" for name in missing),
        )
    return Result(detail=plan.vm.accel_reason)


async def overlay(run: RunContext, step: PlannedStep) -> Result:
    """VM directory, lease, ports and disk, in this order."""
    plan, vm = run.plan, run.plan.vm
    with run.wait("libvirt"):
        facts = await run.host.facts()
    with run.making("vm-dir", vm.uuid, str(run.vm.path)):
        make_vm_dir(run.store, vm.uuid, uid=facts.qemu_uid, gid=facts.qemu_gid)
        point(VM_DIR_MADE)
        lease = Lease(
            uuid=vm.uuid,
            name=vm.name,
            run_id=plan.run_id,
            profile=plan.profile.name,
            image=plan.image.name,
            owner=whoami(),
            created=now(),
            user=plan.image.user,
            mac=vm.mac,
            network=vm.network,
        )
        if not (run.vm.path / LEASE_FILE).exists():
            write_lease(run.store, lease)
    point(LEASE_WRITTEN)
    with run.making("ports", vm.uuid):
        forwards = reserve(run.store, vm.uuid, plan.ports)
        leased = tuple(
            PortLease(name=one.name, host_port=one.host_port, guest_port=one.guest_port) for one in forwards
        )
        write_lease(run.store, lease.model_copy(update={"ports": leased}))
    point(PORTS_RESERVED)
    if not run.vm.disk.exists() and plan.start:
        with run.wait("copy"):
            await warm.copy(run, plan.start)
    elif not run.vm.disk.exists():
        half = run.vm.path / ".disk.new"
        half.unlink(missing_ok=True)
        with run.wait("qemu-img"):
            await create_overlay(half, plan.image.file, plan.image.format, vm.disk)
        half.rename(run.vm.disk)
    point(OVERLAY_MADE)
    shown = ", ".join(f"{one.name}=127.0.0.1:{one.host_port}" for one in forwards)
    return Result(detail=f"{warm.told(plan.start) if plan.start else plan.image.name}, {shown}")


async def seed(run: RunContext, step: PlannedStep) -> Result:
    """The host key, made here and pinned, and the NoCloud seed that carries it."""
    vm, folder = run.plan.vm, run.vm
    user_key = ensure_user_key(run.store.keys)
    if not (folder.known_host.exists() and folder.host_key.exists()):
        key = new_host_key()
        write_durably(folder.host_key, key.private)
        write_durably(folder.known_host, key.public.strip() + "\n")
    if not folder.seed.exists():
        half = folder.path / ".seed.new"
        spec = SeedSpec(
            instance_id=run.plan.instance_id,
            hostname=vm.name,
            user=run.plan.image.user,
            authorized_keys=(user_key.public,),
            host_key_private=folder.host_key.read_text(),
            host_key_public=folder.known_host.read_text().strip(),
            extra=run.plan.profile.cloud_init,
        )
        write_seed(half, spec)
        half.rename(folder.seed)
    point(SEED_MADE)
    return Result()


def vm_spec(run: RunContext) -> VmSpec:
    """The domain of a run; the ports are those that are reserved."""
    plan, vm = run.plan, run.plan.vm
    return VmSpec(
        uuid=vm.uuid,
        name=vm.name,
        cpus=vm.cpus,
        memory=vm.memory,
        accel=Accel(vm.accel),
        disk=run.vm.disk,
        disk_format="qcow2",
        chain=((plan.image.file, plan.image.format),),
        seed=run.vm.seed,
        console_log=run.vm.console,
        mac=vm.mac,
        network=vm.network,
        forwards=reserve(run.store, vm.uuid, plan.ports),
        firmware=vm.firmware,
        description=f"vmlab run {plan.run_id}",
        mark=Mark(__version__, plan.run_id, str(run.store.root)),
    )


async def define(run: RunContext, step: PlannedStep) -> Result:
    with run.making("domain", run.plan.vm.uuid, run.plan.vm.name), run.wait("libvirt"):
        if run.plan.start:
            await warm.define(run, run.plan.start, vm_spec(run))
        elif await run.host.domain(run.plan.vm.uuid) is None:
            await run.host.define(vm_spec(run))
    point(DOMAIN_DEFINED)
    return Result(detail=run.plan.vm.name)


async def boot(run: RunContext, step: PlannedStep) -> Result:
    uuid = run.plan.vm.uuid
    with run.wait("libvirt"):
        power = await run.host.power(uuid)
        if power is Power.PAUSED:
            await run.host.resume(uuid)
        elif run.plan.start:
            await warm.wake(run, run.plan.start)
        elif power is not Power.ON:
            await run.host.start(uuid)
    point(DOMAIN_STARTED)
    return Result(detail=run.plan.vm.accel_reason)


async def address(run: RunContext, step: PlannedStep) -> Result:
    """Where SSH will answer: the reserved forward, or the guest's own address on a libvirt network."""
    run.endpoint = await find_endpoint(run, Deadline(step.timeout))
    return Result(detail=f"{run.endpoint.user}@{run.endpoint.host}:{run.endpoint.port}")


async def find_endpoint(run: RunContext, deadline: Deadline) -> Endpoint:
    plan = run.plan
    if plan.vm.network in ("isolated", "user"):
        forwards = {one.name: one.host_port for one in reserve(run.store, plan.vm.uuid, plan.ports)}
        host, port = "127.0.0.1", forwards["ssh"]
    else:
        with run.wait("boot"):
            host, port = await run.host.address(plan.vm.uuid, timeout=deadline.left), 22
    return Endpoint(
        host=host,
        port=port,
        user=plan.image.user,
        key=ensure_user_key(run.store.keys).private,
        host_key=run.vm.known_host.read_text().strip(),
        vm=plan.vm.name,
    )


def tail_of(path: Path, count: int) -> str:
    """The last ``count`` lines of a log file, cleaned; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            lines = [line for line in clean(file.read()).splitlines() if line.strip()]
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-count:])


async def ssh(run: RunContext, step: PlannedStep) -> Result:
    """Wait until the guest answers, telling each stage, and connect."""
    if run.endpoint is None:
        run.endpoint = await find_endpoint(run, Deadline(30))
    deadline = Deadline(step.timeout)

    async def enter() -> Guest:
        assert run.endpoint is not None
        guest = await warm.enter(run, deadline)
        return guest or await wait_ready(run.endpoint, deadline, **watchers(run))

    with run.wait("boot"):
        _, run.guest = await asyncio.gather(asyncio.to_thread(warm_up), enter())
    point(SSH_READY)
    return Result()


class Watchers(TypedDict):
    """The callbacks of ``guests.waiting``."""

    on_stage: Callable[[Stage, str], None]
    console_tail: Callable[[], str]
    alive: Callable[[], Awaitable[bool]]


def watchers(run: RunContext) -> Watchers:
    """What waiting for the guest needs of the run: where to tell, the console, whether the VM lives."""

    return Watchers(
        on_stage=lambda stage, detail: run.stage(str(stage), detail),
        console_tail=lambda: tail_of(run.folder / "console.log", 8),
        alive=lambda: is_alive(run),
    )


async def is_alive(run: RunContext) -> bool:
    """Whether the VM is on or paused. Notes in the run when that is since its disk could not be written."""
    now = await run.host.vitals(run.plan.vm.uuid)
    stuck = now.power is Power.PAUSED and now.reason == DISK_ERROR
    if stuck and not run.stuck:
        free, name = size(shutil.disk_usage(run.vm.path).free), run.plan.vm.name
        run.note(
            f"VM {name} stands still: QEMU could not write its disk, {free} are free in {run.vm.path}; "
            f"make room, then it goes on where it was: vmlab unpause {name}",
            level="warn",
        )
    run.stuck = stuck
    return now.power in (Power.ON, Power.PAUSED)


async def cloud_init(run: RunContext, step: PlannedStep) -> Result:
    with run.wait("cloud-init"):
        watch = watchers(run)
        ended = await while_alive(
            wait_cloud_init(run.guest, Deadline(step.timeout), on_stage=run.stage),
            run.guest.endpoint,
            "cloud-init",
            stage=Stage.CLOUD_INIT,
            console_tail=watch["console_tail"],
            alive=watch["alive"],
        )
        if ended.state is CloudInitState.ABSENT:
            return Result("skipped", "there is no cloud-init in this guest")
        await save_cloud_init_log(run)
    if ended.errors or ended.state is CloudInitState.ERROR:
        lines = [clean(line) for line in ended.errors] or ["it ended with an error and named none"]
        raise StepError(
            "cloud-init: " + "\n".join(line for line in lines),
            hint="the whole output is in cloud-init.log of the run",
        )
    return Result()


async def save_cloud_init_log(run: RunContext) -> None:
    """Keep what cloud-init printed in the guest; absent is fine."""
    shown = await run.guest.execute("cat /var/log/cloud-init-output.log 2>/dev/null", timeout=60)
    if shown.out:
        path = run.folder / "cloud-init.log"
        path.touch(mode=0o600)
        path.write_bytes(run.masker.mask(shown.out))
