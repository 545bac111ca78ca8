"""Images, VMs and snapshots as one graph of frozen values, and as rows of a tree with keys that last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from vmlab_tui.hosts.model import Domain, Snapshot
from vmlab_tui.images.store import Image
from vmlab_tui.lab.chains import DiskNode
from vmlab_tui.lab.leases import Lease
from vmlab_tui.lab.templates import Template

Key = tuple[str, ...]
"""``("image", name)``, ``("file", name)``, ``("other",)``, ``("vm", uuid)``, ``("snapshot", uuid, name)``,
``("template", key)`` or ``("left", path)``: the same thing keeps its key for life."""

OTHER: Key = ("other",)
"""The row for VMs that stand on no image of the store."""


@dataclass(frozen=True)
class Disk:
    """A VM's disk. ``chain`` begins with the disk itself and ends with its base; sizes in bytes."""

    path: Path
    format: str
    chain: tuple[DiskNode, ...]
    base: Key | None = None
    """The image of the store that the chain ends in, or a former build's file."""

    @property
    def virtual(self) -> int | None:
        """What the guest sees as the disk's size."""
        return self.chain[0].virtual if self.chain else None

    @property
    def used(self) -> int | None:
        """What its own file takes, without what it stands on."""
        return self.chain[0].used if self.chain else None

    @property
    def saved(self) -> int:
        """Bytes of memory in the snapshots in it, whether libvirt knows them or not."""
        return sum(held for _, held in self.chain[0].saved) if self.chain else 0

    @property
    def problem(self) -> str:
        """Why the chain is not known to its end, naming the file; empty if it is."""
        last = self.chain[-1] if self.chain else None
        return f"{last.path}: {last.problem}" if last and last.problem else ""


@dataclass(frozen=True)
class VmEntry:
    """A VM: a domain, a lease, or both. No lease: foreign. No domain: only its files are left."""

    uuid: str
    name: str
    domain: Domain | None
    lease: Lease | None
    disks: tuple[Disk, ...] = ()
    base: Key | None = None
    """``("image", name)``, ``("file", name)`` of a former build, or None: nothing of the store."""
    seed_size: int | None = None
    console_size: int | None = None
    size: int | None = None
    """Bytes on the disk that are its own: its directory's, or for a foreign VM its disks' own files."""
    other_lab: str = ""
    """The store of the other lab that made it."""
    problems: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return ("vm", self.uuid)

    @property
    def power(self) -> str:
        return self.domain.power.value if self.domain else "no domain"

    @property
    def address(self) -> str:
        """``lab@127.0.0.1:22001`` where a forward is known, else empty."""
        port = self.lease.port("ssh") if self.lease else None
        return f"{self.lease.user}@127.0.0.1:{port}" if self.lease and port else ""

    @property
    def image(self) -> str | None:
        """The name of the image it stands on, or of a former build's file."""
        return self.base[1] if self.base else None

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """Oldest first."""
        return self.domain.snapshots if self.domain else ()

    @property
    def saved(self) -> int:
        """Bytes of memory in its snapshots."""
        return sum(disk.saved for disk in self.disks)

    @property
    def run_id(self) -> str | None:
        """The run that made it."""
        mark = self.domain.mark if self.domain else None
        return self.lease.run_id if self.lease else mark.run_id if mark else None

    @property
    def own(self) -> bool:
        return self.lease is not None


@dataclass(frozen=True)
class TemplateEntry:
    """A clean boot that runs start from.

    ``size``: bytes on the disk. ``used``: when last, in seconds since 1970; 0: never.
    """

    template: Template
    base: Key | None
    size: int
    used: float

    @property
    def key(self) -> Key:
        return ("template", self.template.key)

    @property
    def name(self) -> str:
        return f"template {self.template.key[:12]}"


@dataclass(frozen=True)
class User:
    """Who stands on an image; ``kind``: vm, template, left (files only, lease unreadable) or trash."""

    kind: Literal["vm", "template", "left", "trash"]
    id: str
    """A VM's uuid, a template's key, else a directory."""
    name: str
    own: bool


@dataclass(frozen=True)
class ImageEntry:
    """An image, or a disk file of a former build (``image`` is None) that VMs may stand on.

    ``name``: the image's, or the former build's file name. ``used``: bytes on the disk.
    """

    name: str
    path: Path | None
    image: Image | None
    used: int | None
    users: tuple[User, ...] = ()
    problem: str = ""
    former: bool = False

    @property
    def key(self) -> Key:
        return ("file" if self.former else "image", self.name)


@dataclass(frozen=True)
class Leftover:
    """A directory below ``vms/`` or ``trash/`` with files that no readable lease or domain explains."""

    path: Path
    reason: str
    size: int
    disks: tuple[Disk, ...]
    trash: bool = False

    @property
    def key(self) -> Key:
        return ("left", str(self.path))


@dataclass(frozen=True)
class Row:
    """One line of the tree, parents before children. ``thing`` is None for the row of other disks."""

    key: Key
    parent: Key | None
    depth: int
    thing: ImageEntry | TemplateEntry | VmEntry | Snapshot | Leftover | None


@dataclass(frozen=True)
class Inventory:
    """Everything on a host and in a store at one moment; ``==`` is cheap between one and the next.

    ``problems``: VM directories whose lease could not be read; whoever wants to delete must heed them.
    """

    vms: tuple[VmEntry, ...]
    problems: tuple[tuple[str, str], ...] = ()
    images: tuple[ImageEntry, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    templates: tuple[TemplateEntry, ...] = ()

    def find(self, ref: str) -> list[VmEntry]:
        """The VMs that ``ref`` names: an exact uuid or name."""
        return [vm for vm in self.vms if ref in (vm.uuid, vm.name)]

    def vm(self, uuid: str) -> VmEntry | None:
        row = self.by_key.get(("vm", uuid))
        return row.thing if row and isinstance(row.thing, VmEntry) else None

    def image(self, name: str) -> ImageEntry | None:
        """The image of that name, former builds not among them."""
        row = self.by_key.get(("image", name))
        return row.thing if row and isinstance(row.thing, ImageEntry) else None

    @cached_property
    def budgeted(self) -> int:
        """Bytes of what the budget bounds: templates, and the memory in snapshots of ours."""
        ours = sum(vm.saved for vm in self.vms if vm.own)
        left = sum(disk.saved for one in self.leftovers if not one.trash for disk in one.disks)
        return ours + left + sum(template.size for template in self.templates)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """image > templates, VMs > snapshots by parent; what stands on no image is last, below OTHER."""
        return tuple(_rows(self))

    @cached_property
    def by_key(self) -> Mapping[Key, Row]:
        return {row.key: row for row in self.rows}

    @cached_property
    def children(self) -> Mapping[Key | None, tuple[Key, ...]]:
        """The keys below each key, in order; below None the roots. A key without children is missing."""
        below: dict[Key | None, list[Key]] = {}
        for row in self.rows:
            below.setdefault(row.parent, []).append(row.key)
        return {parent: tuple(keys) for parent, keys in below.items()}

    @property
    def faults(self) -> tuple[tuple[Key | None, str], ...]:
        """Everything that could not be read or makes no sense: the thing's key, and why."""
        found: list[tuple[Key | None, str]] = [(None, f"{name}: {why}") for name, why in self.problems]
        found += [(image.key, image.problem) for image in self.images if image.problem]
        found += [(vm.key, problem) for vm in self.vms for problem in vm.problems]
        return (*found, *((left.key, left.reason) for left in self.leftovers if not left.trash))


@dataclass(frozen=True)
class Changes:
    """What differs between two inventories, by key."""

    added: frozenset[Key] = frozenset()
    removed: frozenset[Key] = frozenset()
    changed: frozenset[Key] = frozenset()
    """Another content or another parent."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def diff(old: Inventory | None, new: Inventory) -> Changes:
    """The rows that came, went and changed; all came if there was nothing before."""
    if old is new:
        return Changes()
    before: Mapping[Key, Row] = old.by_key if old else {}
    after = new.by_key
    return Changes(
        frozenset(after.keys() - before.keys()),
        frozenset(before.keys() - after.keys()),
        frozenset(
            key
            for key, row in after.items()
            if (was := before.get(key)) and (was.thing != row.thing or was.parent != row.parent)
        ),
    )


def _rows(inventory: Inventory) -> Iterator[Row]:
    on: dict[Key, list[TemplateEntry | VmEntry | Leftover]] = {image.key: [] for image in inventory.images}
    loose: list[TemplateEntry | VmEntry | Leftover] = []
    for template in inventory.templates:
        on.get(template.base or OTHER, loose).append(template)
    for vm in inventory.vms:
        on.get(vm.base or OTHER, loose).append(vm)
    for left in inventory.leftovers:
        if not left.trash:
            base = next((disk.base for disk in left.disks if disk.base), OTHER)
            on.get(base, loose).append(left)
    for image in inventory.images:
        yield Row(image.key, None, 0, image)
        yield from _below(image.key, on[image.key])
    if loose:
        yield Row(OTHER, None, 0, None)
        yield from _below(OTHER, loose)


def _below(parent: Key, things: Sequence[TemplateEntry | VmEntry | Leftover]) -> Iterator[Row]:
    for thing in things:
        yield Row(thing.key, parent, 1, thing)
        if isinstance(thing, VmEntry):
            yield from _snapshot_rows(thing)


def _snapshot_rows(vm: VmEntry) -> Iterator[Row]:
    """Each snapshot once, below its parent; below the VM if its parent is missing or leads in a circle."""
    known = {one.name: one for one in vm.snapshots}
    below: dict[str, list[Snapshot]] = {}
    roots: list[Snapshot] = []
    for one in known.values():
        if one.parent in known and one.parent is not None:
            below.setdefault(one.parent, []).append(one)
        else:
            roots.append(one)
    done: set[str] = set()
    pending = list(known.values())
    while True:
        # no recursion: a chain of snapshots may be longer than Python's stack
        stack = [(one, vm.key, 2) for one in reversed(roots)]
        while stack:
            one, parent, depth = stack.pop()
            if one.name in done:
                continue
            done.add(one.name)
            key = ("snapshot", vm.uuid, one.name)
            yield Row(key, parent, depth, one)
            stack += [(child, key, depth + 1) for child in reversed(below.get(one.name, []))]
        circle = next((one for one in pending if one.name not in done), None)
        if circle is None:
            return
        roots = [circle]
