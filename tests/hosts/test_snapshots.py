"""Going back and forking on the real libvirtd; the guest counts aloud, so its memory can be heard."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.fork import copy_disk, define_fork, drop_other_snapshots, fork, origin_of
from vmlab_tui.hosts.host import can_time_travel
from vmlab_tui.hosts.model import Forward, Mark, Power

pytestmark = pytest.mark.guest


def netdev_of(name: str) -> str:
    """The -netdev argument of the QEMU that runs now."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:
            continue
        own = any(f"guest={name}".encode() in word for word in words)
        if own and words[0].endswith(b"qemu-system-x86_64"):
            return next(word.decode() for word in words if word.startswith(b"user,"))
    raise AssertionError(f"no QEMU of {name}")


def listens(port: int) -> bool:
    return f"127.0.0.1:{port} " in subprocess.run(["ss", "-ltn"], capture_output=True, text=True).stdout


async def test_revert_brings_memory_and_network_back(bench: Any) -> None:
    host, spec = bench.host, bench.spec(bench.ticker())
    port = spec.forwards[0].host_port
    await host.define(spec)
    await host.start(spec.uuid)
    await bench.ticked(spec, 5)
    before = bench.numbers(spec.console_log)[-1]
    await host.create_snapshot(spec.uuid, "clean-boot", "after \x1b the boot <&>")
    at = bench.numbers(spec.console_log)[-1]
    await bench.ticked(spec, 40, since=at)
    await host.revert(spec.uuid, "clean-boot")

    def after() -> list[int]:
        """What it has counted since it went back; before, it may have gone on for a while."""
        told = bench.numbers(spec.console_log)
        cut = [place for place, (one, next_) in enumerate(pairwise(told), 1) if next_ < one]
        return told[cut[-1] :] if cut else []

    await bench.until(lambda: len(after()) > 1)
    assert before <= after()[0] <= at + 30, "the guest's memory is that of the snapshot"
    assert await host.power(spec.uuid) is Power.ON
    assert listens(port)
    assert "restrict=on" in netdev_of(spec.name)
    (snapshot,) = await host.snapshots(spec.uuid)
    assert snapshot.description == "after ? the boot <&>"
    assert (snapshot.memory, snapshot.external, snapshot.current) == (True, False, True)
    assert (await host.domain(spec.uuid, snapshots=True)).snapshots == (snapshot,)


async def test_tree_delete_and_absence(bench: Any) -> None:
    host, spec = bench.host, bench.spec(bench.ticker())
    await host.define(spec)
    await host.create_snapshot(spec.uuid, "off")
    await host.start(spec.uuid)
    await host.create_snapshot(spec.uuid, "on")
    with pytest.raises(UsageError, match="'on' already"):
        await host.create_snapshot(spec.uuid, "on")
    off, on = await host.snapshots(spec.uuid)
    assert (off.parent, off.power, off.memory) == (None, Power.OFF, False)
    assert (on.parent, on.power, on.memory) == ("off", Power.ON, True)
    with pytest.raises(NotFound, match="none"):
        await host.revert(spec.uuid, "none")
    assert await host.delete_snapshot(spec.uuid, "off") is True
    assert await host.delete_snapshot(spec.uuid, "off") is False
    assert [one.name for one in await host.snapshots(spec.uuid)] == ["on"]
    await host.destroy(spec.uuid)
    assert await host.undefine(spec.uuid) is True  # its snapshots do not hold it back


async def test_time_travel_is_read_from_versions() -> None:
    assert can_time_travel("bios", "qcow2", (9, 0, 0)) == ""
    assert "raw" in can_time_travel("bios", "raw", (11, 0, 0))
    assert "10.10" in can_time_travel("uefi", "qcow2", (10, 9, 0))
    assert can_time_travel("uefi", "qcow2", (10, 10, 0)) == ""


async def test_libvirt_here_agrees_that_uefi_has_no_time_travel(bench: Any) -> None:
    reason = await bench.host.can_time_travel("uefi", "qcow2")
    if not reason:
        pytest.skip("libvirt here can")
    spec = bench.spec(bench.ticker(), firmware="uefi", memory=256 << 20)
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    with pytest.raises(LabError) as caught:
        await bench.host.create_snapshot(spec.uuid, "one")
    assert "UEFI" in caught.value.hint


def fork_spec(bench: Any, source: Any, **changes: Any) -> Any:
    made = bench.spec(bench.ticker(), **changes)
    made.disk.unlink()
    return replace(made, chain=source.chain, mark=Mark("0.1", "run-2", str(bench.root)))


async def test_fork_goes_on_from_the_memory_snapshot(bench: Any) -> None:
    host, source = bench.host, bench.spec(bench.ticker())
    await host.define(source)
    await host.start(source.uuid)
    await bench.ticked(source, 5)
    before = bench.numbers(source.console_log)[-1]
    await host.create_snapshot(source.uuid, "warm")
    at = bench.numbers(source.console_log)[-1]
    await bench.ticked(source, 40, since=at)
    twins = [fork_spec(bench, source), fork_spec(bench, source)]
    for twin in twins:
        await fork(host, source.uuid, "warm", twin)
    for twin in twins:
        lines = await bench.ticked(twin, 3, since=1)
        assert before <= lines[0] <= at + 30
        seen = await host.domain(twin.uuid, snapshots=True)
        assert (seen.name, seen.power, seen.mark.run_id) == (twin.name, Power.ON, "run-2")
        assert set(seen.files) == {twin.disk, source.chain[0][0], twin.seed, twin.console_log}
        assert [one.name for one in seen.snapshots] == ["warm"]
        assert listens(twin.forwards[0].host_port)
        assert f":{twin.forwards[0].host_port}-" in netdev_of(twin.name)
        assert "restrict=on" in netdev_of(twin.name)
    assert await host.power(source.uuid) is Power.ON
    assert listens(source.forwards[0].host_port)
    check = subprocess.run(["qemu-img", "check", "-U", twins[0].disk], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    await host.revert(twins[0].uuid, "warm")  # a fork can go back as well
    assert listens(twins[0].forwards[0].host_port)


async def test_fork_from_a_vm_that_is_off(bench: Any) -> None:
    host, source = bench.host, bench.spec(bench.ticker())
    await host.define(source)
    await host.create_snapshot(source.uuid, "cold")
    await host.start(source.uuid)
    await bench.ticked(source, 3)
    await host.create_snapshot(source.uuid, "warm")
    await host.destroy(source.uuid)
    twin = fork_spec(bench, source, forwards=(Forward("ssh", source.forwards[0].host_port, 22),))
    with pytest.raises(UsageError, match="no memory"):
        await fork(host, source.uuid, "cold", twin)
    await fork(host, source.uuid, "warm", twin)
    assert (await bench.ticked(twin, 2, since=1))[0] > 0
    assert await host.power(source.uuid) is Power.OFF


def generation(xml: str) -> str:
    found = re.search("<genid>(.*)</genid>", xml)
    assert found
    return found[1]


def names_in(disk: Path) -> list[str]:
    listed = subprocess.run(["qemu-img", "snapshot", "-U", "-l", disk], capture_output=True, text=True)
    return [line.split()[1] for line in listed.stdout.splitlines()[2:]]


async def test_a_guest_is_told_that_it_went_back(bench: Any) -> None:
    host, source = bench.host, bench.spec(bench.ticker())
    await host.define(source)
    await host.start(source.uuid)
    await bench.ticked(source, 2)
    first = generation(await host.domain_xml(source.uuid))
    await host.create_snapshot(source.uuid, "warm")
    await host.revert(source.uuid, "warm")
    second = generation(await host.domain_xml(source.uuid))
    twin = fork_spec(bench, source)
    await fork(host, source.uuid, "warm", twin)
    stored = generation(await host.domain_xml(twin.uuid, inactive=True))
    assert len({first, second, stored, generation(await host.domain_xml(twin.uuid))}) == 4
    await host.destroy(source.uuid)
    await host.start(source.uuid)
    assert generation(await host.domain_xml(source.uuid)) == first, "starting anew is not going back"


async def test_pieces_again_and_without_the_source(bench: Any, tmp_path: Path) -> None:
    host, source = bench.host, bench.spec(bench.ticker())
    await host.define(source)
    await host.start(source.uuid)
    for name in ("early", "warm", "late"):
        await bench.ticked(source, 2)
        await host.create_snapshot(source.uuid, name)
    origin = await origin_of(host, source.uuid, "warm")
    assert origin.disk == source.disk
    with pytest.raises(NotFound):
        await origin_of(host, source.uuid, "none")
    kept = bench.root / "kept.qcow2"
    await copy_disk(host, source.uuid, origin.disk, kept)
    assert await host.power(source.uuid) is Power.ON
    with pytest.raises(LabError, match="'none'"):
        await drop_other_snapshots(kept, "none")
    await drop_other_snapshots(kept, "warm")
    assert names_in(kept) == ["warm"]
    assert names_in(source.disk) == ["early", "warm", "late"]
    await host.destroy(source.uuid)
    await host.undefine(source.uuid)
    twin = fork_spec(bench, source)
    origin = replace(origin, disk=kept)
    await copy_disk(host, None, kept, twin.disk)
    for _ in range(2):
        await define_fork(host, origin, twin)
        assert await host.power(twin.uuid) is Power.OFF
    await host.revert(twin.uuid, "warm")
    assert await bench.ticked(twin, 2, since=1)
    await define_fork(host, origin, twin)  # as after a crash that came late
    assert await host.power(twin.uuid) is Power.ON
    await host.revert(twin.uuid, "warm")
    assert [one.name for one in await host.snapshots(twin.uuid)] == ["warm"]


async def test_copies_of_one_disk_do_not_meet(bench: Any) -> None:
    host, source = bench.host, bench.spec(bench.ticker())
    await host.define(source)
    await host.start(source.uuid)
    await bench.ticked(source, 2)
    targets = [bench.root / f"copy{number}" for number in range(4)]
    await asyncio.gather(*(copy_disk(host, source.uuid, source.disk, target) for target in targets))
    assert await host.power(source.uuid) is Power.ON
    for target in targets:
        subprocess.run(["qemu-img", "check", "-q", target], check=True)


_KILLED = """
import asyncio, sys
from pathlib import Path
from vmlab_tui.hosts.fork import copy_disk
from vmlab_tui.hosts.host import Host

async def main():
    async with Host.open(sys.argv[1]) as host:
        await copy_disk(host, sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))

asyncio.run(main())
"""


async def test_the_source_goes_on_when_who_copies_is_killed(bench: Any) -> None:
    host, source = bench.host, bench.spec(bench.ticker())
    await host.define(source)
    await host.start(source.uuid)
    await bench.ticked(source, 2)
    target = bench.root / "copy"
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _KILLED, bench.uri, source.uuid, source.disk, target],
        env={**os.environ, "VMLAB_FAULT": "fork.source-still:kill"},
    )
    assert died.returncode == -9
    await bench.ticked(source, 3, since=len(bench.numbers(source.console_log)))
    assert await host.power(source.uuid) is Power.ON
    assert not target.exists()
