"""A lab of 1,000 VMs: how long a look at all of it takes, and until a change by another client is seen.

They are QEMU domains of a libvirtd of the bench's own, each with a qcow2 disk; every tenth has a snapshot.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import libvirt

from tests.bench.figures import Figure, show
from tests.lab.disks import qcow2
from tests.support.daemon import own_daemon
from vmlab_tui.base.ids import new_uuid
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.inventory import Inventory, InventoryReader
from vmlab_tui.lab.watch import LabWatch

_VM = (
    "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory>"
    "<os><type arch='x86_64'>hvm</type></os><devices><disk type='file'><driver name='qemu' type='qcow2'/>"
    "<source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
)
_SNAPSHOT = "<domainsnapshot><name>first</name></domainsnapshot>"


def define(connection: Any, folder: Path, name: str, *, snapshot: bool = False) -> str:
    """Define one domain with a disk of its own; its uuid."""
    uuid, disk = new_uuid(), qcow2(folder / f"{name}.qcow2")
    disk.chmod(0o666)
    domain = connection.defineXML(_VM.format(name=name, uuid=uuid, disk=disk))
    if snapshot:
        domain.snapshotCreateXML(_SNAPSHOT)
    return uuid


async def looks(lab: Lab, rounds: int) -> list[tuple[float, float]]:
    """Seconds that libvirt and the store took of each look, the first one included."""
    taken = []
    reader = InventoryReader(lab)
    async with Host.open(lab.uri, readonly=True) as host:
        for _ in range(rounds):
            begun = time.monotonic()
            domains = await host.domains(snapshots=True)
            told = time.monotonic()
            reader.join(domains)
            taken.append((told - begun, time.monotonic() - told))
    return taken


async def changes(lab: Lab, connection: Any, folder: Path, rounds: int) -> list[float]:
    """Seconds from another client's change to the inventory that shows it."""
    seen: asyncio.Queue[Inventory] = asyncio.Queue()
    watch = LabWatch(lab, seen.put_nowait, lambda _: None)
    watching = asyncio.create_task(watch.run())
    taken = []
    try:
        await asyncio.wait_for(seen.get(), 60)
        for number in range(rounds):
            await asyncio.sleep(4 + number / rounds)
            begun = time.monotonic()
            uuid = await asyncio.to_thread(define, connection, folder, f"late-{number}")
            while (await asyncio.wait_for(seen.get(), 60)).vm(uuid) is None:
                pass
            taken.append(time.monotonic() - begun)
    finally:
        watching.cancel()
        await asyncio.wait({watching}, timeout=15)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench inventory", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=9, help="looks, and changes (default 9)")
    parser.add_argument("--domains", type=int, default=1000, help="how many (default 1000)")
    options = parser.parse_args()
    with own_daemon() as daemon:
        connection = libvirt.open(daemon.uri)
        folder = daemon.root / "disks"
        for number in range(options.domains):
            define(connection, folder, f"vm-{number:04}", snapshot=not number % 10)
        store = Store(daemon.root / "store")
        store.images.mkdir(parents=True)
        lab = Lab(daemon.uri, store)
        first, *again = asyncio.run(looks(lab, options.rounds + 1))
        seen = asyncio.run(changes(lab, connection, folder, options.rounds))
        connection.close()
    count = f"{options.domains} VMs"
    figures = [
        Figure(f"the first look at {count}", (sum(first),), "s", beside=f"libvirt {first[0]:.2f}"),
        Figure(f"another look at {count}", tuple(map(sum, again)), "s", 0.6),
        Figure("of that libvirt", tuple(one[0] for one in again), "s"),
        Figure("of that the store", tuple(one[1] for one in again), "s"),
        Figure(f"a change seen among {count}", tuple(seen), "s", 0.5),
    ]
    return show("inventory", f"libvirt {libvirt.getVersion()}", figures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
