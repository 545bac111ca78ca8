"""One directory a VM: everything that is the VM's, and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store, fsync_dir


@dataclass(frozen=True)
class VmDir:
    """The names inside ``vms/<uuid>``."""

    path: Path

    @property
    def disk(self) -> Path:
        return self.path / "disk.qcow2"

    @property
    def seed(self) -> Path:
        return self.path / "seed.iso"

    @property
    def console(self) -> Path:
        return self.path / "console.log"

    @property
    def known_host(self) -> Path:
        """The VM's public host key, one line: the pin."""
        return self.path / "known_host"

    @property
    def host_key(self) -> Path:
        """The VM's private host key; worthless elsewhere."""
        return self.path / "host_key"

    def files(self) -> list[Path]:
        """Every file below, sorted."""
        return sorted(path for path in self.path.rglob("*") if not path.is_dir())


def vm_dir(store: Store, uuid: str) -> VmDir:
    return VmDir(store.vm(uuid))


def make_vm_dir(store: Store, uuid: str, *, uid: int, gid: int) -> VmDir:
    """Create the directory, mode 0700, for the QEMU user ``uid``:``gid``; fine if it is there already.

    Root still gets in; nobody else does. Raises LabError when it cannot be given to the QEMU user.
    """
    folder = vm_dir(store, uuid)
    folder.path.mkdir(mode=0o700, exist_ok=True)
    if folder.path.stat().st_uid != uid:
        try:
            os.chown(folder.path, uid, gid)
        except PermissionError as error:
            raise LabError(
                f"{folder.path} cannot be given to the QEMU user (uid {uid})",
                hint="run vmlab as root, or use --connect qemu:///session",
            ) from error
    fsync_dir(store.vms)
    return folder
