"""Going back in place and by libvirt's way come to the same, on the real libvirtd.

In place is for KVM, which not every machine has; the tests let emulated guests have it too. These guests
count aloud and look at no clock, so the TSC, which is why it is not done for others, is nothing to them.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.hosts.test_snapshots import listens, netdev_of
from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts import rewind
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.model import Accel, Power, Then
from vmlab_tui.hosts.xml import domain_xml
from vmlab_tui.images.header import inspect

pytestmark = pytest.mark.guest

POWER = {Then.RUNNING: Power.ON, Then.PAUSED: Power.PAUSED, Then.OFF: Power.OFF}


@pytest.fixture(params=["in place", "libvirt"])
def in_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether running guests go back in place, here also emulated ones."""
    wanted = bool(request.param == "in place")
    monkeypatch.setattr(rewind, "IN_PLACE", frozenset({"kvm", "qemu"} if wanted else {"kvm"}))
    return wanted


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running guests go back in place, also emulated ones."""
    monkeypatch.setattr(rewind, "IN_PLACE", frozenset({"kvm", "qemu"}))


def virsh(*words: str) -> str:
    done = subprocess.run(
        ["virsh", "-q", "-c", "qemu:///system", *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


async def running(bench: Any, **changes: Any) -> Any:
    spec = bench.spec(bench.ticker(), **changes)
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    await bench.ticked(spec, 3)
    return spec


async def marked(bench: Any, spec: Any, name: str) -> range:
    """Take a snapshot and let the guest count on; the numbers one of which it must go on with."""
    before = bench.numbers(spec.console_log)[-1]
    await bench.host.create_snapshot(spec.uuid, name)
    at = bench.numbers(spec.console_log)[-1]
    await bench.until(lambda: bench.numbers(spec.console_log)[-1] > at + 10)
    return range(before, at + 8)


async def went_on(bench: Any, spec: Any, since: int) -> int:
    """What the guest counts after the leap in its count, which comes somewhere after the line ``since``."""

    def found() -> list[int]:
        seen = bench.numbers(spec.console_log)[since - 1 :]
        leaps = [at for at in range(1, len(seen)) if seen[at] != seen[at - 1] + 1]
        # the line at the leap itself may be of both
        return [seen[leaps[-1] + 1]] if leaps and len(seen) > leaps[-1] + 1 else []

    return int((await bench.until(found))[0])


def lines(bench: Any, spec: Any) -> int:
    return len(bench.numbers(spec.console_log))


def settled(xml: str) -> str:
    """A running domain's XML without what every start makes anew."""
    text = re.sub(r" id='\d+'| port='59\d\d'|domain-\d+-|/dev/pts/\d+|<genid>[^<]*</genid>", "", xml)
    return re.sub(r"index='\d+'", "", text)


async def test_a_tree_three_deep_with_memory(bench: Any, everywhere: None) -> None:
    host, spec = bench.host, await running(bench)
    known = {name: await marked(bench, spec, name) for name in ("a", "b", "c")}
    tree = [("a", None), ("b", "a"), ("c", "b")]
    for name in ("b", "a", "c", "b"):
        since = lines(bench, spec)
        assert await host.revert(spec.uuid, name) is True
        assert await went_on(bench, spec, since) in known[name]
        found = await host.snapshots(spec.uuid)
        assert [(one.name, one.parent) for one in found] == tree
        assert [one.name for one in found if one.current] == [name]
        assert await host.power(spec.uuid) is Power.ON
    assert listens(spec.forwards[0].host_port)
    assert "restrict=on" in netdev_of(spec.name)
    await host.create_snapshot(spec.uuid, "d")
    assert next(one.parent for one in await host.snapshots(spec.uuid) if one.name == "d") == "b"
    told = json.loads(
        subprocess.run(
            ["qemu-img", "info", "-U", "--output=json", spec.disk], capture_output=True, check=True
        ).stdout
    )
    sizes = {one["name"]: one["vm-state-size"] for one in told["snapshots"]}
    assert dict(inspect(spec.disk).saved) == sizes
    assert all(sizes.values())
    await host.destroy(spec.uuid)
    assert (
        "No errors" in subprocess.run(["qemu-img", "check", spec.disk], capture_output=True, text=True).stdout
    )


async def test_libvirt_says_the_same_after_either_way(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host, spec = bench.host, await running(bench)
    await host.create_snapshot(spec.uuid, "one")
    virsh("snapshot-revert", spec.uuid, "one")
    theirs = await host.domain_xml(spec.uuid), await host.domain_xml(spec.uuid, inactive=True)
    snapshot = await host.snapshot_xml(spec.uuid, "one")
    await host.create_snapshot(spec.uuid, "two")
    monkeypatch.setattr(rewind, "IN_PLACE", frozenset({"qemu"}))
    assert await host.revert(spec.uuid, "one") is True
    assert (await host.domain_xml(spec.uuid), await host.domain_xml(spec.uuid, inactive=True)) == theirs
    assert await host.snapshot_xml(spec.uuid, "one") == snapshot
    assert virsh("domstate", spec.uuid) == "running"
    assert virsh("snapshot-current", "--name", spec.uuid) == "one"
    virsh("snapshot-revert", spec.uuid, "two")
    assert virsh("snapshot-current", "--name", spec.uuid) == "two"
    assert settled(await host.domain_xml(spec.uuid)) == settled(theirs[0])
    # libvirt still hears what the guest's QEMU does by itself
    virsh("qemu-monitor-command", "--hmp", spec.uuid, "stop")
    assert await host.power(spec.uuid) is Power.PAUSED


async def test_it_ends_as_asked_from_wherever_it_starts(bench: Any, in_place: bool) -> None:
    host, spec = bench.host, bench.spec(bench.ticker())
    await host.define(spec)
    await host.create_snapshot(spec.uuid, "disk")
    await host.start(spec.uuid)
    await bench.ticked(spec, 1)
    await host.create_snapshot(spec.uuid, "memory")
    await host.suspend(spec.uuid)
    await host.create_snapshot(spec.uuid, "still")
    as_it_was = {"disk": Power.OFF, "memory": Power.ON, "still": Power.PAUSED}

    async def check(present: Power, name: str, then: Then | None) -> None:
        if present is Power.OFF:
            await host.destroy(spec.uuid)
        else:
            await host.start(spec.uuid)
            await (host.resume if present is Power.ON else host.suspend)(spec.uuid)
        done = await host.revert(spec.uuid, name, then=then)
        told = (present, name, then)
        assert done is (in_place and present is not Power.OFF and name != "disk"), told
        assert await host.power(spec.uuid) is (POWER[then] if then else as_it_was[name]), told
        assert [one.name for one in await host.snapshots(spec.uuid) if one.current] == [name], told

    for name, then in (
        ("memory", None),
        ("memory", Then.PAUSED),
        ("memory", Then.OFF),
        ("disk", Then.RUNNING),
    ):
        await check(Power.ON, name, then)
    await check(Power.OFF, "memory", Then.RUNNING)
    await check(Power.PAUSED, "still", None)
    if not in_place:
        return  # libvirt's way is the same from anywhere
    for name, then in (("still", Then.RUNNING), ("still", Then.OFF), ("disk", None), ("disk", Then.PAUSED)):
        await check(Power.ON, name, then)
    for name, then in (("memory", None), ("memory", Then.OFF), ("still", None), ("disk", None)):
        await check(Power.PAUSED, name, then)


async def test_a_revert_behind_our_back_is_seen_and_can_be_gone_on_from(bench: Any, everywhere: None) -> None:
    host, spec = bench.host, await running(bench)
    one = await marked(bench, spec, "one")
    await marked(bench, spec, "two")
    virsh("snapshot-revert", spec.uuid, "one", "--paused")
    assert [snap.name for snap in await host.snapshots(spec.uuid) if snap.current] == ["one"]
    since = lines(bench, spec)
    assert await host.revert(spec.uuid, "two", then=Then.PAUSED) is True
    assert await host.revert(spec.uuid, "one") is True
    assert await went_on(bench, spec, since) in one


async def test_another_machine_than_then_goes_libvirts_way(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, spec = bench.host, await running(bench)
    await bench.host.create_snapshot(spec.uuid, "one")
    assert await host.revert(spec.uuid, "one") is False, "emulated"
    monkeypatch.setattr(rewind, "IN_PLACE", frozenset({"qemu"}))
    assert await host.revert(spec.uuid, "one") is True
    assert await host.revert(spec.uuid, "one", force=True) is False
    await host.define(replace(spec, description="changed since"))
    assert await host.revert(spec.uuid, "one") is False
    stored = await host.domain_xml(spec.uuid, inactive=True)
    assert "changed since" not in stored, "the definition goes back too"
    assert await host.revert(spec.uuid, "one") is True


async def test_with_kvm_it_is_in_place(bench: Any) -> None:
    spec = bench.spec(bench.ticker(), accel=Accel.KVM)
    root = ET.fromstring(domain_xml(spec))
    cpu = root.find("cpu")
    assert cpu is not None
    cpu.attrib = {"mode": "custom", "match": "exact", "check": "none"}  # a CPU that any KVM can do
    ET.SubElement(cpu, "model", fallback="allow").text = "qemu64"
    ET.SubElement(cpu, "feature", policy="disable", name="svm")
    host = bench.host
    try:
        await host.define_xml(ET.tostring(root, encoding="unicode"), spec.name)
        await host.start(spec.uuid)
    except LabError as error:
        pytest.skip(f"no KVM here: {error.message}")
    await bench.ticked(spec, 3)
    known = await marked(bench, spec, "one")
    since = lines(bench, spec)
    assert await host.revert(spec.uuid, "one") is True
    assert await went_on(bench, spec, since) in known


async def test_a_description_changes_and_nothing_else(bench: Any) -> None:
    host, spec = bench.host, await running(bench)
    await host.create_snapshot(spec.uuid, "one")
    await host.create_snapshot(spec.uuid, "two", "the second")
    before = {name: await host.snapshot_xml(spec.uuid, name) for name in ("one", "two")}
    for name, text in (("one", "fine <&> \x1b"), ("two", ""), ("two", "the second")):
        await host.describe_snapshot(spec.uuid, name, text)
    one, two = await host.snapshots(spec.uuid)
    assert (one.description, one.current) == ("fine <&> ?", False)
    assert (two.description, two.current, two.parent) == ("the second", True, "one")
    assert await host.snapshot_xml(spec.uuid, "two") == before["two"]
    without = re.sub(r"\s*<description>.*</description>", "", await host.snapshot_xml(spec.uuid, "one"))
    assert without == before["one"]
    await host.revert(spec.uuid, "one")
    with pytest.raises(NotFound):
        await host.describe_snapshot(spec.uuid, "three", "x")


async def test_external_snapshots_are_told_and_left_alone(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewind, "EXTERNAL", (99, 0, 0))  # whatever this libvirt can
    host, spec = bench.host, bench.spec(bench.ticker())
    await host.define(spec)
    await host.create_snapshot(spec.uuid, "inside")
    over = Path(f"{spec.disk}.over")
    virsh("snapshot-create-as", spec.uuid, "outside", "--disk-only", "--diskspec", f"vda,file={over}")
    inside, outside = await host.snapshots(spec.uuid)
    assert (inside.external, outside.external, outside.files) == (False, True, (over,))
    for why in (
        await host.why_not_back(spec.uuid, "outside"),
        await host.why_not_delete(spec.uuid, "outside"),
    ):
        assert str(over) in why
        assert re.search(r"libvirt \d+\.\d+\.\d+ cannot", why)
    assert "would spoil what stands on that" in await host.why_not_back(spec.uuid, "inside")
    assert await host.why_not_delete(spec.uuid, "inside") == ""


async def test_saved_memory_stands_in_the_way(bench: Any) -> None:
    host, spec = bench.host, await running(bench)
    await host.create_snapshot(spec.uuid, "one")
    assert await host.why_not_back(spec.uuid, "one") == ""
    virsh("managedsave", spec.uuid)
    assert "managedsave" in await host.why_not_back(spec.uuid, "one")
