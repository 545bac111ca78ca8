"""The trash: one folder a thing, ``trash/<id>``, with ``entry.json`` and what was moved there.

``entry.json`` is written durably before anything is touched and says all that is needed to go back: where
each file came from, the domain's XML, its snapshots, whether its memory was saved.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store, fsync_dir, write_durably
from vmlab_tui.images.store import open_store

T = TypeVar("T")
SCHEMA = 1
FILE = "entry.json"
RESERVE = ".reserve"
RESERVE_BYTES = 1 << 18
"""Given up when the disk is full, so that making room can be written down."""
GOING_AWAY = ".emptied-"
"""The beginning of the name of an entry that is being deleted for good."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Move(_Frozen):
    """One rename: absolute paths on one file system."""

    src: str
    dst: str


class KeptSnapshot(_Frozen):
    """A snapshot's XML as libvirt had it."""

    name: str
    xml: str
    current: bool = False


class KeptDomain(_Frozen):
    """A domain that was undefined. ``saved``: it was off with its memory saved by libvirt."""

    uuid: str
    name: str
    xml: str
    power: Literal["on", "paused", "off"] = "off"
    saved: bool = False
    autostart: bool = False
    snapshots: tuple[KeptSnapshot, ...] = ()


class Entry(_Frozen):
    """One thing in the trash. ``moves`` in the order in which they were made; ``size`` in bytes.

    ``memory``: where the running VM's memory is saved, before the moves. ``names``: files that it needs.
    ``stopped``: a VM that was only stopped, and has stayed where it is. ``state``: ``going`` and ``coming``
    are unfinished.
    """

    schema_: int = Field(SCHEMA, alias="schema")
    id: str
    batch: str
    key: tuple[str, ...]
    name: str
    why: str = ""
    by: str = ""
    when: str
    state: Literal["going", "in", "coming", "woken"] = "going"
    moves: tuple[Move, ...] = ()
    domain: KeptDomain | None = None
    memory: str = ""
    stopped: bool = False
    size: int = 0
    names: tuple[str, ...] = ()

    def place(self, path: str) -> str:
        """Where the file that was ``path`` lies while this is in the trash; empty if it is no part of it."""
        for move in self.moves:
            if path == move.src or path.startswith(f"{move.src}/"):
                return move.dst + path[len(move.src) :]
        return ""


def new_id() -> str:
    """Sorts by time: what was moved last comes back first."""
    now = time.time_ns()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now // 10**9))
    return f"{stamp}-{now % 10**9 // 1000:06}-{secrets.token_hex(2)}"


def folder_of(store: Store, entry: str) -> Path:
    return store.trash / entry


def read_entry(folder: Path) -> Entry:
    """The entry in a folder. Raises LabError: it is then left alone."""
    path = folder / FILE
    try:
        data = json.loads(path.read_bytes())
        if isinstance(data, dict) and int(data.get("schema", 0)) > SCHEMA:
            raise LabError(f"{path} is of schema {data['schema']}", hint="use the newer vmlab that wrote it")
        entry = Entry.model_validate(data)
    except (OSError, ValueError, ValidationError) as error:
        raise LabError(f"{path} cannot be read: {error}", hint="vmlab leaves this folder alone") from error
    if entry.id != folder.name:
        raise LabError(f"{path} is of another entry: {entry.id[:60]}", hint="vmlab leaves this folder alone")
    return entry


def list_entries(
    store: Store, read: Callable[[Path], Entry] = read_entry
) -> tuple[list[Entry], dict[str, str]]:
    """What is in the trash, oldest first, and by folder name why one cannot be read.

    Folders that are being deleted are neither. ``read``: reads the entry in a folder. Raises OSError when
    the trash cannot be listed.
    """
    entries, problems = [], {}
    try:
        names = sorted(path.name for path in store.trash.iterdir())
    except FileNotFoundError:
        return [], {}
    for name in names:
        if name.startswith("."):
            continue
        try:
            entries.append(read(store.trash / name))
        except LabError as error:
            problems[name] = error.message
    return entries, problems


def write_entry(store: Store, entry: Entry) -> None:
    """Write it durably, on a full disk out of the reserve. The folder is made if need be."""
    folder = folder_of(store, entry.id)
    text = entry.model_dump_json(by_alias=True, indent=1) + "\n"

    def write() -> None:
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            fsync_dir(store.trash)
        write_durably(folder / FILE, text)

    with_reserve(store, write)


def with_reserve(store: Store, work: Callable[[], T]) -> T:
    """``work()``, a second time without the reserve file if the disk is full."""
    try:
        return work()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        (store.trash / RESERVE).unlink(missing_ok=True)
        return work()


def make_store(store: Store, qemu_uid: int, qemu_gid: int, *, system: bool) -> None:
    """`images.store.open_store`, with what a full disk will need set aside."""
    open_store(store, qemu_uid, qemu_gid, system=system)
    keep_reserve(store)


def keep_reserve(store: Store) -> None:
    """Set aside what a full disk will need, while there is room."""
    path = store.trash / RESERVE
    try:
        if not path.exists() or path.stat().st_blocks * 512 < RESERVE_BYTES:
            path.write_bytes(os.urandom(RESERVE_BYTES))
    except OSError:
        path.unlink(missing_ok=True)


def by_room(store: Store, things: Sequence[T], makes_room: Callable[[T], bool]) -> list[T]:
    """``things`` in their order, but where no reserve could be set aside what makes room comes first."""
    if (store.trash / RESERVE).exists():
        return list(things)
    return sorted(things, key=lambda one: not makes_room(one))


def told(error: LabError | OSError) -> str:
    """Why something failed, for a line; with a full disk also what helps."""
    if isinstance(error, LabError):
        return error.message
    place = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    helps = "; vmlab trash empty needs no room, or make a little by hand" if full else ""
    return f"{error.strerror or error}{place}{helps}"


def moves_for(store: Store, ident: str, paths: Iterable[Path]) -> tuple[Move, ...]:
    """Where each of ``paths`` goes: into the entry's folder, or, on another file system, aside in its own.

    Raises LabError for a path that is not there.
    """
    moves = []
    home = store.trash.stat().st_dev
    for number, path in enumerate(paths):
        try:
            here = path.lstat().st_dev
        except OSError as error:
            raise LabError(f"{path} cannot be looked at: {error.strerror}") from error
        inside = folder_of(store, ident) / f"{number}-{path.name}"
        aside = path.parent / f".vmlab-trash-{ident}-{path.name}"
        moves.append(Move(src=str(path), dst=str(inside if here == home else aside)))
    return tuple(moves)


def move(src: str, dst: str) -> bool:
    """One durable rename; False if it was made before. Raises LabError if it would overwrite something."""
    if not os.path.lexists(src):
        if os.path.lexists(dst):
            return False
        raise LabError(f"{src} is not there any more")
    if os.path.lexists(dst):
        raise LabError(f"{dst} is in the way of {src}", hint="look at both; nothing was moved")
    os.rename(src, dst)  # noqa: PTH104  # strings, as they stand in the entry
    for folder in {Path(src).parent, Path(dst).parent}:
        fsync_dir(folder)
    return True


def forget(store: Store, entry: Entry) -> None:
    """Remove an entry whose things have gone back; its folder holds nothing else."""
    folder = folder_of(store, entry.id)
    (folder / FILE).unlink(missing_ok=True)
    for left in folder.glob(f".{FILE}.*"):  # a crash while it was written
        left.unlink()
    folder.rmdir()
    fsync_dir(store.trash)


def delete(store: Store, entry: Entry) -> None:
    """Delete what an entry holds, for good. A crash leaves the rest to :func:`sweep`."""
    doomed = store.trash / f"{GOING_AWAY}{entry.id}"
    folder_of(store, entry.id).rename(doomed)
    fsync_dir(store.trash)
    sweep_one(doomed)


def sweep(store: Store) -> list[str]:
    """Finish deletions that a crash has interrupted; returns the entries' ids."""
    done = []
    for folder in sorted(store.trash.glob(f"{GOING_AWAY}*")):
        sweep_one(folder)
        done.append(folder.name.removeprefix(GOING_AWAY))
    return done


def sweep_one(folder: Path) -> None:
    try:
        entry = Entry.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        entry = None
    for one in entry.moves if entry else ():
        if Path(one.dst).name.startswith(".vmlab-trash-"):  # aside, on another file system
            aside = Path(one.dst)
            shutil.rmtree(aside) if aside.is_dir() and not aside.is_symlink() else aside.unlink(
                missing_ok=True
            )
    for path in folder.iterdir():  # the entry goes last: it explains the rest
        if path.name != FILE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(folder)
    fsync_dir(folder.parent)
