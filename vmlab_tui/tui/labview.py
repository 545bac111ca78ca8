"""The lab as rows of a tree and as details: pure functions of the inventory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.hosts.model import Snapshot
from vmlab_tui.lab.graph import ImageEntry, Inventory, Key, Leftover, TemplateEntry, VmEntry
from vmlab_tui.lab.safety import is_safety
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.rows import Cell, Row
from vmlab_tui.verbs.words import age, left, local

if TYPE_CHECKING:
    from vmlab_tui.lab.graph import Row as Node

_POWER = {"on": "good", "paused": "warn", "crashed": "bad", "no domain": "warn", "unknown": "warn"}


def key_of(key: Key) -> str:
    """A graph key as a row's."""
    return "\x1f".join(key)


def tree(found: Inventory, folded: Collection[str]) -> list[Row]:
    """The visible rows: children of a folded one are left out."""
    rows: list[Row] = []
    hidden: int | None = None
    for node in found.rows:
        if hidden is not None and node.depth > hidden:
            continue
        key = key_of(node.key)
        hidden = node.depth if key in folded else None
        fold = (key not in folded) if node.key in found.children else None
        rows.append(_row(node, key, fold))
    return rows


def _row(node: Node, key: str, fold: bool | None) -> Row:
    thing = node.thing
    search: list[tuple[str, str]] = []
    if isinstance(thing, ImageEntry):
        kind = "former" if thing.former else "image"
        told = "BROKEN" if thing.problem else kind
        users = sum(user.kind != "template" for user in thing.users)
        cells = (
            Cell(clean_line(thing.name), "" if not thing.former else "dim"),
            Cell(told, "bad" if thing.problem else "dim"),
            Cell(size(thing.used) if thing.used is not None else "?"),
            Cell(f"{users}x used" if users else "unused", "dim"),
        )
        search = [("", thing.name), ("image", thing.name), ("state", told)]
    elif isinstance(thing, VmEntry):
        whose = owner_of(thing)
        cells = (
            Cell(clean_line(thing.name), "" if thing.own else "dim"),
            Cell(f"VM {thing.power}", _POWER.get(thing.power, "dim")),
            Cell(size(thing.size) if thing.size is not None else "?"),
            Cell(lease_of(thing), "dim" if not thing.own else "warn" if _late(thing) else ""),
        )
        search = [("", thing.name), ("state", thing.power), ("owner", whose), ("image", thing.image or "")]
        search += [("", thing.run_id or ""), ("", thing.uuid)]
    elif isinstance(thing, Snapshot):
        told = "snap +mem" if thing.memory else "snap disk"
        cells = (
            Cell(clean_line(thing.name) + (" (current)" if thing.current else "")),
            Cell(told, "accent"),
            Cell(size(thing.size) if thing.size is not None else ""),
            Cell(since(thing.created), "dim"),
        )
        search = [("", thing.name), ("state", "snapshot")]
    elif isinstance(thing, TemplateEntry):
        cells = (
            Cell(thing.name, "dim"),
            Cell("clean boot", "dim"),
            Cell(size(thing.size)),
            Cell(f"used {since(int(thing.used))}" if thing.used else "unused", "dim"),
        )
        search = [("", thing.name), ("state", "template"), ("image", thing.template.image)]
    elif isinstance(thing, Leftover):
        cells = (
            Cell(clean_line(thing.path.name)),
            Cell("files only", "warn"),
            Cell(size(thing.size)),
            Cell("lease?", "warn"),
        )
        search = [("", thing.path.name), ("state", "leftover")]
    else:
        cells = (Cell("other disks", "dim"), Cell("", ""), Cell(""), Cell(""))
    return Row(key, cells, node.depth, fold, tuple(search))


def since(epoch: int) -> str:
    """How long ago, from seconds since 1970."""
    from datetime import UTC, datetime

    return age(datetime.fromtimestamp(epoch, UTC).isoformat())


def owner_of(vm: VmEntry) -> str:
    """Who has it: a person of ours, another lab, or nobody that vmlab knows."""
    if vm.lease:
        return vm.lease.owner
    return "other lab" if vm.other_lab else "foreign"


def lease_of(vm: VmEntry) -> str:
    """How long a VM of ours is kept, in a few words; whose it is otherwise."""
    if not vm.lease:
        return owner_of(vm)
    if vm.lease.expires:
        return left(vm.lease.expires)
    return "kept" if vm.lease.keep else "its run's"


def _late(vm: VmEntry) -> bool:
    return bool(vm.lease and (vm.lease.seconds_left or 0) < 0)


def target_of(node: Node) -> Target | None:
    """What verbs act on when the cursor stands on this row."""
    thing = node.thing
    if isinstance(thing, ImageEntry) and not thing.former:
        return Target("image", thing.name, clean_line(thing.name))
    if isinstance(thing, VmEntry):
        return Target("vm", thing.uuid, clean_line(thing.name), state=thing.power)
    if isinstance(thing, TemplateEntry):
        return Target("template", thing.template.key, thing.name)
    if isinstance(thing, Snapshot):
        return Target("snapshot", thing.name, clean_line(thing.name), parent=node.key[1])
    return None


def details(node: Node, found: Inventory, budget: int | None = None) -> list[tuple[str, str]]:
    """(label, text) lines about one row; an empty label goes on with the one above.

    ``budget``: bytes that templates and snapshots may take, where that is known.
    """
    thing = node.thing
    if isinstance(thing, VmEntry):
        lines = list(_vm(thing))
    elif isinstance(thing, ImageEntry):
        lines = list(_image(thing))
    elif isinstance(thing, Snapshot):
        vm = found.vm(node.key[1])
        lines = list(_snapshot(thing, vm))
    elif isinstance(thing, TemplateEntry):
        lines = list(_template(thing))
    elif isinstance(thing, Leftover):
        lines = [
            ("files in", str(thing.path)),
            ("size", size(thing.size)),
            ("problem", thing.reason or "no lease and no domain explain these files"),
        ]
    else:
        lines = [("", "VMs on disks that are no image of this store")]
    kept = isinstance(thing, Snapshot | TemplateEntry) or (isinstance(thing, VmEntry) and thing.saved)
    if kept and budget is not None:
        over = ", which is too much" if found.budgeted > budget else ""
        lines.append(("budget", f"{size(found.budgeted)} of {size(budget)} in snapshots and templates{over}"))
    return [(label, clean_line(text, 400)) for label, text in lines]


def _vm(vm: VmEntry) -> Iterator[tuple[str, str]]:
    lease, domain = vm.lease, vm.domain
    yield "state", vm.power
    if vm.address:
        yield "ssh", vm.address
    for port in lease.ports if lease else ():
        if port.name != "ssh":
            yield port.name, f"127.0.0.1:{port.host_port} -> {port.guest_port}"
    if lease:
        if was := lease.forked_from:
            yield "fork of", f"{was.name}@{was.snapshot}"
        else:
            yield "run", f"{lease.run_id} ({lease.profile})"
        yield "lease", f"{lease.owner}, {lease_of(vm)}"
    else:
        yield "owner", f"made by the lab in {vm.other_lab}" if vm.other_lab else "foreign: no vmlab lease"
    if domain:
        yield (
            "memory",
            f"{size(domain.memory)}, {domain.cpus} CPU{'s' * (domain.cpus != 1)}, {domain.firmware}",
        )
    for disk in vm.disks:
        names = [node.path.name for node in disk.chain]
        yield "disk", " -> ".join(names)
        have = f"{size(disk.used)} of {size(disk.virtual)}" if disk.used and disk.virtual else "size unknown"
        yield "", f"{disk.format}, {have}"
    if vm.console_size:
        yield "console", size(vm.console_size)
    if vm.snapshots:
        current = next((one.name for one in vm.snapshots if one.current), "-")
        yield "snapshots", f"{len(vm.snapshots)}, current: {current}"
        if vm.saved:
            yield "", f"{size(vm.saved)} of memory in snapshots"
    for problem in vm.problems:
        yield "problem", problem
    yield "uuid", vm.uuid


def _image(image: ImageEntry) -> Iterator[tuple[str, str]]:
    if image.problem:
        yield "problem", image.problem
    if image.former:
        yield "former", "an earlier build; VMs stand on it"
    if image.image:
        yield "size", f"{size(image.image.disk_size)} of {size(image.image.virtual_size)}"
        yield "made", f"{local(image.image.created)} ({age(image.image.created)} ago)"
        yield "recipe", image.image.recipe or "imported"
        yield "login", image.image.user or "-"
    if image.path:
        yield "file", str(image.path)
    for number, user in enumerate(image.users):
        yield "used by" if not number else "", user.name + ("" if user.own else " (foreign)")
    if not image.users:
        yield "used by", "no VM"


def _template(one: TemplateEntry) -> Iterator[tuple[str, str]]:
    of = one.template
    yield "holds", "a clean boot with its memory: runs of such a VM start from it in seconds"
    yield "image", of.image
    yield "VM", f"{of.cpus} CPU{'s' * (of.cpus != 1)}, {size(of.memory)}"
    yield "size", size(one.size)
    yield "made", f"{local(of.created)} by run {of.run_id}"
    yield "used", f"{since(int(one.used))} ago" if one.used else "not yet"
    yield "key", of.key


def _snapshot(one: Snapshot, vm: VmEntry | None) -> Iterator[tuple[str, str]]:
    if vm:
        yield "of", f"VM {vm.name}"
    yield "taken", f"{since(one.created)} ago"
    yield "holds", "disk and memory" if one.memory else "the disk only"
    if one.size is not None:
        yield "size", f"{size(one.size)} of memory in the VM's disk"
    yield "VM was", one.power.value
    if one.description:
        yield "about", one.description
    if one.parent:
        yield "after", one.parent
    if one.current:
        yield "current", "what the VM has done since then is not in any snapshot"
    if one.external:
        yield "kind", f"external: in files of its own: {', '.join(map(str, one.files))}"
    if is_safety(one):
        yield "kind", "safety snapshot: goes when two newer ones were not needed"


def things_to_copy(node: Node) -> list[tuple[str, str, str]]:
    """(key, what, text) that one may want on the clipboard."""
    thing = node.thing
    found: list[tuple[str, str, str]] = []
    if isinstance(thing, VmEntry):
        found = [("n", "name", thing.name), ("u", "uuid", thing.uuid)]
        if thing.address:
            found.append(("a", "address", thing.address))
        found += [("p", "path", str(disk.path)) for disk in thing.disks[:1]]
        if thing.run_id:
            found.append(("r", "run", thing.run_id))
    elif isinstance(thing, ImageEntry):
        found = [("n", "name", thing.name)]
        if thing.path:
            found.append(("p", "path", str(thing.path)))
    elif isinstance(thing, Snapshot):
        found = [("n", "name", thing.name)]
    elif isinstance(thing, Leftover):
        found = [("p", "path", str(thing.path))]
    return [(key, what, clean_line(text, 2000)) for key, what, text in found]
