"""A lab with something of every kind to clean up, the same on every machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lab.disks import qcow2
from tests.tui.snapshots import NOW
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.xml import MARK_NS
from vmlab_tui.lab.leases import Lease, write_lease

UUIDS = tuple(f"0e0e0e0e-1111-4222-8333-{number:012}" for number in range(6))
HOUR = 3600.0


def alone(patch: pytest.MonkeyPatch, uri: str) -> None:
    """Nothing of this machine is seen beside the store and that host, and time stands."""
    from vmlab_tui.lab import census, leftovers, scan, sizes
    from vmlab_tui.lab.holders import Holders

    clock = SimpleNamespace(time=NOW.timestamp)
    for module in ("vmlab_tui.lab.scan", "vmlab_tui.verbs.clean", "vmlab_tui.verbs.clean_shapes"):
        patch.setattr(f"{module}.time", clock)
    patch.setattr(scan, "SYSTEM", uri)
    patch.setattr(leftovers, "usual_folders", lambda _: ())
    patch.setattr(leftovers, "_config_folders", lambda _: ())
    patch.setattr(census, "who_holds", lambda _: Holders(()))
    patch.setattr(sizes, "used_bytes", lambda facts: facts.st_size)


def iso(hours: float) -> str:
    """The time so many hours ago."""
    from datetime import timedelta

    return (NOW - timedelta(hours=hours)).isoformat()


def aged(paths: Iterable[Path], hours: float) -> None:
    when = NOW.timestamp() - hours * HOUR
    for path in paths:
        os.utime(path, (when, when))


def marked(uuid: str, name: str, store: Store, run: str, state: int) -> str:
    """A domain for libvirt's test driver that carries our mark."""
    return (
        f"<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>{name}</name>"
        f"<uuid>{uuid}</uuid><metadata><v:mark xmlns:v='{MARK_NS}' version='1' run='{run}' "
        f"store='{store.root}'/></metadata><memory unit='MiB'>1024</memory><vcpu>2</vcpu>"
        "<os><type>hvm</type></os><devices><disk type='file'><driver type='qcow2'/>"
        f"<source file='{store.vms / uuid / 'disk.qcow2'}'/><target dev='vda'/></disk></devices>"
        f"<test:runstate>{state}</test:runstate></domain>"
    )


def vm(store: Store, uuid: str, name: str, run: str, image: Path, *, padding: int, **lease: object) -> None:
    folder = store.vms / uuid
    folder.mkdir()
    disk = qcow2(folder / "disk.qcow2", str(image))
    os.truncate(disk, padding)
    common = {"uuid": uuid, "name": name, "run_id": run, "profile": "shop", "image": "debian-12"}
    write_lease(store, Lease.model_validate({**common, "owner": "me@here", "created": iso(60), **lease}))


def put_garbage(store: Store, image: Path) -> list[str]:
    """Things of several classes, some in the trash; the domains that go with them."""
    dead, old, late, lost, away, kept = UUIDS
    mib = 1 << 20
    vm(store, dead, "shop-41ab", "shop-20260101-0914", image, padding=212 * mib)
    vm(store, old, "warehouse-with-a-long-name-55de", "gone", image, padding=96 * mib, expires=iso(30))
    vm(store, late, "quickstart-9c01", "gone", image, padding=340 * mib, expires=iso(2), keep=True)
    vm(store, lost, "bench-0c11", "gone", image, padding=31 * mib)
    half = store.images / ".staging" / "debian-13-7f3a0011"
    half.mkdir(parents=True)
    (half / ".owner").touch()
    with (half / "disk.raw").open("wb") as file:
        file.truncate(1200 * mib)
    former = qcow2(store.images / "debian-12-00aa11bb22cc.qcow2")
    aged([half, former], 90)
    store.ports.write_text(
        json.dumps({"schema": 1, "ports": {"22044": f"{kept}/ssh", "22045": f"{kept}/web"}})
    )
    trashed(store, "20260101-090000-000001-aaaa", ("vm", away), "builder-77aa", 40, power="on")
    trashed(store, "20260102-101500-000002-bbbb", ("image", "old-base"), "old-base", 3)
    return [
        marked(dead, "shop-41ab", store, "shop-20260101-0914", 5),
        marked(old, "warehouse-with-a-long-name-55de", store, "gone", 5),
        marked(late, "quickstart-9c01", store, "gone", 1),
    ]


def trashed(
    store: Store, ident: str, key: tuple[str, str], name: str, hours: float, power: str | None = None
) -> None:
    folder = store.trash / ident
    folder.mkdir()
    source = store.vms / key[1] if key[0] == "vm" else store.images / f"{name}-11ff22ee.qcow2"
    place = folder / f"0-{source.name}"
    if key[0] == "vm":
        place.mkdir()
        qcow2(place / "disk.qcow2")
    else:
        qcow2(place)
    entry = {
        "schema": 1,
        "id": ident,
        "batch": ident,
        "key": key,
        "name": name,
        "why": "its run gone is not there; nothing names it",
        "by": "me@here",
        "when": iso(hours),
        "state": "in",
        "moves": [{"src": str(source), "dst": str(place)}],
        "size": 431 << 20,
    }
    if power:
        domain = {"uuid": key[1], "name": name, "xml": "<domain/>", "power": power, "snapshots": []}
        entry |= {"domain": domain, "memory": str(place / "memory.save")}
    (folder / "entry.json").write_text(json.dumps(entry))
