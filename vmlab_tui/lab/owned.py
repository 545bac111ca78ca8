"""What a VM of ours consists of right now, and how exactly that goes away."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import Store, fsync_dir
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab import ports
from vmlab_tui.lab.leases import FILE, read_lease
from vmlab_tui.lab.vmdir import vm_dir

REMOVE_UNDEFINED = declare("remove.undefined", "the domain is gone, its directory is not")
REMOVE_DIRECTORY = declare("remove.directory", "domain and directory are gone, the ports are still reserved")


@dataclass(frozen=True)
class Thing:
    """One thing that exists: ``what`` is domain, vm-dir, file or port; ``id`` names it exactly."""

    what: str
    id: str
    detail: str = ""


async def things_of(store: Store, host: Host, uuid: str) -> list[Thing]:
    """Everything that exists of the VM ``uuid``: asked of libvirt, the file system and the registry."""
    found = []
    if domain := await host.domain(uuid):
        found.append(Thing("domain", uuid, domain.name))
    folder = vm_dir(store, uuid)
    if folder.path.is_dir():
        found.append(Thing("vm-dir", str(folder.path)))
        found += [Thing("file", str(path)) for path in folder.files()]
    return found + [Thing("port", f"127.0.0.1:{port}") for port in ports.held(store, uuid)]


async def remove_vm(store: Store, host: Host, uuid: str, run_id: str) -> list[Thing]:
    """Remove the VM ``uuid`` that the run ``run_id`` made: domain, directory, ports. Returns what went.

    Refuses (LabError) when the domain's mark or the lease says that it belongs to something else. The
    reference goes before the data, so a crash in between leaves files that their lease still explains.
    """
    domain = await host.domain(uuid)
    if domain and (
        domain.mark is None or domain.mark.run_id != run_id or domain.mark.store != str(store.root)
    ):
        raise LabError(
            f"VM {domain.name} ({uuid}) does not carry the mark of run {run_id}",
            hint="it is left alone; look at it with virsh dumpxml",
        )
    folder = vm_dir(store, uuid)
    if (folder.path / FILE).exists():
        lease = read_lease(folder.path)
        if lease.run_id != run_id or lease.uuid != uuid:
            raise LabError(
                f"{folder.path} is leased to run {lease.run_id}, not {run_id}", hint="it is left alone"
            )
    gone = await things_of(store, host, uuid)
    if domain:
        await host.destroy(uuid)
        await host.undefine(uuid)
    point(REMOVE_UNDEFINED)
    if folder.path.is_dir():
        # the lease goes last: until then the rest is explained
        for path in folder.path.iterdir():
            if path.name != FILE:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.rmtree(folder.path)
        fsync_dir(store.vms)
    point(REMOVE_DIRECTORY)
    ports.release(store, uuid)
    return gone
