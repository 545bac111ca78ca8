"""The inventory of real hosts: odd things on the test driver, a real guest with a snapshot and a chain."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import pytest

from tests.lab.disks import qcow2
from tests.lab.test_leases import lease
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.graph import OTHER
from vmlab_tui.lab.inventory import Inventory, InventoryReader, take_inventory
from vmlab_tui.lab.leases import PortLease, write_lease

if TYPE_CHECKING:
    from tests.support.lab import Vm

NAMES = ["a\x9b31mb", "r\u202egnp", "x[red]", "[@click=app.quit]q", "名前", "a'b\"c<&>"]


def node(path: Path, disks: dict[str, list[Path]]) -> str:
    """A test driver with these domains, their disks as qcow2."""
    made = ""
    for number, (name, files) in enumerate(disks.items()):
        devices = "".join(
            f"<disk type='file'><driver type='qcow2'/><source file={quoteattr(str(file))}/>"
            f"<target dev='vd{'abc'[at]}'/></disk>"
            for at, file in enumerate(files)
        )
        made += (
            f"<domain type='test'><name>{escape(name)}</name>"
            f"<uuid>00000000-0000-4000-8000-{number:012x}</uuid><memory>8192</memory>"
            f"<os><type>hvm</type></os><devices>{devices}</devices></domain>"
        )
    path.write_text(f"<node><cpu><mhz>1</mhz></cpu>{made}</node>")
    return f"test://{path}"


async def test_a_host_of_odd_things_is_shown_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    shared = qcow2(tmp_path / "shared.qcow2")
    disks: dict[str, list[Path]] = {name: [] for name in NAMES}
    for at, name in enumerate(NAMES[:3]):
        disks[name] = [qcow2(tmp_path / f"{at}.qcow2", str(shared))]
    disks[NAMES[3]] = [tmp_path / "missing \x9b.qcow2"]
    uri = node(tmp_path / "node.xml", disks)
    async with Host.open(uri) as host:
        uuid = (await host.domains())[0].uuid
        await host.create_snapshot(uuid, "with [memory]")
        await host.create_snapshot(uuid, "child", "why\u202e")
        await host.destroy(uuid)
        await host.create_snapshot(uuid, "disk only")
        found = await take_inventory(Lab(uri, store), host, snapshots=True)
        again = await take_inventory(Lab(uri, store), host, snapshots=True)
    assert {vm.name for vm in found.vms} == set(NAMES)
    assert found == again
    assert set(found.children[OTHER]) == {vm.key for vm in found.vms}
    assert {vm.name for vm in found.vms if vm.disks and vm.disks[0].chain[-1].path == shared} == set(
        NAMES[:3]
    )
    (broken,) = [vm for vm in found.vms if vm.problems]
    assert broken.name == NAMES[3]
    assert "missing" in broken.problems[0]
    assert "\x9b" not in broken.problems[0]
    vm = found.vm(uuid)
    assert vm
    assert {(one.name, one.memory, one.current) for one in vm.snapshots} == {
        ("with [memory]", True, False),
        ("child", True, False),
        ("disk only", False, True),
    }
    rows = found.by_key
    assert rows[("snapshot", uuid, "child")].parent == ("snapshot", uuid, "with [memory]")
    assert rows[("snapshot", uuid, "disk only")].parent == ("snapshot", uuid, "child")


async def test_what_is_read_of_a_few_is_what_a_look_at_all_would_tell(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.images.mkdir(parents=True)
    disks = {f"vm-{number:02}": [qcow2(tmp_path / f"{number}.qcow2")] for number in range(12)}
    uri = node(tmp_path / "node.xml", disks)
    lab = Lab(uri, store)
    reader = InventoryReader(lab)
    async with Host.open(uri) as host:
        uuids = sorted(one.uuid for one in await host.domains())
        before = reader.join(await host.domains(snapshots=True))

        async def agree(*changed: str) -> Inventory:
            found = reader.renew({uuid: await host.domain(uuid, snapshots=True) for uuid in changed})
            assert found == InventoryReader(lab).join(await host.domains(snapshots=True))
            assert found is reader.join(await host.domains(snapshots=True))
            return found

        await host.destroy(uuids[0])
        after = await agree(uuids[0])
        assert [vm.power for vm in after.vms[:2]] == ["off", "on"]
        assert all(one is two for one, two in zip(before.vms[1:], after.vms[1:], strict=True))
        await host.create_snapshot(uuids[1], "first")
        disks["vm-02"][0].unlink()
        assert len((await agree(uuids[1], uuids[2])).faults) == 1
        (store.vms / uuids[0]).mkdir(parents=True)
        write_lease(store, lease(uuids[0], name="vm-00"))  # it is ours now, without its domain
        await host.undefine(uuids[0])
        (store.vms / uuids[3]).mkdir()  # a directory that no lease speaks for
        await host.destroy(uuids[3])
        await host.undefine(uuids[3])
        found = await agree(uuids[0], uuids[3])
        assert (found.vms[0].own, found.vms[0].domain) == (True, None)
        assert [one.path.name for one in found.leftovers] == [uuids[3]]
        shutil.rmtree(store.vms)
        assert len((await agree(uuids[0], uuids[3])).vms) == 10


@pytest.mark.guest
async def test_an_own_vm_with_its_snapshot_chain_and_files(host: Host, tiny_template: Vm) -> None:
    from tests.support.lab import READY, URI

    vm, port = tiny_template, tiny_template.spec.forwards[0].host_port
    write_lease(
        vm.store,
        lease(
            vm.uuid,
            name=vm.spec.name,
            image="tiny",
            ports=(PortLease(name="ssh", host_port=port, guest_port=22),),
        ),
    )
    async with Host.open(URI, readonly=True) as reading:
        found = await take_inventory(Lab(URI, vm.store), reading, snapshots=True)
    entry = found.vm(vm.uuid)
    assert entry
    assert (entry.own, entry.power, entry.image) == (True, "off", "tiny")
    assert entry.address == f"lab@127.0.0.1:{port}"
    (disk,) = entry.disks
    assert [node.path for node in disk.chain] == [vm.spec.disk, vm.spec.chain[0][0]]
    assert disk.used == vm.spec.disk.stat().st_blocks * 512
    assert entry.seed_size == vm.folder.seed.stat().st_size
    assert entry.console_size == vm.folder.console.stat().st_size
    assert [(shot.name, shot.memory, shot.current) for shot in entry.snapshots] == [(READY, True, True)]
    row = found.by_key[("snapshot", vm.uuid, READY)]
    assert (row.parent, row.depth) == (("vm", vm.uuid), 2)
    tiny = found.image("tiny")
    assert tiny
    assert [user.id for user in tiny.users] == [vm.uuid]
