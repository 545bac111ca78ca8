"""The watcher on a libvirtd of its own: changes, silence, death, return."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import libvirt
import pytest

from tests.lab.disks import qcow2
from tests.support.daemon import Daemon, own_daemon
from vmlab_tui.base.ids import new_uuid
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.inventory import Inventory
from vmlab_tui.lab.watch import HostState, LabWatch

XML = (
    "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory>"
    "<os><type arch='x86_64'>hvm</type></os><devices><disk type='file'><driver name='qemu' type='qcow2'/>"
    "<source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with own_daemon() as made:
        yield made


class Watched:
    """A running watcher and what it told, with the time."""

    def __init__(self, daemon: Daemon) -> None:
        store = Store(daemon.root / "store")
        store.images.mkdir(parents=True)
        self.daemon = daemon
        self.found: list[Inventory] = []
        self.hosts: list[HostState] = []
        self.watch = LabWatch(Lab(daemon.uri, store), self.found.append, self.hosts.append)

    @property
    def names(self) -> set[str]:
        return {vm.name for vm in self.found[-1].vms} if self.found else set()

    async def other(self, work: Callable[[Any], object]) -> None:
        """Another client does something."""

        def do() -> None:
            connection = libvirt.open(self.daemon.uri)
            work(connection)
            connection.close()

        await asyncio.to_thread(do)

    async def define(self, name: str) -> str:
        uuid, disk = new_uuid(), qcow2(self.daemon.root / f"disks/{name}.qcow2")
        disk.chmod(0o666)
        await self.other(lambda conn: conn.defineXML(XML.format(name=name, uuid=uuid, disk=disk)))
        return uuid


@pytest.fixture
async def watched(daemon: Daemon) -> AsyncIterator[Watched]:
    made = Watched(daemon)
    task = asyncio.create_task(made.watch.run())
    await until(lambda: made.watch.host.state == "ok")
    yield made
    task.cancel()
    await asyncio.wait({task}, timeout=15)
    assert task.cancelled()


async def until(true: Callable[[], object], seconds: float = 30) -> float:
    """Wait for it; how long that took."""
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - begin


async def test_what_another_client_does_is_seen_and_what_nobody_does_is_not_told(watched: Watched) -> None:
    uuid = await watched.define("one")
    assert await until(lambda: watched.names == {"one"}) < 1.5  # an event's pace, not the poll's
    told = len(watched.found), len(watched.hosts)
    await asyncio.sleep(4.5)
    assert (len(watched.found), len(watched.hosts)) == told
    await watched.other(lambda conn: conn.lookupByUUIDString(uuid).undefine())
    assert await until(lambda: watched.names == set()) < 1.5


async def test_snapshots_and_files_are_seen_though_nothing_announces_them(watched: Watched) -> None:
    uuid = await watched.define("one")
    await until(lambda: watched.names == {"one"})

    def shoot(conn: Any) -> None:
        domain = conn.lookupByUUIDString(uuid)
        domain.snapshotCreateXML("<domainsnapshot><name>first</name></domainsnapshot>")
        domain.snapshotCreateXML("<domainsnapshot><name>second</name></domainsnapshot>")

    await watched.other(shoot)
    await until(lambda: ("snapshot", uuid, "second") in watched.found[-1].by_key, 6)
    rows = watched.found[-1].by_key
    assert rows[("snapshot", uuid, "second")].parent == ("snapshot", uuid, "first")
    vm = watched.found[-1].vm(uuid)
    assert vm
    assert [one.current for one in vm.snapshots] == [False, True]
    (watched.daemon.root / "disks/one.qcow2").unlink()
    await until(lambda: any("missing" in why for _, why in watched.found[-1].faults), 6)


async def test_a_host_that_falls_silent_is_busy_and_comes_back_by_itself(watched: Watched) -> None:
    await watched.define("one")
    await until(lambda: watched.names == {"one"})
    watched.daemon.signal(signal.SIGSTOP)
    lags: list[float] = []
    begin = time.monotonic()
    while time.monotonic() - begin < 15:
        turn = time.monotonic()
        await asyncio.sleep(0.01)
        lags.append(time.monotonic() - turn - 0.01)
    assert [state.state for state in watched.hosts[-1:]] == ["busy"]
    assert watched.names == {"one"}
    assert (watched.watch.age or 0) > 10
    lags.sort()
    assert lags[-len(lags) // 100] < 0.1
    watched.daemon.signal(signal.SIGCONT)
    await until(lambda: watched.watch.host.state == "ok", 10)
    await watched.define("two")
    await until(lambda: watched.names == {"one", "two"}, 10)


async def test_a_daemon_that_dies_is_gone_with_a_reason_and_found_again(watched: Watched) -> None:
    await watched.define("one")
    await until(lambda: watched.names == {"one"})
    watched.daemon.stop()
    await until(lambda: watched.watch.host.state == "gone", 10)
    assert watched.watch.host.detail
    assert "start libvirt" in watched.watch.host.hint
    assert watched.names == {"one"}
    await asyncio.to_thread(watched.daemon.start)
    await until(lambda: watched.watch.host.state == "ok", 15)
    await watched.define("two")
    assert await until(lambda: watched.names == {"one", "two"}) < 2.5


async def test_whoever_changed_something_may_hurry_the_watcher(watched: Watched) -> None:
    uuid = await watched.define("one")
    await until(lambda: watched.names == {"one"})
    await asyncio.sleep(0.3)
    snap = "<domainsnapshot><name>s</name></domainsnapshot>"
    await watched.other(lambda conn: conn.lookupByUUIDString(uuid).snapshotCreateXML(snap))
    watched.watch.refresh_soon()
    assert await until(lambda: ("snapshot", uuid, "s") in watched.found[-1].by_key) < 1.2


async def test_among_many_an_event_shows_its_vm_and_the_others_are_looked_at_in_their_turn(
    watched: Watched,
) -> None:
    for number in range(20):
        await watched.define(f"vm-{number}")
    await until(lambda: len(watched.names) == 20)
    (watched.daemon.root / "disks/vm-3.qcow2").unlink()
    uuid = await watched.define("late")
    assert await until(lambda: "late" in watched.names) < 1.5
    await until(lambda: any("missing" in why for _, why in watched.found[-1].faults), 6)
    await watched.other(lambda conn: conn.lookupByUUIDString(uuid).undefine())
    assert await until(lambda: "late" not in watched.names) < 1.5
    assert len(watched.names) == 20
