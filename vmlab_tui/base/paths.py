"""Where things are, and how a file is written so that a crash leaves the old or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path

import platformdirs

from vmlab_tui.base.errors import LabError, UsageError


@dataclass(frozen=True)
class Store:
    """A lab directory on this machine. Paths only; creating it is `images.store.open_store`."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def vms(self) -> Path:
        return self.root / "vms"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def templates(self) -> Path:
        """Clean boots that runs start from (mode 0700): a cache."""
        return self.root / "templates"

    @property
    def keys(self) -> Path:
        """The lab's own SSH key pair (mode 0700)."""
        return self.root / "keys"

    @property
    def ports(self) -> Path:
        """The port registry, a JSON file beside its lock."""
        return self.root / "ports.json"

    def vm(self, uuid: str) -> Path:
        return under(self.vms, uuid)

    def run(self, run_id: str) -> Path:
        return under(self.runs, run_id)


def default_store(uri: str) -> Store:
    """The store that belongs to a libvirt URI: ``$VMLAB_STORE``, else by connection."""
    if chosen := os.environ.get("VMLAB_STORE"):
        return Store(Path(chosen).absolute())
    if uri.endswith("/system"):
        return Store(Path("/var/lib/vmlab"))
    return Store(Path(platformdirs.user_data_dir("vmlab")))


def config_dir() -> Path:
    """The person's own configuration folder: settings, profiles, recipes."""
    return Path(os.environ.get("VMLAB_CONFIG") or platformdirs.user_config_dir("vmlab"))


def cache_dir() -> Path:
    """Measured facts that can be measured again."""
    return Path(os.environ.get("VMLAB_CACHE") or platformdirs.user_cache_dir("vmlab"))


def existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())


def used_bytes(facts: os.stat_result) -> int:
    """What a file takes on the disk, in bytes: a sparse one less than its length."""
    return facts.st_blocks * 512


def shipped() -> Path:
    """The folder with the YAML that ships: inside the wheel, or beside the source."""
    inside = Path(__file__).parent.parent / "_profiles"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "profiles"


def under(root: Path, *parts: str) -> Path:
    """``root/parts`` resolved; raises UsageError if it leaves ``root`` (``..``, absolute, symlink)."""
    base = root.resolve()
    path = base.joinpath(*parts).resolve()
    if path == base or not path.is_relative_to(base):
        raise UsageError(f"'{'/'.join(parts)}' is outside {root}", hint="use a path inside it")
    return path


def fsync_dir(folder: Path) -> None:
    """Make a rename or a new entry in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes | str, *, mode: int = 0o600) -> None:
    """Temporary file, fsync, rename, fsync of the folder."""
    raw = data.encode() if isinstance(data, str) else data
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


@contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """A path to a socket that fits the 107 bytes of a socket address, however deep its folder lies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)


class Locked(LabError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[int]:
    """Hold an flock on ``path`` (created, 0600, never removed). Yields the descriptor.

    With ``wait=False`` raises :class:`Locked` when another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            flock(handle, LOCK_EX | (0 if wait else LOCK_NB))
        except BlockingIOError as error:
            raise Locked(f"{path} is held by another process") from error
        yield handle
        flock(handle, LOCK_UN)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; False when the file does not exist."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    else:
        flock(handle, LOCK_UN)
        return False
    finally:
        os.close(handle)
