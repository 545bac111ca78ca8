"""Domain events: from libvirt's thread to whichever asyncio loops asked for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import libvirt

EventCallback = Callable[[str, str, str], None]
"""``callback(kind, uuid, detail)``."""

# libvirt's number of an event, its word here, and libvirt's words for the detail numbers
_KINDS: dict[int, tuple[str, tuple[str, ...]]] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: ("defined", ("added", "updated", "renamed", "from snapshot")),
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: ("undefined", ("removed", "renamed")),
    libvirt.VIR_DOMAIN_EVENT_STARTED: (
        "started",
        ("booted", "migrated", "restored", "from snapshot", "wakeup"),
    ),
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: (
        "suspended",
        ("paused", "migrated", "i/o error", "watchdog", "restored", "from snapshot", "api error"),
    ),
    libvirt.VIR_DOMAIN_EVENT_RESUMED: ("resumed", ("unpaused", "migrated", "from snapshot")),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: (
        "stopped",
        ("shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot"),
    ),
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: ("shutdown", ("finished", "by guest", "by host")),
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: ("sleeping", ("memory", "disk")),
    libvirt.VIR_DOMAIN_EVENT_CRASHED: ("crashed", ("panicked", "crash loaded")),
}


class Events:
    """Register with each connection that opens; hand each event to the callbacks on their loops."""

    def __init__(self) -> None:
        self._receivers: list[tuple[asyncio.AbstractEventLoop, EventCallback]] = []
        self._stopped = False

    def register(self, connection: Any) -> Callable[[], None]:
        """Called on a lane for each new connection. A driver without events stays without.

        Returns what undoes it: libvirt keeps a connection open as long as something is registered with it.
        """
        registered: list[int] = []
        with contextlib.suppress(libvirt.libvirtError):
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot),
            ):
                registered.append(connection.domainEventRegisterAny(None, event, callback, None))

        def undo() -> None:
            for number in registered:
                with contextlib.suppress(libvirt.libvirtError):
                    connection.domainEventDeregisterAny(number)

        return undo

    def add(self, callback: EventCallback) -> Callable[[], None]:
        receiver = (asyncio.get_running_loop(), callback)
        self._receivers.append(receiver)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._receivers.remove(receiver)

        return remove

    def stop(self) -> None:
        self._stopped = True
        self._receivers.clear()

    # called in libvirt's thread: hand over and return, nothing that could wait
    def _hand_over(self, kind: str, uuid: str, detail: str) -> None:
        for loop, callback in tuple(self._receivers):
            with contextlib.suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(callback, kind, uuid, detail)

    def _on_lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        kind, details = _KINDS.get(event, (f"event {event}", ()))
        self._hand_over(kind, domain.UUIDString(), details[detail] if detail < len(details) else str(detail))

    def _on_reboot(self, _connection: Any, domain: Any, _opaque: Any) -> None:
        self._hand_over("rebooted", domain.UUIDString(), "")
