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
from vmlab_tui.guests.identity import Identity, assume, new_identity
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
            await guest.open(10)
        except ConnectError:
            deadline.check("connect")
        else:
            return guest


async def become(vm: Vm, name: str, notes: tuple[str, ...]) -> tuple[Identity, list[str]]:
    """Give ``vm`` an identity; it, and what the guest shows of itself then."""
    identity = new_identity(name)
    async with connect(vm.endpoint) as guest:
        (old,) = (await guest.execute("cat /proc/sys/kernel/hostname")).out.decode().split()
        assert await assume(guest, identity) == notes
        assert guest.endpoint == replace(vm.endpoint, host_key=identity.host_key.public)
        one, hosts, clock, _ = parts = await shown(guest)  # over the connection that was there before
    assert one.split() == [name, name, identity.machine_id]
    assert name in hosts.split()
    assert old not in hosts.split()
    assert abs(int(clock) - time.time()) < 2
    new = await again(guest.endpoint)
    assert (await new.execute("echo here")).out == b"here\n"
    await new.close()
    with pytest.raises(HostKeyError):
        await Guest(vm.endpoint).open(10)
    return identity, parts


async def test_tiny_siblings(host: Host, tiny_template: Vm) -> None:
    # nothing there can make the kernel take fresh random numbers at once
    note = ("random numbers: the kernel takes fresh ones within a minute only",)
    async with twins(host, tiny_template) as (one, two):
        first, _ = await become(one, "one", note)
        second, _ = await become(two, "two", note)
    assert first.machine_id != second.machine_id


async def test_debian_siblings(host: Host, debian_template: Vm) -> None:
    async with twins(host, debian_template) as (one, two):
        first, seen = await become(one, "one", ())
        second, other = await become(two, "two", ())
    assert first.machine_id != second.machine_id
    assert seen[3] != other[3]
