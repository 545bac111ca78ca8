"""Folders for work in hand, below ``images/.staging``: what a crash leaves there, the next one sweeps."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import is_locked, locked

FOLDER = ".staging"
_LOCK = ".owner"


@contextmanager
def staging(images: Path, name: str) -> Iterator[Path]:
    """A fresh folder, held by a lock as long as this process lives; gone with its content afterwards.

    On the way in, folders of dead owners are swept.
    """
    root = images / FOLDER
    root.mkdir(mode=0o755, exist_ok=True)
    root.chmod(0o755)  # QEMU's user passes through when a new image is booted for proof
    work = root / f"{name}-{secrets.token_hex(4)}"
    with locked(root / ".sweep"):
        sweep(root)
        work.mkdir(mode=0o755)
        work.chmod(0o755)
        owner = locked(work / _LOCK, wait=False)
        owner.__enter__()
    try:
        yield work
    finally:
        try:
            _remove(work)
        finally:
            owner.__exit__(None, None, None)


def sweep(root: Path) -> list[Path]:
    """Remove the folders whose owner is dead, as its lock proves; returns them. Call with ``.sweep`` held."""
    gone = []
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not folder.is_symlink() and not is_owned(folder):
            _remove(folder)
            gone.append(folder)
    return gone


def is_owned(folder: Path) -> bool:
    """Whether the process that made the folder lives, as its lock proves."""
    return is_locked(folder / _LOCK)


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below ``folder`` that this process sees, in the order in which they were mounted."""
    base = str(folder.resolve())
    # the kernel writes blanks, tabs, newlines and backslashes as three octal digits
    points = [
        re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), line.split()[4])
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines()
    ]
    found = map(os.fsdecode, points)
    return [point for point in found if point == base or point.startswith(base + "/")]


def _remove(folder: Path) -> None:
    # what is mounted there is not ours to delete
    if mounted := mounts_below(folder):
        raise LabError(
            f"{folder} cannot be swept: {mounted[0]} is mounted", hint="unmount it, if you know what it is"
        )
    shutil.rmtree(folder)
