"""How a domain is right now as QEMU and libvirt tell it, without asking its guest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import libvirt

from vmlab_tui.hosts.domains import POWER
from vmlab_tui.hosts.model import Power

DISK_ERROR = "I/O error"
"""Why a VM is paused whose disk could not be written or read: mostly since the host's file system is full."""
_REASONS: dict[int, tuple[str, ...]] = {
    libvirt.VIR_DOMAIN_PAUSED: (
        "unknown",
        "user",
        "migration",
        "save",
        "dump",
        DISK_ERROR,
        "watchdog",
        "from snapshot",
        "shutting down",
        "snapshot",
        "crashed",
        "starting up",
    ),
    libvirt.VIR_DOMAIN_SHUTOFF: (
        "unknown",
        "shutdown",
        "destroyed",
        "crashed",
        "migrated",
        "saved",
        "failed",
        "from snapshot",
        "daemon",
    ),
    libvirt.VIR_DOMAIN_CRASHED: ("unknown", "panicked"),
}
"""libvirt's numbers for why a domain is in a state."""


@dataclass(frozen=True)
class Vitals:
    """``reason``: libvirt's word for why it is in that state; ``cpu``: seconds its QEMU has computed so far,
    None when it does not run."""

    power: Power
    reason: str
    cpu: float | None


def read_vitals(domain: Any) -> Vitals:
    """Blocks: call it on a lane."""
    state, reason = domain.state()
    words = _REASONS.get(state, ())
    running = state not in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)
    return Vitals(
        POWER.get(state, Power.UNKNOWN),
        words[reason] if reason < len(words) else "",
        domain.info()[4] / 1e9 if running else None,
    )


def qemu_log(uri: str, name: str) -> Path | None:
    """Where libvirt keeps what the QEMU of the domain ``name`` said; None on another machine.

    With ``qemu:///system`` only root may read it.
    """
    parts = urlsplit(uri)
    if parts.netloc or not parts.scheme.startswith("qemu") or "/" in name or name in ("", ".", ".."):
        return None
    if parts.path == "/system":
        return Path("/var/log/libvirt/qemu") / f"{name}.log"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "libvirt/qemu/log" / f"{name}.log"
