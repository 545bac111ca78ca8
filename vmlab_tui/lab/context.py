"""Which libvirt connection and which store a command works on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.paths import Store, default_store

SYSTEM = "qemu:///system"
SESSION = "qemu:///session"
_SOCKETS = (Path("/run/libvirt/libvirt-sock"), Path("/run/libvirt/virtqemud-sock"))


@dataclass(frozen=True)
class Lab:
    """One libvirt URI and the store that belongs to it. Nothing is opened by making one."""

    uri: str
    store: Store

    @property
    def system(self) -> bool:
        """Whether QEMU runs as another user than we do."""
        return self.uri.endswith("/system")


def default_uri() -> str:
    """``LIBVIRT_DEFAULT_URI``, else the system connection for root or who may use it, else the session."""
    if chosen := os.environ.get("LIBVIRT_DEFAULT_URI"):
        return chosen
    if os.geteuid() == 0:
        return SYSTEM
    reachable = any(os.access(socket, os.R_OK | os.W_OK) for socket in _SOCKETS)
    # a store that we cannot write is of no use: VM directories must be given to the QEMU user
    return SYSTEM if reachable and os.access(default_store(SYSTEM).root, os.W_OK) else SESSION


def open_lab(uri: str | None = None, store: Path | None = None) -> Lab:
    """The lab for ``uri`` (default: :func:`default_uri`) and ``store`` (default: by connection)."""
    chosen = uri or default_uri()
    return Lab(chosen, Store(store.absolute()) if store else default_store(chosen))
