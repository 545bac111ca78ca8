"""Taking over what others made: foreign VMs, and files that no VM names. Nothing is moved or changed."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.ids import new_uuid
from vmlab_tui.base.paths import Store, fsync_dir, write_durably
from vmlab_tui.base.text import clean_line
from vmlab_tui.lab.census import names
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.leases import FILE, Lease, after, now, whoami, write_lease
from vmlab_tui.lab.parts import ADOPTED, Adopted, list_adopted
from vmlab_tui.lab.reach import World
from vmlab_tui.lab.sizes import comes_back

DIRECTORY = declare("adopt.directory", "an adopted VM has a directory, its lease is not written")
_DISKS = (".qcow2", ".img", ".raw", ".iso", ".qed", ".vmdk")


@dataclass(frozen=True)
class Takeover:
    """One thing that would be taken over: a VM (``uuid``) with its files, or files alone. Sizes in bytes.

    ``left``: (file, why) of what it names and that is not taken over with it.
    """

    name: str
    uuid: str
    files: tuple[str, ...]
    size: int
    left: tuple[tuple[str, str], ...] = ()


def find(world: World, store: Store, refs: Iterable[str]) -> list[Takeover]:
    """What these names, patterns (``vps-test-*``), files and folders mean. Touches nothing.

    Of a VM's files those are its own that no other thing names and that lie outside the store. Raises
    UsageError for what means nothing, Refused for what is ours or another lab's.
    """
    found: dict[str, Takeover] = {}
    already: list[str] = []
    loose: dict[str, None] = {}
    for ref in refs:
        if "/" in ref:
            loose |= dict.fromkeys(_paths(ref))
            continue
        vms = [
            thing
            for key, thing in world.things.items()
            if key[0] == "vm" and (fnmatch.fnmatchcase(thing.name, ref) or key[1] == ref)
        ]
        if not vms:
            raise UsageError(
                f"no VM is called '{clean_line(ref, 80)}'", hint="vmlab ls shows all; a file has a /"
            )
        for thing in sorted(vms, key=lambda one: (one.name, one.key)):
            if thing.ours:
                if thing.name == ref or thing.key[1] == ref:
                    raise Refused(f"VM {clean_line(thing.name, 80)} is ours already")
                already.append(f"VM {clean_line(thing.name, 80)}")
                continue
            if thing.root and not _begun(store.vm(thing.key[1])):
                raise Refused(f"VM {clean_line(thing.name, 80)} cannot be taken over: {thing.root}")
            found[thing.key[1]] = _vm(world, store, thing.key)
    taken = {path for one in found.values() for path in one.files}
    known = {path: one for one in list_adopted(store)[0] if _same(one) for path in one.files}
    for path in loose:
        if path in known:
            already.append(f"{path} (adopted:{clean_line(known[path].name, 80)})")
        elif path not in taken:
            found[path] = _file(world, store, path)
    if not found and already:
        more = f" and {len(already) - 5} more" if len(already) > 5 else ""
        raise Refused(
            f"taken over already: {clean_line(', '.join(already[:5]), 400)}{more}",
            hint="vmlab extend gives it another time, vmlab rm takes it away",
        )
    if not found:
        raise UsageError("nothing is there that could be taken over")
    return list(found.values())


def places(world: World, refs: Iterable[str]) -> frozenset[Path]:
    """The folders that what these mean lies in: what stands on it is to be looked for there, too."""
    found: set[Path] = set()
    for ref in refs:
        if "/" in ref:
            path = Path(ref).absolute()
            found |= {path, path.parent} if path.is_dir() else {path.parent}
            continue
        for key, thing in world.things.items():
            if key[0] == "vm" and (fnmatch.fnmatchcase(thing.name, ref) or key[1] == ref):
                disks = (edge.used[1] for edge in world.uses.get(key, ()) if edge.used[0] == "disk")
                found |= {Path(disk).parent for disk in disks}
    return frozenset(found)


def _begun(folder: Path) -> bool:
    """Whether this is all that is left of a takeover that was cut off: a directory without a lease."""
    try:
        return all(name.startswith(f".{FILE}.") for name in names(folder)) and folder.is_dir()
    except OSError:
        return False


def _same(one: Adopted) -> bool:
    """Whether its files are still those that were taken over."""
    try:
        facts = [os.lstat(path) for path in one.files]
    except OSError:
        return False
    return [(fact.st_dev, fact.st_ino) for fact in facts] == list(one.inodes)


def registered(store: Store, ref: str) -> Adopted:
    """What was adopted without a domain, by id, name or file, ``adopted:`` before it or not.

    Raises UsageError where that is none or several.
    """
    word = ref.removeprefix(f"{ADOPTED}:")
    path = str(Path(word).absolute()) if "/" in word else word
    found = [one for one in list_adopted(store)[0] if word in (one.id, one.name) or path in one.files]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"nothing adopted is called '{clean_line(ref, 80)}'", hint="vmlab adopt takes files over"
        )
    idents = ", ".join(f"{ADOPTED}:{one.id}" for one in found[:5])
    raise UsageError(f"{len(found)} adopted things are called '{clean_line(ref, 80)}'", hint=idents)


def renew(store: Store, one: Adopted, seconds: float | None) -> str | None:
    """Keep it for ``seconds`` from now on, or for good; returns until when."""
    until = None if seconds is None else after(seconds)
    _register(store, one.model_copy(update={"expires": until}))
    return until


def _register(store: Store, one: Adopted) -> None:
    text = one.model_dump_json(by_alias=True, indent=1) + "\n"
    write_durably(store.root / ADOPTED / f"{one.id}.json", text)


def _paths(ref: str) -> list[str]:
    """A file, the disks right in a folder, or what a pattern of files means."""
    path = Path(ref).absolute()
    if path.is_dir():
        return sorted(str(one) for one in path.iterdir() if one.suffix in _DISKS and _plain(one))
    if any(sign in path.name for sign in "*?["):
        return sorted(str(one) for one in path.parent.glob(path.name) if _plain(one))
    if not _plain(path):
        raise UsageError(f"{path} is no plain file", hint="name a disk, a folder or a VM")
    return [str(path)]


def _plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _vm(world: World, store: Store, key: Key) -> Takeover:
    thing = world.things[key]
    files, left = [], []
    for edge in world.uses.get(key, ()):
        used = world.things.get(edge.used)
        if used is None or edge.used[0] != "disk":
            continue
        path = used.key[1]
        others = [one for one in world.used_by[edge.used] if one.user != key]
        if others:
            left.append((path, f"{world.things[others[0].user].name} needs it too"))
        elif not _plain(Path(path)):
            left.append((path, "it is no plain file"))
        else:
            files.append(path)
    files = list(dict.fromkeys(files))
    facts = {path: os.lstat(path) for path in files}
    return Takeover(thing.name, key[1], tuple(files), comes_back(facts), tuple(dict.fromkeys(left)))


def _file(world: World, store: Store, path: str) -> Takeover:
    real = os.path.realpath(path)
    if Path(real).is_relative_to(store.root.resolve()):
        raise Refused(f"{path} lies in the store", hint="vmlab clean looks after that")
    users = [edge for edge in world.used_by.get(("disk", real), ()) if edge.user in world.things]
    if users:
        user = world.things[users[0].user]
        raise Refused(
            f"{path} is needed by {clean_line(user.name, 80)} ({users[0].how})",
            hint="take that over: what is its own comes with it",
        )
    thing = world.things.get(("disk", real))
    if thing and thing.root:
        raise Refused(f"{path} is in use: {thing.root}")
    return Takeover(Path(path).name, "", (path,), comes_back({path: os.lstat(path)}))


def take(store: Store, one: Takeover, seconds: float | None, *, uid: int, gid: int) -> str:
    """Write the lease, or the register, of a takeover; returns what it is called in the store.

    ``seconds``: how long it is kept; None for good. ``uid``, ``gid``: QEMU's user. Raises LabError.
    """
    until = None if seconds is None else after(seconds)
    if one.uuid:
        folder = store.vm(one.uuid)
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.glob(f".{FILE}.*"):  # a crash while it was written
            left.unlink()
        if os.geteuid() == 0:
            os.chown(folder, uid, gid)
        fsync_dir(store.vms)
        point(DIRECTORY)
        write_lease(
            store,
            Lease(
                uuid=one.uuid,
                name=one.name,
                run_id="adopted",
                profile="adopted",
                image="",
                owner=whoami(),
                created=now(),
                expires=until,
                keep=True,
                adopted=one.files,
            ),
        )
        return one.uuid
    register = store.root / ADOPTED
    register.mkdir(mode=0o700, exist_ok=True)
    ident = new_uuid()
    inodes = []
    for path in one.files:
        try:
            facts = os.lstat(path)
        except OSError as error:
            raise LabError(f"{path} cannot be looked at: {error.strerror}") from error
        inodes.append((facts.st_dev, facts.st_ino))
    entry = Adopted(
        id=ident,
        name=one.name,
        owner=whoami(),
        created=now(),
        expires=until,
        files=one.files,
        inodes=tuple(inodes),
    )
    stale = [old for old in list_adopted(store)[0] if set(old.files) <= set(one.files)]
    _register(store, entry)
    for old in stale:  # of files that were replaced meanwhile
        (register / f"{old.id}.json").unlink()
    return ident
