"""libvirt connections that come back when libvirtd was restarted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import libvirt

from vmlab_tui.hosts.failures import Unreachable, explain
from vmlab_tui.hosts.loop import ensure_event_loop

OnOpen = Callable[[Any], Callable[[], None]]


def is_test_driver(uri: str) -> bool:
    """Whether ``uri`` is libvirt's test driver: its state is private to a connection."""
    return uri.startswith("test:")


class Link:
    """Opens on first use, reopens when dead. All methods block: call them on a lane.

    ``on_open`` is called with each new connection (event registration), and what it returns when that is
    about to be closed.
    """

    def __init__(self, uri: str, *, readonly: bool = False, on_open: OnOpen | None = None) -> None:
        self.uri = uri
        self.readonly = readonly
        self._on_open = on_open
        self._connection: Any = None
        self._let_go: Callable[[], None] = _nothing
        self._lock = threading.Lock()

    def get(self) -> Any:
        """The living virConnect. Raises Unreachable (a LabError) when there is none to be had."""
        with self._lock:
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            ensure_event_loop()
            self._drop()
            try:
                opener = libvirt.openReadOnly if self.readonly else libvirt.open
                self._connection = opener(self.uri)
            except libvirt.libvirtError as error:
                raise explain(error, self.uri) from error
            with contextlib.suppress(libvirt.libvirtError):  # the test driver has none
                self._connection.setKeepAlive(5, 3)
            if self._on_open:
                self._let_go = self._on_open(self._connection)
            return self._connection

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        let_go, self._let_go = self._let_go, _nothing
        if connection is not None:
            # the test driver's stays open: it dies (9.0, virsh too) of freeing VMs with snapshots from a file
            if not is_test_driver(self.uri):
                let_go()
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()


def _nothing() -> None: ...


class Links:
    """As many links to one URI as there are calls at once, so that no call waits for another one's answer.

    libvirt lets threads share a connection, but its client may send a thread's call only once the answer to
    the one before is there (seen with libvirt 9.0: a lookup waited 0.7 s, until a revert was done).
    ``on_open`` is for the first link, which is taken whenever it is free.
    """

    def __init__(self, uri: str, *, readonly: bool = False, on_open: OnOpen | None = None) -> None:
        self._uri = uri
        self._readonly = readonly
        self._first = Link(uri, readonly=readonly, on_open=on_open)
        self._free = [self._first]
        self._shared = is_test_driver(uri)  # of which there can be only one connection
        self._retired = False
        self._lock = threading.Lock()

    def retire(self) -> tuple[Link, ...]:
        """Those that are free, for who closes them. One that is in use is closed when that is over.

        Not before: libvirt does not keep what a call works on from being freed under it.
        """
        with self._lock:
            self._retired = True
            free, self._free = self._free, []
            return tuple(free)

    @contextlib.contextmanager
    def free(self) -> Iterator[Link]:
        """A link that nobody else uses meanwhile, the first one if it can be; a new one if need be.

        Raises Unreachable once they are retired.
        """
        with self._lock:
            if self._retired:  # a call that was abandoned may come late
                raise Unreachable(f"{self._uri}: the connection is closed")
            if self._shared:
                link = self._first
            elif self._first in self._free:
                self._free.remove(link := self._first)
            else:
                link = self._free.pop() if self._free else Link(self._uri, readonly=self._readonly)
        try:
            yield link
        finally:
            if not self._shared and not self._put_back(link):
                link.close()

    def _put_back(self, link: Link) -> bool:
        with self._lock:
            if not self._retired:
                self._free.append(link)
            return not self._retired
