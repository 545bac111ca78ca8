"""Forks of a real guest: machines of their own, the original untouched, nothing left behind by a kill."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

import vmlab_tui.lab.forks  # noqa: F401 - declares its sync points
from tests.runs.command import Said, vmlab
from vmlab_tui.base import faults
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import Exit, Refused
from vmlab_tui.base.ids import new_uuid
from vmlab_tui.base.paths import Store
from vmlab_tui.guests.cloudinit import CloudInitState, wait_cloud_init
from vmlab_tui.guests.ssh import Guest, HostKeyError, connect
from vmlab_tui.guests.waiting import boot_id, reboot
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power
from vmlab_tui.images.store import Image, sha256_of
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.endpoint import endpoint_of
from vmlab_tui.lab.forks import SNAPSHOT, make_fork, settle, source_of
from vmlab_tui.lab.inventory import take_inventory
from vmlab_tui.lab.leases import read_lease
from vmlab_tui.lab.owned import remove_vm, things_of
from vmlab_tui.lab.vmdir import vm_dir

if TYPE_CHECKING:
    from tests.support.lab import Vm

pytestmark = pytest.mark.guest

URI = "qemu:///system"
PROFILE = """\
schema: 1
name: origin
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
ports: {{web: 8080}}
steps:
  - run: |
      (i=0; while :; do i=$((i+1)); echo $i >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 1; done) \
        </dev/null >/dev/null 2>&1 &
      echo $! >/tmp/counter
on_pass: keep
"""
POINTS = sorted(point for point in faults.POINTS if point.startswith("fork."))
FROM_NOW = ("fork.marked", "fork.source-still", "fork.settled")
"""Points that only matter, or are only passed, when a running VM is forked from now."""
_SHOW = """
cat /proc/sys/kernel/hostname /etc/machine-id; cat /etc/hosts | tr '\\n' ' '; echo; date -u +%s
cat /tmp/counter; cat /tmp/count; kill -0 $(cat /tmp/counter) && echo counts; cut -d' ' -f1 /proc/uptime
"""


@dataclass(frozen=True)
class Origin:
    """The VM that is forked: kept by a run that has ended."""

    store: Store
    name: str
    uuid: str

    @property
    def lab(self) -> Lab:
        return Lab(URI, self.store)

    async def fork(self, *words: str, fault: str = "") -> Said:
        return await vmlab(self.store, "fork", *words, VMLAB_FAULT=fault)


@pytest.fixture(scope="module")
def origin(tiny_built: tuple[Store, Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    from tests.support import lab

    source, image = tiny_built
    store = lab.new_store()
    try:
        here = lab.put_image(store, image, source.images / image.file)
        profile = tmp_path_factory.mktemp("origin") / "profile.yaml"
        profile.write_text(PROFILE.format(image=here.name))
        said = asyncio.run(vmlab(store, "--connect", URI, "run", profile))
        assert said.status == 0, said.out + said.err
        (folder,) = store.vms.iterdir()
        yield Origin(store, read_lease(folder).name, folder.name)
        assert sha256_of(store.images / here.file) == image.digest
        asyncio.run(vmlab(store, "--connect", URI, "delete", folder.name, "--yes"))
        assert list(store.vms.iterdir()) == []
    finally:
        asyncio.run(lab.sweep(store))
        shutil.rmtree(store.root)


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", URI)


@asynccontextmanager
async def gone_after(origin: Origin, host: Host, said: Said) -> AsyncIterator[list[dict[str, Any]]]:
    """The forks that a command told of; deleted afterwards, of which nothing is left."""
    made = [one for one in said.data["vms"] if one["ok"]] if said.out else []
    try:
        yield made
    finally:
        for one in made:
            deleted = await vmlab(origin.store, "delete", one["uuid"], "--yes")
            assert deleted.status == 0, deleted
            assert {left.what for left in await things_of(origin.store, host, one["uuid"])} <= {"port"}


async def shown(lab: Lab, uuid: str) -> tuple[str, str, str, float, int, int, float]:
    """Host name, machine id, hosts, clock, the counter's process and number, uptime.

    The clock as the seconds by which it is certainly wrong: it was asked between two looks at ours.
    """
    asked = time.time()
    async with connect(endpoint_of(lab, uuid), timeout=60) as guest:
        said = (await guest.execute(_SHOW)).out.decode().splitlines()
        answered = time.time()
    if len(said) == 7:
        said.insert(1, "")  # it had no machine id
    name, ident, hosts, clock, pid, count, counts, uptime = said
    assert counts == "counts"
    wrong = max(asked - int(clock), int(clock) - answered, 0)
    return name, ident, hosts, wrong, int(pid), int(count), float(uptime)


async def test_a_running_vm_is_forked_from_now(origin: Origin, host: Host) -> None:
    lab, pin = origin.lab, vm_dir(origin.store, origin.uuid).known_host.read_text()
    name, _, _, _, pid, count, uptime = await shown(lab, origin.uuid)
    before = await host.snapshots(origin.uuid)
    said = await origin.fork(origin.name, "--json", "--name", "from-now")
    assert said.status == 0, said
    async with gone_after(origin, host, said) as (made,):
        fork = await shown(lab, made["uuid"])
        again = await shown(lab, origin.uuid)
        assert (again[0], again[4]) == (name, pid), "the original is who it was"
        assert again[5] > count
        assert again[6] > uptime
        assert await host.snapshots(origin.uuid) == before
        assert vm_dir(origin.store, origin.uuid).known_host.read_text() == pin

        assert fork[0] == made["vm"] == "from-now"
        assert len(fork[1]) == 32
        assert "from-now" in fork[2].split()
        assert name not in fork[2].split()
        assert fork[3] < 2
        assert fork[4] == pid, "its memory is the original's"
        assert fork[5] > count

        lease, old = (read_lease(origin.store.vm(uuid)) for uuid in (made["uuid"], origin.uuid))
        assert lease.forked_from is not None
        assert lease.forked_from.uuid == origin.uuid
        assert lease.run_id.startswith("fork-")
        assert (lease.profile, lease.image, lease.user, lease.mac) == (
            old.profile,
            old.image,
            old.user,
            old.mac,
        )
        assert 23 * 3600 < (lease.seconds_left or 0) <= 24 * 3600
        ports = {port.name: port.guest_port for port in lease.ports}
        assert ports == {port.name: port.guest_port for port in old.ports}
        assert not {port.host_port for port in lease.ports} & {port.host_port for port in old.ports}

        endpoint = endpoint_of(lab, made["uuid"])
        with pytest.raises(HostKeyError):
            await Guest(replace(endpoint, host_key=pin.strip())).open(60)
        assert [one.name for one in await host.snapshots(made["uuid"])] == [SNAPSHOT]
        async with connect(endpoint, timeout=60) as guest:
            await guest.execute("hostname changed; echo 0 >/etc/machine-id")
        reverted = await vmlab(origin.store, "snapshot", "revert", made["vm"], SNAPSHOT, "--yes")
        assert reverted.status == 0, reverted
        assert (await shown(lab, made["uuid"]))[:2] == fork[:2], "every snapshot of it is its own"

        told = await vmlab(origin.store, "show", made["vm"])
        assert re.search(f"fork of +{origin.name}@fork-", told.out)
    assert (await shown(lab, origin.uuid))[4] == pid


async def test_snapshots_of_a_vm_that_is_off_several_at_once(origin: Origin, host: Host) -> None:
    lab, disk = origin.lab, vm_dir(origin.store, origin.uuid).disk
    await host.destroy(origin.uuid)
    try:
        digest = sha256_of(disk)
        refused = await origin.fork(origin.name)
        assert refused.status == Exit.REFUSED
        assert f"vmlab fork {origin.name}@provisioned   # it has: clean-boot, provisioned" in refused.err
        said = await origin.fork(f"{origin.name}@provisioned", "--count", "2", "--ttl", "1h", "--json")
        assert said.status == 0, said
        async with gone_after(origin, host, said) as made:
            seen = [await shown(lab, one["uuid"]) for one in made]
            assert [one[0] for one in seen] == [one["vm"] for one in made]
            for at in (0, 1):  # host name, machine id
                assert len({one[at] for one in seen}) == 2
            assert all(one[3] < 5 for one in seen)
            for field in ("run", "ssh", "expires"):
                assert all(one[field] for one in made)
            pins = {vm_dir(origin.store, one["uuid"]).known_host.read_text() for one in made}
            assert len(pins) == 2
        assert sha256_of(disk) == digest
        assert await host.power(origin.uuid) is Power.OFF
    finally:
        await host.revert(origin.uuid, "provisioned")


async def test_one_that_fails_stops_no_other_and_leaves_nothing(origin: Origin, host: Host) -> None:
    said = await origin.fork(
        f"{origin.name}@provisioned", "--count", "1", "--json", fault="fork.defined:fail"
    )
    assert said.status == Exit.LAB
    (entry,) = said.data["vms"]
    assert entry["ok"] is False
    assert entry["error"].startswith(f"fork {entry['vm']}: fault injected")
    assert await things_of(origin.store, host, entry["uuid"]) == []
    assert [path.name for path in origin.store.vms.iterdir()] == [origin.uuid]


async def test_ctrl_c_takes_back_what_is_not_ready(origin: Origin, host: Host) -> None:
    base = await host.snapshots(origin.uuid)
    words = ["fork", origin.name, "--count", "2", "--name", "called-off"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vmlab_tui", *words,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**os.environ, "VMLAB_STORE": str(origin.store.root)},
    )  # fmt: skip
    assert process.stderr is not None
    while line := await process.stderr.readline():
        if b"waking up" in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert out == b""
    assert [path.name for path in origin.store.vms.iterdir()] == [origin.uuid]
    assert not [one for one in await host.domains() if one.name.startswith("called-off")]
    assert await host.snapshots(origin.uuid) == base
    assert await host.power(origin.uuid) is Power.ON


async def test_a_paused_vm_is_forked_and_stays_paused(origin: Origin, host: Host) -> None:
    await host.suspend(origin.uuid)
    try:
        said = await origin.fork(origin.name, "--json")
        assert said.status == 0, said
        async with gone_after(origin, host, said) as (made,):
            assert await host.power(made["uuid"]) is Power.ON
            assert (await shown(origin.lab, made["uuid"]))[0] == made["vm"]
        assert await host.power(origin.uuid) is Power.PAUSED
    finally:
        await host.resume(origin.uuid)


async def test_what_a_fork_takes_is_said_before(origin: Origin, host: Host) -> None:
    from tests.verbs.vm_bed import context
    from vmlab_tui.verbs.fork import room
    from vmlab_tui.verbs.registry import by_id
    from vmlab_tui.verbs.verb import Args

    ctx, _ = context(origin.lab)
    args = Args({"vm": f"{origin.name}@provisioned", "count": "3"})
    preview = await by_id("vm.fork").preview(ctx, args)
    assert preview.loses == ()
    first, second = preview.lines
    assert first == f"3 VMs are forked from {origin.name}, from its snapshot 'provisioned'"
    assert "and 576M of memory" in second
    inventory = await take_inventory(origin.lab, host)
    vm = inventory.vm(origin.uuid)
    assert vm is not None
    assert vm.domain is not None
    facts = await host.facts()
    for memory, answer in ((facts.memory_free + (64 << 20), "will swap"), (facts.memory_total + 1, "")):
        big = replace(vm, disks=(), domain=replace(vm.domain, memory=memory))
        if shutil.disk_usage(origin.store.root).free < memory + (2 << 30):
            pytest.skip("a disk that full refuses for its own reason")
        if answer:
            assert answer in await room(ctx, host, big, 1)
        else:
            with pytest.raises(Refused, match="the machine has"):
                await room(ctx, host, big, 1)


# -- killed --------------------------------------------------------------------------------------


async def killed(origin: Origin, point: str) -> str:
    """Kill ``vmlab fork`` at ``point``; the uuid of the one VM that is there now, or nothing."""
    ref = origin.name if point in FROM_NOW else f"{origin.name}@provisioned"
    name = point.replace(".", "-")
    said = await origin.fork(ref, "--name", name, fault=f"{point}:kill")
    assert said.status == -9, f"{point}: not reached: {said}"
    listed = (await vmlab(origin.store, "ls", "--own", "--json")).data
    found = [one for one in listed["vms"] if one["name"] == name]
    return found[0]["uuid"] if found else ""


def left_of(store: Store, uuid: str) -> list[str]:
    ports = json.loads(store.ports.read_bytes())["ports"]
    found = [port for port, owner in ports.items() if owner.startswith(uuid)]
    return found + [str(path) for path in store.vms.rglob("*") if uuid in str(path)]


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_sync_point(origin: Origin, host: Host, point: str) -> None:
    lab, store = origin.lab, origin.store
    base = {one.name for one in await host.snapshots(origin.uuid)}
    folders = set(store.vms.iterdir())
    uuid = await killed(origin, point)
    assert await host.power(origin.uuid) is Power.ON
    count = (await shown(lab, origin.uuid))[5]
    marks = [one for one in await host.snapshots(origin.uuid) if one.name not in base]
    assert bool(marks) == (point in FROM_NOW)
    for mark in marks:
        assert "vmlab fork" in mark.description
        dropped = await vmlab(store, "snapshot", "delete", origin.name, mark.name, "--yes")
        assert dropped.status == 0, dropped
    if point == "fork.directory":
        (empty,) = set(store.vms.iterdir()) - folders
        os.utime(empty, (0, 0))  # the next fork takes it away, once nobody can be at work in it
        said = await origin.fork(f"{origin.name}@provisioned", "--json")
        async with gone_after(origin, host, said):
            assert not empty.exists()
    elif point != "fork.marked":
        assert uuid, f"{point}: nothing tells of what is there"
        things = {thing.what for thing in await things_of(store, host, uuid)}
        assert ("domain" in things) == (point in AFTER_DEFINING), point
        deleted = await vmlab(store, "delete", uuid, "--yes", "--json")
        assert deleted.status == 0, deleted
        assert await host.domain(uuid) is None
        emptied = await vmlab(store, "trash", "empty", deleted.data["vms"][0]["entry"], "--yes")
        assert emptied.status == 0, emptied
        assert left_of(store, uuid) == []
    assert set(store.vms.iterdir()) == folders
    async with asyncio.timeout(20):  # it counts once a second, and all this may have taken less
        while (await shown(lab, origin.uuid))[5] <= count:
            pass


AFTER_DEFINING = ("fork.defined", "fork.woken", "fork.own", "fork.bare", "fork.settled")


# -- Debian --------------------------------------------------------------------------------------


async def test_debian_keeps_its_identity_over_a_reboot(host: Host, debian_template: Vm) -> None:
    """And cloud-init's own error at that boot is read: a script of each boot's fails, nothing else."""
    vm, store = debian_template, debian_template.store
    lab = Lab(URI, store)
    entry = (await take_inventory(lab, host, snapshots=True)).vm(vm.uuid)
    assert entry is not None
    source, uuid = await source_of(lab, host, entry, vm.snapshot), new_uuid()
    fork = await make_fork(lab, host, source, "debian-fork", uuid, ttl=600, on_stage=lambda text: None)
    try:
        assert fork.notes == ()
        await settle(host, fork)
        assert [one.name for one in await host.snapshots(uuid)] == [SNAPSHOT]
        show = (
            "hostname; cat /etc/hostname /etc/machine-id; getent hosts debian-fork | wc -l;"
            " ls /etc/ssh/ssh_host_* | wc -l; cat /var/lib/cloud/data/instance-id"
        )
        async with connect(fork.endpoint, timeout=60) as guest:
            before = (await guest.execute(show)).out.decode().split()
            assert before[:2] == ["debian-fork", "debian-fork"]
            assert before[3:] == ["1", "2", vm.uuid]
            fails = "/var/lib/cloud/scripts/per-boot/fails"
            await guest.execute(f"printf '#!/bin/sh\\nexit 3\\n' >{fails} && chmod 755 {fails}")
            booted = await boot_id(guest)

            async def alive() -> bool:
                return await host.power(uuid) is Power.ON

            fresh = await reboot(guest, booted, Deadline(600), lambda *_: None, lambda: "", alive)
        async with fresh:
            ended = await wait_cloud_init(fresh, Deadline(400), lambda stage: None)
            after = (await fresh.execute(show)).out.decode().split()
            assert after == before
            assert ended.state is CloudInitState.ERROR
            assert ended.errors
            assert all("scripts" in one and "fails" in one for one in ended.errors), ended
    finally:
        await remove_vm(store, host, uuid, fork.lease.run_id)
