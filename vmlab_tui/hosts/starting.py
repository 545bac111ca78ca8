"""Starting a QEMU although something stands in its way that passes, or that it can do without."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import libvirt

from vmlab_tui.hosts.connection import shown
from vmlab_tui.hosts.iouring import take_out

Command = Callable[..., AbstractContextManager[None]]
"""Notes the virsh words of a command around the call that does it."""

_TRIES = 4
_PAUSE = 0.2
_TAKEN = ("-vnc", "address already in use")
"""In lower case what libvirt's error says then, in QEMU's own words."""


def start_qemu(call: Callable[[], object]) -> None:
    """``call``, which has libvirt start a VM; once more where another program took the VNC port meanwhile.

    libvirt looks for a free port, and QEMU binds it a moment later: another libvirt on the same network, as
    one in a container has, picks from the same range. Blocks. Raises libvirtError.
    """
    for left in reversed(range(_TRIES)):
        try:
            call()
            return
        except libvirt.libvirtError as error:
            said = str(error).lower()
            if not left or not all(part in said for part in _TAKEN):
                raise
        time.sleep(_PAUSE)


def start_domain(domain: Any, command: Command) -> None:
    """Start ``domain``, which is off, without io_uring for good where QEMU is refused it after all.

    Blocks. Raises libvirtError.
    """
    try:
        with command("start", shown(domain)):
            start_qemu(domain.create)
    except libvirt.libvirtError as error:
        if "io_uring" not in str(error):
            raise
        take_out(domain)
        with command("start", shown(domain)):
            start_qemu(domain.create)
