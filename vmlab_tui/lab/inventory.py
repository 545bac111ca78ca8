"""What exists on a host and in the store, joined into one immutable value."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store, used_bytes
from vmlab_tui.base.signs import sign
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.lane import Lane
from vmlab_tui.hosts.model import Domain
from vmlab_tui.images.store import Image, scan_images
from vmlab_tui.lab.chains import ChainReader, DiskNode
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.graph import Disk, ImageEntry, Inventory, Key, Leftover, TemplateEntry, User, VmEntry
from vmlab_tui.lab.leases import FILE, Lease, read_lease
from vmlab_tui.lab.templates import DISK, folder_of, last_used, scan_templates, size_of

__all__ = ["Inventory", "InventoryReader", "VmEntry", "take_inventory"]

T = TypeVar("T", VmEntry, ImageEntry, Leftover, TemplateEntry)

_DEPTH, _ENTRIES = 4, 10_000
"""How deep, and for how many files, a VM's directory is looked through."""


async def take_inventory(lab: Lab, host: Host, *, snapshots: bool = False, timeout: float = 60) -> Inventory:
    """Ask libvirt and read the store; own VMs first, then foreign ones, each by name.

    Raises LabError when the host fails, DeadlineError when it or the disk is slow.
    """
    domains = await host.domains(snapshots=snapshots, timeout=timeout)
    lane = Lane("files", threads=1)
    try:
        reader = InventoryReader(lab)
        return await lane.call(lambda: reader.join(domains), timeout=timeout, what=f"read {lab.store.root}")
    finally:
        lane.close()


@dataclass(frozen=True)
class _Folder:
    """A directory below ``vms/`` or ``trash/``; ``files`` by relative name, (size, used) in bytes."""

    path: Path
    lease: Lease | None
    problem: str
    files: dict[str, tuple[int, int]]

    @property
    def used(self) -> int:
        return sum(used for _, used in self.files.values())

    def size_of(self, name: str) -> int | None:
        found = self.files.get(name)
        return found[0] if found else None


class InventoryReader:
    """Makes one inventory after another, reading only what has changed; blocks, for one thread at a time.

    What is as it was before comes as the very same object, so that comparing two inventories costs little.
    """

    def __init__(self, lab: Lab) -> None:
        self.store = lab.store
        # of another machine's disks this one's files tell nothing
        self._here = not urlsplit(lab.uri).netloc
        self._chains = ChainReader()
        self._leases: dict[str, tuple[tuple[int, ...], Lease]] = {}
        self._last: Inventory | None = None

    def join(self, domains: Iterable[Domain]) -> Inventory:
        """The inventory of these domains and the store as it is now. Raises nothing: faults are in it."""
        self._chains.begin()
        named = {domain.uuid: domain for domain in domains}
        folders, problems = self._folders(self.store.vms)
        trash, _ = self._folders(self.store.trash)
        images = _Images(self.store)
        vms = [
            self._vm(uuid, named.get(uuid), folders.get(uuid), images)
            for uuid in named.keys() | {name for name, folder in folders.items() if folder.lease}
        ]
        left = [
            self._leftover(folder, images)
            for folder in (*folders.values(), *trash.values())
            if folder.path.parent == self.store.trash or (not folder.lease and folder.path.name not in named)
        ]
        return self._made(vms, problems, images, left)

    def renew(self, changed: Mapping[str, Domain | None]) -> Inventory:
        """The inventory with these domains and their directories as they are now, by uuid; None: gone.

        All other VMs are taken to be as they were in the one before. Without one it is as good as empty.
        """
        self._chains.begin(whole=False)
        old = self._last or Inventory(())
        images = _Images(self.store)
        vms = [vm for vm in old.vms if vm.uuid not in changed]
        kept = [one for one in old.leftovers if one.trash or one.path.name not in changed]
        problems = {name: why for name, why in old.problems if name not in changed}
        for uuid, domain in changed.items():
            folder = self._folder(self.store.vms / uuid)
            if domain or (folder and folder.lease):
                vms.append(self._vm(uuid, domain, folder, images))
            elif folder:
                kept.append(self._leftover(folder, images))
            if folder and folder.problem:
                problems[uuid] = folder.problem
        return self._made(vms, problems, images, kept)

    def _made(
        self, vms: list[VmEntry], problems: dict[str, str], images: _Images, left: list[Leftover]
    ) -> Inventory:
        vms.sort(key=lambda vm: (not vm.own, vm.name, vm.uuid))
        left.sort(key=lambda one: (one.trash, one.path.name))
        templates, damaged = self._templates(images)
        told = tuple(sorted((problems | damaged).items()))
        entries = images.entries(vms, left, templates)
        return self._keep(Inventory(tuple(vms), told, entries, tuple(left), templates))

    # -- the store's directories -----------------------------------------------------------------

    def _folders(self, root: Path) -> tuple[dict[str, _Folder], dict[str, str]]:
        folders: dict[str, _Folder] = {}
        problems: dict[str, str] = {}
        try:
            names = _names(root)
        except FileNotFoundError:
            return {}, {}
        except OSError as error:
            return {}, {root.name: f"{root} cannot be listed: {error.strerror}"}
        for name in names:
            folder = self._folder(root / name)
            if folder is None:
                continue  # gone meanwhile
            folders[name] = folder
            if folder.problem:
                problems[name] = folder.problem
        return folders, problems

    def _folder(self, path: Path) -> _Folder | None:
        lease: Lease | None = None
        problem = ""
        try:
            found = self._lease(path)
        except LabError as error:
            problem = error.message
        else:
            if found.uuid == path.name:
                lease = found
            else:
                problem = f"its lease is for {clean_line(found.uuid)}"
        files = dict(_files(path))
        if not files and not path.exists():
            return None
        return _Folder(path, lease, problem, files)

    def _lease(self, folder: Path) -> Lease:
        name = str(folder / FILE)
        try:
            signed = sign(Path(name).stat())
        except OSError:
            return read_lease(folder)  # which says what is wrong
        held = self._leases.get(name)
        if held is None or held[0] != signed:
            # replaced as a whole, so another content is another inode
            held = self._leases[name] = signed, read_lease(folder)
        return held[1]

    # -- the parts -------------------------------------------------------------------------------

    def _vm(self, uuid: str, domain: Domain | None, folder: _Folder | None, images: _Images) -> VmEntry:
        lease = folder.lease if folder else None
        if domain and not domain.problem:
            forms = domain.formats or ("",) * len(domain.disks)
            named = [(str(path), form or "raw") for path, form in zip(domain.disks, forms, strict=False)]
            own = [disk for disk in named if not disk[0].endswith(".iso")] or named
            disks = self._disks(own, images) if self._here else tuple(map(_elsewhere, own))
        elif folder:
            disks = self._disks(_overlays(folder), images)
        else:
            disks = ()
        if domain and domain.snapshots:
            domain = _with_sizes(domain, disks)
        problems = [clean_line(disk.problem, 400) for disk in disks if disk.problem]
        if domain and domain.problem:
            problems.append(domain.problem)
        if folder and folder.problem:
            problems.append(folder.problem)
        base = next((disk.base for disk in disks if disk.base), None)
        if base is None and lease and lease.image in images.by_name and (problems or not disks):
            base = ("image", lease.image)  # what it was made of; its files cannot tell
        mark = domain.mark if domain else None
        other = mark.store if mark and mark.store != str(self.store.root) else ""
        known = [disk.used for disk in disks if disk.used is not None]
        used = folder.used if folder else sum(known) if known else None
        return VmEntry(
            uuid,
            domain.name if domain else lease.name if lease else uuid,
            domain,
            lease,
            disks,
            base,
            folder.size_of("seed.iso") if folder else None,
            folder.size_of("console.log") if folder else None,
            used,
            other,
            tuple(problems),
        )

    def _disks(self, named: Iterable[tuple[str, str]], images: _Images) -> tuple[Disk, ...]:
        disks = []
        for path, form in named:
            chain = self._chains.chain(path, form)
            disks.append(Disk(Path(path), form, chain, images.base_of(chain[-1].path)))
        return tuple(disks)

    def _leftover(self, folder: _Folder, images: _Images) -> Leftover:
        trash = folder.path.parent == self.store.trash
        reason = "in the trash" if trash else folder.problem
        return Leftover(folder.path, reason, folder.used, self._disks(_overlays(folder), images), trash)

    def _templates(self, images: _Images) -> tuple[tuple[TemplateEntry, ...], dict[str, str]]:
        found, problems = scan_templates(self.store)
        entries = []
        for one in found:
            folder = folder_of(self.store, one.key)
            (disk,) = self._disks([(str(folder / DISK), "qcow2")], images)
            entries.append(TemplateEntry(one, disk.base, size_of(self.store, one.key), last_used(folder)))
        return tuple(entries), problems

    # -- what stays the same ---------------------------------------------------------------------

    def _keep(self, new: Inventory) -> Inventory:
        """``new`` with every part that equals its predecessor replaced by that, or the predecessor."""
        old, self._last = self._last, new
        if old is None:
            return new
        new = replace(
            new,
            vms=_kept(old.vms, new.vms),
            images=_kept(old.images, new.images),
            leftovers=_kept(old.leftovers, new.leftovers),
            templates=_kept(old.templates, new.templates),
        )
        self._last = old if old == new else new
        return self._last


def _kept(old: tuple[T, ...], new: tuple[T, ...]) -> tuple[T, ...]:
    """``new`` with each part that is as it was replaced by its predecessor."""
    before = {one.key: one for one in old}
    return tuple(was if (was := before.get(one.key)) == one and was else one for one in new)


class _Images:
    """The store's images and former builds, found by the file that a chain ends in."""

    def __init__(self, store: Store) -> None:
        self.store = store
        found, self._problems = scan_images(store)
        self.by_name: dict[str, Image] = {image.name: image for image in found}
        folder = os.path.realpath(store.images)
        self._root = Path(folder)
        self._bases: dict[str, Key] = {}
        self._real: dict[Path, str] = {}
        for image in found:
            self._bases.setdefault(f"{folder}/{image.file}", ("image", image.name))
        with suppress(OSError):
            for name in _names(folder):
                if name.endswith((".qcow2", ".raw")) and not name.startswith("."):
                    self._bases.setdefault(f"{folder}/{name}", ("file", name))

    def base_of(self, path: Path) -> Key | None:
        """What the file ``path`` is in the store."""
        real = self._real.get(path)
        if real is None:
            try:
                real = os.path.realpath(path)
            except (OSError, ValueError):
                real = str(path)
            self._real[path] = real
        return self._bases.get(real)

    def entries(
        self, vms: Iterable[VmEntry], left: Iterable[Leftover], templates: Iterable[TemplateEntry]
    ) -> tuple[ImageEntry, ...]:
        """Images by name, then former builds by file, each with who stands on it."""
        users: dict[Key, list[User]] = {}
        for vm in vms:
            bases = {disk.base for disk in vm.disks} | {vm.base}
            if vm.domain:
                # what only a snapshot or the other of its two definitions names counts as well
                bases |= {self._bases.get(str(path)) for path in vm.domain.files}
            for base in bases - {None}:
                assert base is not None
                users.setdefault(base, []).append(User("vm", vm.uuid, vm.name, vm.own))
        for one in left:
            kind, name = ("trash" if one.trash else "left"), one.path.name
            for base in {disk.base for disk in one.disks} - {None}:
                assert base is not None
                users.setdefault(base, []).append(
                    User("trash" if kind == "trash" else "left", str(one.path), name, True)
                )
        for template in templates:
            if template.base:
                user = User("template", template.template.key, template.name, True)
                users.setdefault(template.base, []).append(user)
        entries = []
        for path, key in self._bases.items():
            used, problem = _used(path)
            name = key[1]
            entries.append(
                ImageEntry(
                    name,
                    Path(path),
                    self.by_name[name] if key[0] == "image" else None,
                    used,
                    tuple(users.get(key, ())),
                    problem,
                    former=key[0] == "file",
                )
            )
        entries += [ImageEntry(name, None, None, None, (), why) for name, why in self._problems.items()]
        entries.sort(key=lambda entry: (entry.former, entry.name))
        return tuple(entries)


def _names(folder: str | Path) -> list[str]:
    with os.scandir(folder) as found:
        return sorted(entry.name for entry in found)


def _used(path: str) -> tuple[int | None, str]:
    try:
        facts = Path(path).stat()
    except OSError as error:
        return None, f"its file {path} cannot be read: {error.strerror}"
    if not stat.S_ISREG(facts.st_mode):
        return None, f"{path} is not a plain file"
    return used_bytes(facts), ""


def _files(root: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Files below ``root``, links not followed: name relative to it, length, bytes on the disk."""
    folders = [("", 0)]
    count = 0
    while folders:
        below, depth = folders.pop()
        try:
            with os.scandir(root / below if below else root) as found:
                for entry in found:
                    count += 1
                    if count > _ENTRIES:
                        return
                    name = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if depth < _DEPTH:
                            folders.append((name, depth + 1))
                        continue
                    with suppress(OSError):
                        facts = entry.stat(follow_symlinks=False)
                        yield name, (facts.st_size, used_bytes(facts))
        except OSError:
            continue


def _with_sizes(domain: Domain, disks: Iterable[Disk]) -> Domain:
    """The domain with what its snapshots' memory takes, as its disks tell."""
    sizes = {name: size for disk in disks if disk.chain for name, size in disk.chain[0].saved if size}
    return replace(
        domain,
        snapshots=tuple(
            replace(one, size=sizes.get(one.name)) if one.memory and not one.external else one
            for one in domain.snapshots
        ),
    )


def _elsewhere(named: tuple[str, str]) -> Disk:
    path, form = named
    return Disk(Path(path), form, (DiskNode(Path(path), form, None, None),))


def _overlays(folder: _Folder) -> list[tuple[str, str]]:
    """The disks in a directory that no domain speaks for: whatever ends like one."""
    names = sorted(name for name in folder.files if name.endswith(".qcow2"))
    return [(f"{folder.path}/{name}", "qcow2") for name in names]
