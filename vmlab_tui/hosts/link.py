"""One libvirt connection that comes back when libvirtd was restarted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import libvirt

from vmlab_tui.hosts.failures import explain
from vmlab_tui.hosts.loop import ensure_event_loop


class Link:
    """Opens on first use, reopens when dead. All methods block: call them on a lane.

    ``on_open`` is called with each new connection (event registration).
    """

    def __init__(
        self, uri: str, *, readonly: bool = False, on_open: Callable[[Any], None] | None = None
    ) -> None:
        self.uri = uri
        self.readonly = readonly
        self._on_open = on_open
        self._connection: Any = None
        self._lock = threading.Lock()
        self._closed = False

    def get(self) -> Any:
        """The living virConnect. Raises Unreachable (a LabError) when there is none to be had."""
        with self._lock:
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            ensure_event_loop()
            try:
                opener = libvirt.openReadOnly if self.readonly else libvirt.open
                self._connection = opener(self.uri)
            except libvirt.libvirtError as error:
                raise explain(error, self.uri) from error
            with contextlib.suppress(libvirt.libvirtError):  # the test driver has none
                self._connection.setKeepAlive(5, 3)
            if self._on_open:
                self._on_open(self._connection)
            return self._connection

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()
