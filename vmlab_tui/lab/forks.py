"""Forks: new VMs of ours that go on from a VM's snapshot with memory, each a machine of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vmlab_tui import __version__
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.ids import new_mac, new_run_id
from vmlab_tui.base.paths import Store, write_durably
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.identity import Identity, become, new_identity
from vmlab_tui.guests.keys import ensure_user_key, warm_up
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.stage import Stage
from vmlab_tui.guests.waiting import wait_ready
from vmlab_tui.hosts.fork import Origin, copy_disk, define_fork, drop_other_snapshots, origin_of
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Accel, Forward, Mark, Power, VmSpec
from vmlab_tui.images.seed import reseed
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.graph import VmEntry
from vmlab_tui.lab.leases import ForkedFrom, Lease, PortLease, after, now, whoami, write_lease
from vmlab_tui.lab.owned import remove_vm
from vmlab_tui.lab.ports import reserve
from vmlab_tui.lab.vmdir import VmDir, make_vm_dir, vm_dir

MARKED = declare("fork.marked", "the source has a snapshot that is only there to be forked")
DIRECTORY = declare("fork.directory", "a fork's directory exists, empty")
LEASED = declare("fork.leased", "a fork has its lease, no ports and no disk")
PORTS = declare("fork.ports", "a fork has its ports, no keys and no disk")
SEEDED = declare("fork.seeded", "a fork has its host key and seed, no disk")
COPIED = declare("fork.copied", "a fork has its disk, no domain")
DEFINED = declare("fork.defined", "a fork's domain is defined and off")
WOKEN = declare("fork.woken", "a fork runs, with the identity of its source")
OWN = declare("fork.own", "a fork has an identity of its own, and still its source's snapshot")
BARE = declare("fork.bare", "a fork has no snapshot")
SETTLED = declare("fork.settled", "a fork has its own snapshot, the source still that of a fork from now")

SNAPSHOT = "forked"
"""A fork's first snapshot of its own: every snapshot of a VM is to hold that VM's identity."""
_STALE = 60.0
"""Seconds after which an empty directory is nobody's work in hand."""


@dataclass(frozen=True)
class Source:
    """What forks are made of: a VM of ours at one of its snapshots. ``memory`` in bytes."""

    lease: Lease
    origin: Origin
    cpus: int
    memory: int


@dataclass(frozen=True)
class Fork:
    """A fork that answers. ``notes`` say what of its identity could not be set; ``seconds`` it took."""

    lease: Lease
    origin: Origin
    endpoint: Endpoint
    notes: tuple[str, ...]
    seconds: float


async def source_of(lab: Lab, host: Host, vm: VmEntry, snapshot: str) -> Source:
    """``vm`` at ``snapshot``, as something to fork. It must be ours and have a domain.

    Raises NotFound without that snapshot, UsageError when nothing can start from it, and Refused when a file
    of the disk's chain lies outside the store.
    """
    assert vm.lease is not None
    assert vm.domain is not None
    origin = await origin_of(host, vm.uuid, snapshot)
    disk = next((disk for disk in vm.disks if disk.path == origin.disk), None)
    if disk is None or disk.problem or origin.disk != vm_dir(lab.store, vm.uuid).disk:
        raise Refused(
            f"VM {clean_line(vm.name, 60)}: the disk of the snapshot is not the VM's own in the store: "
            f"{clean_line(disk.problem if disk and disk.problem else str(origin.disk))}",
            hint=f"look at its disks: vmlab show {vm.uuid}",
        )
    root = lab.store.root.resolve()
    for node in disk.chain:
        if not node.path.resolve().is_relative_to(root):
            raise Refused(
                f"VM {clean_line(vm.name, 60)}: its disk stands on {clean_line(str(node.path))}, "
                "outside the store: nobody keeps that file for a fork",
                hint="add it to the store (vmlab image add) and make the VM from that image",
            )
    return Source(vm.lease, origin, vm.domain.cpus, vm.domain.memory)


async def make_fork(
    lab: Lab,
    host: Host,
    source: Source,
    name: str,
    uuid: str,
    *,
    ttl: float,
    on_stage: Callable[[str], None],
    timeout: float = 600,
) -> Fork:
    """A VM ``name`` that goes on where ``source`` is, up to its first command.

    ``ttl``: seconds that its lease keeps it. ``on_stage`` hears what is being done, in words. When it
    fails or is called off, what was made is removed again. Raises LabError naming the fork.
    """
    run_id, begun = new_run_id("fork"), time.monotonic()
    work = _Work(lab, host, source, name, uuid, run_id, ttl, on_stage, Deadline(timeout))
    try:
        lease, endpoint, notes = await work.carry_out()
    except BaseException as error:
        left = ""
        try:
            await remove_vm(lab.store, host, uuid, run_id)
        except LabError as problem:
            left = f"; what was made of it is still there: {problem.message}"
        if not isinstance(error, LabError):
            raise
        told = LabError(
            f"fork {name}: {error.message}{left}", hint=f"vmlab delete {uuid}" if left else error.hint
        )
        told.exit = error.exit
        raise told from error
    return Fork(lease, source.origin, endpoint, notes, time.monotonic() - begun)


async def settle(host: Host, fork: Fork) -> None:
    """Put the snapshot :data:`SNAPSHOT` of the fork as it is now in the place of the one it came from.

    That one holds the source's host name, keys and address. Raises LabError; the fork is of use all the same.
    """
    origin, lease = fork.origin, fork.lease
    await host.delete_snapshot(lease.uuid, origin.snapshot)
    point(BARE)
    was = lease.forked_from
    about = f"as it was forked from {was.name}@{was.snapshot}" if was else ""
    await host.create_snapshot(lease.uuid, SNAPSHOT, about)
    point(SETTLED)


@dataclass(frozen=True)
class _Work:
    """One fork being made: each step leaves only what the lease explains."""

    lab: Lab
    host: Host
    source: Source
    name: str
    uuid: str
    run_id: str
    ttl: float
    on_stage: Callable[[str], None]
    deadline: Deadline

    async def carry_out(self) -> tuple[Lease, Endpoint, tuple[str, ...]]:
        host, origin, deadline = self.host, self.source.origin, self.deadline
        facts = await host.facts()
        self.on_stage("keys and seed")
        lease, folder, identity = await asyncio.to_thread(self._prepare, facts.qemu_uid, facts.qemu_gid)
        self.on_stage("copying the disk")
        # not before: other programs are at work now, and this one has nothing else to do
        warming = asyncio.create_task(asyncio.to_thread(warm_up))
        await copy_disk(host, self.source.lease.uuid, origin.disk, folder.disk, timeout=deadline.left)
        await drop_other_snapshots(folder.disk, origin.snapshot, timeout=deadline.left)
        point(COPIED)
        await define_fork(host, origin, self._spec(lease, folder), timeout=deadline.left)
        point(DEFINED)
        self.on_stage("waking up")
        await host.revert(self.uuid, origin.snapshot, timeout=deadline.left)
        await host.resume(self.uuid, timeout=deadline.part(30))  # it may have been paused then
        point(WOKEN)
        await warming
        endpoint, notes = await self._become(lease, folder, identity)
        point(OWN)
        return lease, endpoint, notes

    def _prepare(self, uid: int, gid: int) -> tuple[Lease, VmDir, Identity]:
        """Lease, ports, keys and seed, in this order. Blocks."""
        store, old = self.lab.store, self.source.lease
        _sweep(store)
        folder = make_vm_dir(store, self.uuid, uid=uid, gid=gid)
        point(DIRECTORY)
        lease = Lease(
            uuid=self.uuid,
            name=self.name,
            run_id=self.run_id,
            profile=old.profile,
            image=old.image,
            owner=whoami(),
            created=now(),
            expires=after(self.ttl),
            keep=True,
            user=old.user,
            mac=old.mac,
            network=old.network,
            forked_from=ForkedFrom(uuid=old.uuid, name=old.name, snapshot=self.source.origin.snapshot),
        )
        write_lease(store, lease)
        point(LEASED)
        forwards = reserve(store, self.uuid, {port.name: port.guest_port for port in old.ports})
        ports = tuple(
            PortLease(name=one.name, host_port=one.host_port, guest_port=one.guest_port) for one in forwards
        )
        lease = lease.model_copy(update={"ports": ports})
        write_lease(store, lease)
        point(PORTS)
        identity = new_identity(self.name)
        write_durably(folder.host_key, identity.host_key.private)
        write_durably(folder.known_host, identity.host_key.public.strip() + "\n")
        seed = vm_dir(store, old.uuid).seed
        if seed.exists():
            reseed(
                seed,
                folder.seed,
                hostname=self.name,
                host_key_private=identity.host_key.private,
                host_key_public=identity.host_key.public.strip(),
            )
        point(SEEDED)
        return lease, folder, identity

    def _spec(self, lease: Lease, folder: VmDir) -> VmSpec:
        return VmSpec(
            uuid=self.uuid,
            name=self.name,
            cpus=self.source.cpus,
            memory=self.source.memory,
            accel=Accel.TCG,  # as the snapshot has it, like the chain and the network card
            disk=folder.disk,
            disk_format="qcow2",
            chain=(),
            seed=folder.seed if folder.seed.exists() else None,
            console_log=folder.console,
            mac=lease.mac or new_mac(),
            network=lease.network,
            forwards=tuple(Forward(one.name, one.host_port, one.guest_port) for one in lease.ports),
            description=f"vmlab fork of {self.source.lease.name}@{self.source.origin.snapshot}"[:200],
            mark=Mark(__version__, self.run_id, str(self.lab.store.root)),
        )

    async def _become(
        self, lease: Lease, folder: VmDir, identity: Identity
    ) -> tuple[Endpoint, tuple[str, ...]]:
        """Make the guest a machine of its own, and see that a command can be run in it."""
        port = lease.port("ssh")
        if port is None:
            raise LabError(f"VM {self.source.lease.name} has no SSH forward, so its forks cannot be entered")
        endpoint = Endpoint(
            host="127.0.0.1",
            port=port,
            user=lease.user,
            key=ensure_user_key(self.lab.store.keys).private,
            host_key=identity.host_key.public,
            vm=self.name,
        )
        pin = vm_dir(self.lab.store, self.source.lease.uuid).known_host
        old = replace(endpoint, host_key=pin.read_text().strip())
        guest = await self._log_in(old, folder)
        try:
            self.on_stage("becoming a machine of its own")
            limit = self.deadline.part(60)
            notes = await become(guest, self.host, self.uuid, identity, timeout=limit)
            keep_pin(folder, guest, old)
            return guest.endpoint, notes
        finally:
            await guest.close()

    async def _log_in(self, endpoint: Endpoint, folder: VmDir) -> Guest:
        def stage(stage: Stage, _detail: str) -> None:
            self.on_stage(f"waiting for SSH: {stage}")

        async def alive() -> bool:
            return await self.host.power(self.uuid) in (Power.ON, Power.PAUSED)

        return await wait_ready(
            endpoint, Deadline(self.deadline.part(120)), stage, lambda: _tail(folder.console), alive
        )


def keep_pin(folder: VmDir, guest: Guest, old: Endpoint) -> None:
    """Where a guest could not be given a host key of its own (it says so), its pin is its source's."""
    if guest.endpoint == old:
        write_durably(folder.known_host, old.host_key + "\n")
        folder.host_key.unlink(missing_ok=True)


def _tail(console: Path) -> str:
    """The end of what the fork has said on its console."""
    with contextlib.suppress(OSError):
        return "\n".join(clean(console.read_bytes()[-8192:]).splitlines()[-8:])
    return ""


def _sweep(store: Store) -> None:
    """Take away directories in which a killed process has not even put a lease."""
    for folder in store.vms.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE:
                folder.rmdir()  # which refuses one with anything in it
