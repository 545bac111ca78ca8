"""libvirt's event loop: one daemon thread for the process, started before the first connection.

libvirtaio is not safe with threads and binds to one asyncio loop for ever; libvirt's own loop in a
thread serves any number of loops one after the other. Callbacks run in that thread and only hand over.
"""

from __future__ import annotations

import threading

import libvirt

_lock = threading.Lock()
_started = False


def ensure_event_loop() -> None:
    """Start the event thread once; also keeps libvirt from printing its errors over the screen."""
    global _started
    with _lock:
        if _started:
            return
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_turn, name="vmlab-libvirt-events", daemon=True).start()
        _started = True


def _turn() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:  # a poll that failed must not end all events
            threading.Event().wait(0.1)
