"""Forks of one guest become machines of their own: the tiny guest under dropbear, Debian under OpenSSH."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.identity import NoAgent, assume, assume_by_agent, new_identity
from vmlab_tui.guests.ssh import ConnectError, Guest, HostKeyError, connect

if TYPE_CHECKING:
    from tests.support.lab import Vm
    from vmlab_tui.hosts.host import Host

pytestmark = pytest.mark.guest

_SHOW = """
cat /proc/sys/kernel/hostname /etc/hostname /etc/machine-id; echo @@; cat /etc/hosts; echo @@
date -u +%s; echo @@; cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1
"""


@asynccontextmanager
async def twins(host: Host, template: Vm) -> AsyncIterator[tuple[Vm, Vm]]:
    from tests.support import lab

    first = await lab.fork_of(host, template)
    try:
        second = await lab.fork_of(host, template)
        try:
            yield first, second
        finally:
            await lab.remove(host, second)
    finally:
        await lab.remove(host, first)


async def shown(guest: Guest) -> list[str]:
    return (await guest.execute(_SHOW)).out.decode().split("@@\n")


async def again(endpoint: Endpoint) -> Guest:
    """A new connection, as soon as the server is there again."""
    deadline = Deadline(20)
    while True:
        guest = Guest(endpoint)
        try:
            await guest.open(60)
        except ConnectError:
            deadline.check("connect")
        else:
            return guest


async def become(host: Host, vm: Vm, name: str, notes: tuple[str, ...], *, agent: bool = False) -> list[str]:
    """Give ``vm`` an identity; what the guest shows of itself then."""
    identity, begun = new_identity(name), time.time()
    endpoint = replace(vm.endpoint, host_key=identity.host_key.public)
    async with connect(vm.endpoint) as guest:
        (old,) = (await guest.execute("cat /proc/sys/kernel/hostname")).out.decode().split()
        if agent:
            assert await assume_by_agent(host, vm.uuid, identity) == notes
        else:
            assert await assume(guest, identity) == notes
            assert guest.endpoint == endpoint
        one, hosts, clock, _ = parts = await shown(guest)  # over the connection that was there before
    assert one.split() == [name, name, identity.machine_id]
    assert name in hosts.split()
    assert old not in hosts.split()
    assert begun - 2 < int(clock) < time.time() + 2, "late by no more than it took"
    new = await again(endpoint)
    assert (await new.execute("echo here")).out == b"here\n"
    await new.close()
    with pytest.raises(HostKeyError):
        await Guest(vm.endpoint).open(60)
    return [identity.machine_id, parts[3]]


async def test_tiny_siblings(host: Host, tiny_template: Vm) -> None:
    # nothing there can make the kernel take fresh random numbers at once
    note = ("random numbers: the kernel takes fresh ones within a minute only",)
    async with twins(host, tiny_template) as (one, two):
        with pytest.raises(NoAgent):
            await assume_by_agent(host, one.uuid, new_identity("one"))
        first = await become(host, one, "one", note)
        second = await become(host, two, "two", note)
    assert first[0] != second[0]


async def test_debian_siblings_by_ssh_and_by_agent(host: Host, debian_template: Vm) -> None:
    async with twins(host, debian_template) as (one, two):
        first = await become(host, one, "one", ())
        second = await become(host, two, "two", (), agent=True)
    assert first[0] != second[0]
    assert first[1] != second[1]
