"""Starting a QEMU although somebody else is quicker with the port that libvirt chose for its screen."""

from __future__ import annotations

import time
from collections.abc import Callable

import libvirt

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
