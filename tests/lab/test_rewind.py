"""Going back with a safety snapshot, a right clock and a way home, on real guests that answer SSH."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.spoil import cut_memory, spoil_memory
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.guests.ssh import connect
from vmlab_tui.hosts import rewind as way
from vmlab_tui.hosts.agentexec import agent_exec
from vmlab_tui.hosts.failures import AgentAway, NotFound
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power, Snapshot, Then
from vmlab_tui.images.header import inspect
from vmlab_tui.lab import rewind, safety
from vmlab_tui.lab.vmverbs import Change, carry_out

PAST = 1_577_880_000
"""2020: where a guest's clock is put before its snapshot is taken."""


@pytest.fixture
async def vm(host: Host, tiny_template: lab.Vm) -> AsyncIterator[lab.Vm]:
    """A running tiny guest, whose files are all in its memory."""
    made = await lab.fork_of(host, tiny_template)
    try:
        yield made
    finally:
        await lab.remove(host, made)


async def say(vm: lab.Vm, script: str) -> str:
    async with connect(vm.endpoint, timeout=60) as guest:
        return (await guest.execute(script, timeout=60)).out.decode().strip()


async def marked(host: Host, vm: lab.Vm) -> None:
    """A snapshot 'one' of a guest whose clock is in the past and whose memory says 1; now it says 2."""
    await say(vm, f"date -u -s @{PAST}; echo 1 > /root/level")
    await host.create_snapshot(vm.uuid, "one")
    await say(vm, "echo 2 > /root/level")


async def names(host: Host, vm: lab.Vm) -> list[str]:
    return [one.name for one in await host.snapshots(vm.uuid) if one.name != lab.READY]


@pytest.mark.guest
async def test_the_present_is_kept_the_clock_is_right_and_two_ways_home_stay(host: Host, vm: lab.Vm) -> None:
    await marked(host, vm)
    first = await rewind.go_back(host, vm.uuid, "one", endpoint=vm.endpoint)
    assert first.safety is not None
    assert re.fullmatch(r"before-revert-\d{6}", first.safety)
    assert (first.power, first.clock, first.pruned) == (Power.ON, "", ())
    level, now = (await say(vm, "cat /root/level; date +%s")).split()
    assert level == "1"
    assert abs(int(now) - time.time()) < 10
    kept = next(one for one in await host.snapshots(vm.uuid) if one.name == first.safety)
    assert (kept.memory, kept.parent, kept.description) == (
        True,
        "one",
        "the present before going back to 'one'",
    )

    undone = await rewind.go_back(host, vm.uuid, first.safety, endpoint=vm.endpoint)
    assert await say(vm, "cat /root/level") == "2"
    third = await rewind.go_back(host, vm.uuid, "one", then=Then.PAUSED)
    assert (third.power, third.pruned) == (Power.PAUSED, (first.safety,))
    assert "paused" in third.clock
    went_on = await carry_out(host, vm.uuid, Change(do="unpause"), vm.endpoint)
    assert (went_on.lines, went_on.data) == ((), {"clock": None})
    assert abs(int(await say(vm, "date +%s")) - time.time()) < 10
    assert await names(host, vm) == ["one", undone.safety, third.safety]
    assert undone.safety
    fourth = await rewind.go_back(host, vm.uuid, undone.safety, then=Then.OFF)
    assert (fourth.power, fourth.clock) == (Power.OFF, "")
    assert fourth.pruned == (), "the one that was gone back to stays"
    await host.describe_snapshot(vm.uuid, undone.safety, "mine")
    fifth = await rewind.go_back(host, vm.uuid, "one", then=Then.OFF, keep_present=False)
    assert fifth.safety is None
    assert await names(host, vm) == ["one", undone.safety, third.safety, fourth.safety]
    sixth = await rewind.go_back(host, vm.uuid, "one", then=Then.OFF)
    assert sixth.pruned == (third.safety,), "what a person has described is the person's"
    memory = {one.name: one.memory for one in await host.snapshots(vm.uuid)}
    assert memory[str(sixth.safety)] is False, "it was off"


@pytest.mark.guest
@pytest.mark.parametrize(("in_place", "spoil"), [(True, spoil_memory), (False, cut_memory)])
async def test_what_cannot_be_loaded_leads_back_to_the_present(
    host: Host,
    vm: lab.Vm,
    in_place: bool,
    spoil: Callable[[Path, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(way, "IN_PLACE", frozenset({"qemu"} if in_place else ()))
    await marked(host, vm)
    spoil(vm.spec.disk, "one")
    with pytest.raises(
        LabError, match="back in its present, from the safety snapshot before-revert"
    ) as caught:
        await rewind.go_back(host, vm.uuid, "one", endpoint=vm.endpoint)
    assert not isinstance(caught.value, Refused)
    assert await host.power(vm.uuid) is Power.ON
    assert await say(vm, "cat /root/level") == "2"
    if in_place:
        await host.suspend(vm.uuid)
        with pytest.raises(LabError, match="back in its present"):
            await rewind.go_back(host, vm.uuid, "one")
        assert await host.power(vm.uuid) is Power.PAUSED
    with pytest.raises(LabError, match="it is off now, and no safety snapshot was wanted"):
        await rewind.go_back(host, vm.uuid, "one", keep_present=False)
    assert await host.power(vm.uuid) is Power.OFF
    if not in_place:  # of one that is off, with nothing but the file to go by
        (newest,) = [one for one in await host.snapshots(vm.uuid) if one.name.startswith("before-revert-")]
        assert newest.memory
        spoil(vm.spec.disk, newest.name)
        with pytest.raises(LabError, match="back in its present, from the safety snapshot before-revert"):
            await rewind.go_back(host, vm.uuid, newest.name)
        assert await host.power(vm.uuid) is Power.OFF
        (now,) = [one for one in await host.snapshots(vm.uuid) if one.current]
        assert (now.memory, now.parent) == (False, newest.name)


@pytest.mark.guest
async def test_without_its_safety_snapshot_nothing_is_touched(
    host: Host, vm: lab.Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await marked(host, vm)
    with pytest.raises(NotFound, match="no snapshot 'two'"):
        await rewind.go_back(host, vm.uuid, "two")
    before = await names(host, vm)
    monkeypatch.setattr(safety, "new_name", lambda taken: "one")  # which cannot be had
    with pytest.raises(Refused, match=r"left as it is: .* has a snapshot 'one' already"):
        await rewind.go_back(host, vm.uuid, "one")
    assert await names(host, vm) == before
    assert await say(vm, "cat /root/level") == "2"


@pytest.mark.guest
async def test_deleting_gives_the_file_system_its_room_back(host: Host, vm: lab.Vm) -> None:
    for name in ("one", "two"):
        await host.create_snapshot(vm.uuid, name)
    sizes = dict(inspect(vm.spec.disk).saved)
    for name in ("one", "two"):  # of a VM that runs, and of one that is off
        freed, lines = await rewind.delete(host, vm.uuid, name)
        assert freed is not None
        assert freed > 0.9 * sizes[name]
        assert "its disk takes" in lines[0]
        await host.destroy(vm.uuid)
    assert await names(host, vm) == []
    with pytest.raises(NotFound):
        await rewind.delete(host, vm.uuid, "one")


@pytest.mark.guest
async def test_a_guest_that_boots_sets_its_clock_by_itself(host: Host, vm: lab.Vm) -> None:
    await host.destroy(vm.uuid)
    await host.create_snapshot(vm.uuid, "off")
    went = await rewind.go_back(host, vm.uuid, "off", then=Then.RUNNING, keep_present=False)
    assert (went.power, went.clock) == (Power.ON, ""), "nobody is asked, who could not answer yet"


@pytest.mark.guest
async def test_a_debian_guests_clock_is_set_by_its_agent(host: Host, debian_template: lab.Vm) -> None:
    vm = await lab.fork_of(host, debian_template)
    try:
        await say(vm, f"date -u -s @{PAST}")
        await host.create_snapshot(vm.uuid, "one")
        went = await rewind.go_back(host, vm.uuid, "one", keep_present=False)  # no endpoint: no SSH
        assert went.clock == ""
        assert abs(int(await say(vm, "date +%s")) - time.time()) < 10
        await say(vm, "systemctl stop qemu-guest-agent")
        assert "no guest agent" in await rewind.set_clock(host, vm.uuid, None)
        with pytest.raises(AgentAway, match="not connected"):
            await agent_exec(host, vm.uuid, ["true"], Deadline(60))
        asked = asyncio.create_task(agent_exec(host, vm.uuid, ["true"], Deadline(60), patience=60))
        await say(vm, "systemctl start qemu-guest-agent")
        assert (await asked).status == 0
    finally:
        await lab.remove(host, vm)


def test_many_snapshots_of_which_some_are_for_safety() -> None:
    def snap(name: str, description: str = "the present before going back to 'x'") -> Snapshot:
        return Snapshot(name, None, description, 0, Power.ON, True, False, False)

    found = [snap("before-revert-000001"), snap("mine"), snap("before-revert-000002"), snap("x")]
    found += [snap("before-revert-000003", "mine"), snap("before-revert-000003-2"), snap("before-revert-x")]
    old = ["before-revert-000001"]
    assert safety.too_many(found, "x") == old
    assert safety.too_many(found, "x", coming=1) == [*old, "before-revert-000002"]
    assert safety.too_many(found, "before-revert-000001") == []
    assert safety.too_many([], "x", coming=1) == []
    taken = {safety.new_name(())}
    assert safety.new_name(taken) not in taken
