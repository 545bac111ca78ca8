"""Going back by the command line on a real guest, also after the command was killed half way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import vmlab_tui.lab.rewind  # noqa: F401 - declares the sync points of going back
from tests.runs.command import vmlab
from tests.support import lab
from vmlab_tui.base.faults import POINTS
from vmlab_tui.guests.ssh import connect
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power
from vmlab_tui.lab.leases import Lease, PortLease, now, write_lease

pytestmark = pytest.mark.guest

KILLED_AT = sorted(name for name in POINTS if name.startswith("revert."))


@pytest.fixture
async def vm(host: Host, tiny_template: lab.Vm) -> AsyncIterator[lab.Vm]:
    """A running tiny guest with a lease, whose run is gone; its files are all in its memory."""
    made = await lab.fork_of(host, tiny_template)
    try:
        made.folder.known_host.write_text(made.endpoint.host_key + "\n")
        write_lease(
            made.store,
            Lease(
                uuid=made.uuid,
                name=made.spec.name,
                run_id="gone-20260102-131415-7f3a",
                profile="gone",
                image="tiny",
                owner="me",
                created=now(),
                user=made.endpoint.user,
                ports=(PortLease(name="ssh", host_port=made.endpoint.port, guest_port=22),),
            ),
        )
        yield made
    finally:
        await lab.remove(host, made)


async def say(vm: lab.Vm, script: str) -> str:
    async with connect(vm.endpoint, timeout=60) as guest:
        return (await guest.execute(script, timeout=60)).out.decode().strip()


async def do(vm: lab.Vm, *words: str) -> Any:
    said = await vmlab(vm.store, *words, "--json")
    assert said.status == 0, (words, said.out, said.err)
    return said.data


async def level(vm: lab.Vm, number: int) -> None:
    """What its memory says from now on, and a process that counts in it."""
    count = f"while echo $((n=n+1)) > /root/count{number}; do sleep 0.5; done"
    await say(
        vm, f"echo {number} > /root/level; nohup sh -c '{count}' > /dev/null 2>&1 & echo $! > /root/pid"
    )


async def test_a_tree_of_moments_from_create_to_delete(host: Host, vm: lab.Vm) -> None:
    name = vm.spec.name
    for number in (1, 2, 3):
        await level(vm, number)
        await do(vm, "snapshot", "create", name, f"s{number}", "--description", f"level {number}")
    pids = {}
    for number in (2, 3, 1):
        back = await do(vm, "snapshot", "revert", name, f"s{number}", "--yes")
        assert (back["power"], back["clock"], back["in_place"]) == ("on", None, False)
        look = f"cat /root/level /root/pid; date +%s; cat /root/count{number}; ls /root/count*"
        said, pid, clock, count, *counts = (await say(vm, look)).split()
        assert said == str(number)
        assert counts == [f"/root/count{one}" for one in range(1, number + 1)]
        assert abs(int(clock) - time.time()) < 10
        pids[number] = pid
        assert int(await say(vm, f"sleep 1; cat /root/count{number}")) > int(count), "the process goes on"
    assert len(set(pids.values())) == 3
    listed = {one["name"]: one for one in (await do(vm, "snapshot", "list", name))["snapshots"]}
    assert [listed[f"s{number}"]["parent"] for number in (2, 3)] == ["s1", "s2"]
    assert listed["s1"]["current"] is True
    assert all(one["size"] > 20 << 20 for one in listed.values() if one["memory"])
    safeties = [one for one in listed if one.startswith("before-revert-")]
    assert len(safeties) == 2

    await do(vm, "snapshot", "describe", name, "s2", "the middle")
    deleted = await do(vm, "snapshot", "delete", name, "s2", "--yes")
    assert deleted["freed"] > 20 << 20
    listed = {one["name"]: one for one in (await do(vm, "snapshot", "list", name))["snapshots"]}
    assert listed["s3"]["parent"] == "s1"
    assert await say(vm, "cat /root/level") == "1", "the present stays"

    await do(vm, "off", name, "--yes")
    undone = await do(vm, "snapshot", "revert", name, "s3", "--then", "off", "--no-safety", "--yes")
    assert (undone["power"], undone["safety"]) == ("off", None)
    await do(vm, "snapshot", "revert", name, "s3", "--then", "paused", "--yes")
    assert await host.power(vm.uuid) is Power.PAUSED


async def killed(vm: lab.Vm, *words: str, point: str) -> None:
    said = await vmlab(vm.store, *words, VMLAB_FAULT=f"{point}:kill")
    assert said.status == -signal.SIGKILL, (point, said)


async def test_a_command_killed_half_way_leaves_what_a_second_one_handles(host: Host, vm: lab.Vm) -> None:
    assert len(KILLED_AT) == 3
    name, revert = vm.spec.name, ("snapshot", "revert", vm.spec.name, "one", "--yes")
    await level(vm, 1)
    await do(vm, "snapshot", "create", name, "one")
    for point in KILLED_AT:
        await level(vm, 2)
        await killed(vm, *revert, point=point)
        back = await do(vm, *revert)
        assert (back["power"], back["clock"]) == ("on", None)
        assert await say(vm, "cat /root/level") == "1"
    await say(vm, "echo 3 > /root/level")
    safeties = [one.name for one in await host.snapshots(vm.uuid) if one.name.startswith("before-")]
    assert len(safeties) == 2, "those of the commands that were killed go as well"
    assert back["safety"] == safeties[-1]
    await do(vm, "snapshot", "revert", name, safeties[0], "--yes")
    assert await say(vm, "cat /root/level") in ("1", "2"), "what the last one found that was killed"


async def test_a_snapshot_whose_command_is_killed_is_whole_or_not_there(host: Host, vm: lab.Vm) -> None:
    await level(vm, 1)
    command = [sys.executable, "-m", "vmlab_tui", "snapshot", "create", vm.spec.name, "one"]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "VMLAB_STORE": str(vm.store.root)}
    )
    while process.returncode is None and await host.power(vm.uuid) is Power.ON:
        await asyncio.sleep(0.002)
    if process.returncode is None:
        process.kill()  # the guest stands still, its memory is being written
    await process.wait()
    async with asyncio.timeout(30):
        while await host.power(vm.uuid) is not Power.ON:
            await asyncio.sleep(0.05)
    await level(vm, 2)
    if "one" not in [snap.name for snap in await host.snapshots(vm.uuid)]:
        await do(vm, "snapshot", "create", vm.spec.name, "one")
        await level(vm, 3)
    await do(vm, "snapshot", "revert", vm.spec.name, "one", "--yes")
    assert await say(vm, "cat /root/level") in ("1", "2")
