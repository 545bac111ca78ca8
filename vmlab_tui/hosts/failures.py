"""libvirt's errors in words for a person, with what to do about them."""

from __future__ import annotations

import libvirt

from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.text import clean_line


class NotFound(LabError):
    """The domain or snapshot does not exist (any more)."""


class Busy(LabError):
    """Another client holds the domain: its job, or its console."""


class Unreachable(LabError):
    """The host does not answer, or does not let us in."""


class AgentAway(LabError):
    """libvirt knows of no guest agent that has its port open."""


_MISSING = {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT}
_LOST = {libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_INVALID_CONN}

_GROUP = "add yourself to the group: usermod -aG libvirt USER, then log in again"

# the part of libvirt's or QEMU's message (lower case) that tells the case, and the way out of it
_HINTS = (
    ("virtlogd-sock", "start virtlogd: systemctl start virtlogd.socket, or as root: virtlogd -d"),
    ("virtlockd-sock", "start virtlockd: systemctl start virtlockd.socket"),
    ("libvirt-sock': permission denied", _GROUP),
    ("authentication", _GROUP),
    ("libvirt-sock", "start libvirt: systemctl start libvirtd, or as root: libvirtd -d"),
    ("could not set up host forwarding rule", "another program listens on that port: ss -ltnp"),
    ('failed to get "write" lock', "another QEMU or qemu-img has the disk open: fuser FILE"),
    ('failed to get shared "write" lock', "another QEMU or qemu-img has the disk open: fuser FILE"),
    ("state change lock", "another client works on it: virsh domjobinfo NAME; try again when it is done"),
    ("active console session", "close the other console (virsh console, a viewer), or take it over"),
    ("cannot access storage file", "the QEMU user must reach the file: every folder above it needs o+x"),
    ("cannot allocate memory", "not enough memory is free for it: stop another VM or give it less"),
    ("io_uring", "QEMU may not use it, as the VM was made to: sysctl kernel.io_uring_disabled=0"),
    ("no space left", "free some space on that file system"),
    ("kvm kernel module", "use accel: tcg, or see what virt-host-validate qemu says"),
    ("failed to initialize kvm", "use accel: tcg, or see what virt-host-validate qemu says"),
    ("permission denied", "the QEMU user must be able to read it: every folder above it needs o+x"),
    ("pflash", "give the VM BIOS firmware: this libvirt has no internal snapshots with UEFI"),
    ("guest agent is not", "the guest needs a running qemu-guest-agent"),
    ("already exists with uuid", "another VM has that name: choose a different one"),
)


def explain(error: libvirt.libvirtError, what: str) -> LabError:
    """A LabError that says ``what`` failed, libvirt's reason (cleaned) and a hint where one is known."""
    code = error.get_error_code()
    reason = clean_line(error.get_error_message() or str(error), 400)
    low = reason.lower()
    hint = next((hint for part, hint in _HINTS if part in low), "")
    message = f"{what}: {reason}"
    if code in _MISSING:
        return NotFound(message, hint=hint)
    if code in _LOST or (code == libvirt.VIR_ERR_SYSTEM_ERROR and "socket" in low and "virtlog" not in low):
        return Unreachable(message, hint=hint)
    if "state change lock" in low or "active console session" in low:
        return Busy(message, hint=hint)
    if code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE and "not connected" in low:
        return AgentAway(message, hint=hint)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return DeadlineError(message, hint=hint)
    return LabError(message, hint=hint)
