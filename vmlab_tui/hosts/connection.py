"""The connection under a Host: its links, their lanes, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import libvirt

from vmlab_tui.base.commands import recording
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.events import EventCallback, Events
from vmlab_tui.hosts.failures import explain
from vmlab_tui.hosts.lane import Lane
from vmlab_tui.hosts.link import Links, is_test_driver

T = TypeVar("T")


class Connection:
    """One URI: slow work goes over links and a lane of its own, apart from looking and killing.

    So a VM can be looked at and destroyed while the call that starts or snapshots it hangs.
    """

    def __init__(self, uri: str, *, readonly: bool = False) -> None:
        self.uri = uri
        self.readonly = readonly
        self._events = Events()
        self._look = Links(uri, readonly=readonly, on_open=self._events.register)
        self._slow = self._look if is_test_driver(uri) else Links(uri, readonly=readonly)
        # what libvirt shall end when this process does is bound to a connection that is open till close()
        self._bound = self._look if is_test_driver(uri) else Links(uri)
        self._look_lane = Lane("look", threads=3)
        self._slow_lane = Lane("slow", threads=4)

    @property
    def local(self) -> bool:
        """Whether its files are this machine's."""
        return not urlsplit(self.uri).netloc

    @classmethod
    async def connect(cls, uri: str, *, readonly: bool = False, timeout: float = 15) -> Self:
        """Open ``uri``; the caller closes. Raises Unreachable."""
        host = cls(uri, readonly=readonly)
        try:
            await host._call(f"connect to {uri}", lambda connection: connection.getHostname(), timeout)
        except BaseException:
            await host.close()
            raise
        return host

    @classmethod
    @asynccontextmanager
    async def open(cls, uri: str, *, readonly: bool = False, timeout: float = 15) -> AsyncIterator[Self]:
        """``async with Host.open(uri) as host``."""
        host = await cls.connect(uri, readonly=readonly, timeout=timeout)
        try:
            yield host
        finally:
            await host.close()

    async def close(self) -> None:
        """Let go of the connections; VMs of start_transient end with that. Never raises, never hangs."""
        self._events.stop()
        links = {*self._look.retire(), *self._slow.retire(), *self._bound.retire()}
        closing = [self._look_lane.call(link.close, timeout=5, what="close") for link in links]
        await asyncio.gather(*closing, return_exceptions=True)
        self._look_lane.close()
        self._slow_lane.close()

    def on_event(self, callback: EventCallback) -> Callable[[], None]:
        """Call ``callback(kind, uuid, detail)`` on the present asyncio loop for each event of the host.

        Kinds: defined, undefined, started, suspended, resumed, stopped, shutdown, sleeping, crashed,
        rebooted. libvirt sends none for snapshots. Returns a function that ends it.
        """
        return self._events.add(callback)

    async def _call(
        self,
        what: str,
        fn: Callable[[Any], T],
        timeout: float,
        *,
        slow: bool = False,
        links: Links | None = None,
    ) -> T:
        way = links or (self._slow if slow else self._look)

        def work() -> T:
            with way.free() as free:
                try:
                    return fn(free.get())
                except libvirt.libvirtError as error:
                    raise explain(error, what) from error

        return await (self._slow_lane if slow else self._look_lane).call(work, timeout=timeout, what=what)

    async def _on(
        self, verb: str, uuid: str, fn: Callable[[Any], T], timeout: float, *, slow: bool = False
    ) -> T:
        """``fn(virDomain)``; errors say ``verb`` and the domain's name."""

        def work(connection: Any) -> T:
            try:
                domain = connection.lookupByUUIDString(uuid)
            except libvirt.libvirtError as error:
                raise explain(error, f"{verb} {uuid}") from error
            try:
                return fn(domain)
            except libvirt.libvirtError as error:
                raise explain(error, f"{verb} {clean_line(domain.name(), 80)}") from error

        return await self._call(f"{verb} {uuid}", work, timeout, slow=slow)

    def _virsh(self, *words: str) -> AbstractContextManager[None]:
        """Around a call that changes something: notes the virsh command that does the same."""
        return recording(("virsh", "-c", self.uri, *words))


def shown(domain: Any) -> str:
    """How a command names ``domain``: its name where that can be typed, else its uuid."""
    name = str(domain.name())
    return name if clean_line(name, 80) == name and not name.startswith("-") else str(domain.UUIDString())
