"""``vmlab snapshot list|create|describe|delete``; going back is in `snapshot_revert`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.base.ids import is_name
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size, span
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Preview, Verb, blocking
from vmlab_tui.verbs.vm_target import (
    VM,
    change,
    foreign,
    label,
    one_vm,
    refuse_absent,
    refuse_foreign,
    refuse_unconfirmed,
    remember,
)
from vmlab_tui.verbs.words import table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.hosts.host import Host
    from vmlab_tui.hosts.model import Domain, Snapshot
    from vmlab_tui.lab.inventory import VmEntry

SNAPSHOT = Param(
    "snapshot", "A snapshot's name.", positional=True, required=True, metavar="NAME", names="snapshot"
)
ABOUT = 1000
"""Characters that a description may have."""
BIOS = "profiles with BIOS firmware and qcow2 disks have it"
_DEEP = 12
"""Levels of a snapshot tree that are shown by indenting."""


class SnapshotList(Verb):
    """A VM's snapshots as a tree."""

    id = "snapshot.list"
    words = ("snapshot", "list")
    help = "List a VM's snapshots as a tree, the current one marked"
    long_help = """\
'memory' goes back to a running guest in a second or two; 'disk' holds no memory: going back leaves
the VM off. The size is what the memory takes in the VM's disk. The mark * stands before the one that
the present descends from."""
    examples = (
        ("vmlab snapshot list last", "of the newest run's VM"),
        ("vmlab snapshot list web-7f3a --json", "for a program; seconds since 1970, bytes"),
    )
    params = (VM,)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        async with ctx.host(readonly=True) as host:
            vm = await one_vm(ctx, host, args, snapshots=True)
            refuse_absent(vm)
            assert vm.domain is not None
            why = "" if vm.snapshots else await no_travel(host, vm.domain)
        data: JsonValue = {
            "schema": 1,
            "vm": vm.name,
            "uuid": vm.uuid,
            "snapshots": [as_json(one) for one in vm.snapshots],
        }
        lines = tree(vm.snapshots)
        if not lines:
            then = f"no time travel: {why}" if why else f"vmlab snapshot create {label(vm)}"
            lines = (f"{label(vm)} has no snapshots", f"  {then}")
        return Outcome(data, lines)


class SnapshotCreate(Verb):
    """Mark this moment of a VM."""

    id = "snapshot.create"
    words = ("snapshot", "create")
    help = "Take a snapshot of a VM, with its memory if it runs"
    long_help = """\
A running guest stands still while its memory is written (about a second for each GiB), and goes on.
Without NAME the snapshot is called after the time: snap-131415.

A VM whose disk or firmware cannot have snapshots is refused with the reason."""
    examples = (
        ("vmlab snapshot create last", "mark this moment"),
        ("vmlab snapshot create web-7f3a before-upgrade --description 'nginx 1.22 works'", ""),
    )
    areas = ("lab",)
    key = "m"
    label = "snapshot"
    confirms = True
    asks = ("snapshot", "description")
    params = (
        VM,
        # names nothing that is there yet, so nothing to pick from
        Param("snapshot", "What to call it.", positional=True, metavar="[NAME]"),
        Param("description", "What it is good for.", metavar="TEXT"),
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        self._name(args, ())
        async with ctx.host(readonly=True) as host:
            vm = await one_vm(ctx, host, args)
            await refuse_no_travel(host, vm)
        await remember(ctx, args, [vm])
        why = foreign(vm)
        return Preview((f"a snapshot of {label(vm)} is taken",), (why,) if why else ())

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.vmverbs import Change

        async with ctx.host() as host:
            vm = await one_vm(ctx, host, args, snapshots=True)
            await refuse_no_travel(host, vm)
            refuse_unconfirmed(ctx, vm)
            known = vm.domain.snapshots if vm.domain else ()
            name = self._name(args, tuple(one.name for one in known))
            ctx.front.status(f"{label(vm)}: snapshot {name}")
            about = _about(args)
            await change(ctx, host, args, vm, Change(do="snapshot", name=name, description=about))
            made = next(one for one in await host.snapshots(vm.uuid) if one.name == name)
        await warn_of_budget(ctx)
        data: JsonValue = {"schema": 1, "vm": vm.name, "uuid": vm.uuid, "snapshot": as_json(made)}
        kind = "with memory" if made.memory else "of the disk only: the VM is off"
        return Outcome(data, (f"snapshot {name} of {label(vm)}, {kind}",))

    @staticmethod
    def _name(args: Args, known: tuple[str, ...]) -> str:
        """The name that was asked for, or one after the time that is still free. Raises UsageError."""
        asked = args.optional("snapshot")
        if asked:
            if not is_name(asked):
                raise UsageError(
                    f"'{clean_line(asked, 80)}' cannot name a snapshot",
                    hint="letters, digits, '.', '_' and '-', such as before-upgrade",
                )
            return asked
        base = datetime.now().strftime("snap-%H%M%S")
        names = [base, *(f"{base}-{number}" for number in range(2, 100))]
        return next(name for name in names if name not in known)


class SnapshotDescribe(Verb):
    """Say what a snapshot is good for."""

    id = "snapshot.describe"
    words = ("snapshot", "describe")
    help = "Change a snapshot's description"
    long_help = """\
A snapshot's name stays as it is: libvirt cannot rename one. Without TEXT it has no description any
more. A safety snapshot that is described anew is yours, and not deleted for being old."""
    examples = (
        ("vmlab snapshot describe last clean-boot 'before the upgrade, all well'", ""),
        ("vmlab snapshot describe web-7f3a snap-131415", "takes its description away"),
    )
    areas = ("lab",)
    key = "e"
    confirms = True
    asks = ("description",)
    params = (
        VM,
        SNAPSHOT,
        Param("description", "What it is good for.", positional=True, metavar="[TEXT]"),
    )

    async def known(self, ctx: Context, args: Args) -> dict[str, object]:
        async with ctx.host(readonly=True) as host:
            _, snapshot = await one_snapshot(ctx, host, args)
        return {"description": clean_line(snapshot.description, ABOUT)}

    async def preview(self, ctx: Context, args: Args) -> Preview:
        async with ctx.host(readonly=True) as host:
            vm, snapshot = await one_snapshot(ctx, host, args)
        await remember(ctx, args, [vm])
        why = foreign(vm)
        return Preview((f"snapshot {told(snapshot)} is described anew",), (why,) if why else ())

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.vmverbs import Change

        async with ctx.host() as host:
            vm, snapshot = await one_snapshot(ctx, host, args)
            refuse_unconfirmed(ctx, vm)
            about = _about(args)
            await change(
                ctx, host, args, vm, Change(do="describe-snapshot", name=snapshot.name, description=about)
            )
            made = next(one for one in await host.snapshots(vm.uuid) if one.name == snapshot.name)
        data: JsonValue = {"schema": 1, "vm": vm.name, "uuid": vm.uuid, "snapshot": as_json(made)}
        said = f"'{clean_line(made.description, 60)}'" if made.description else "nothing"
        return Outcome(data, (f"snapshot {clean_line(made.name, 60)} of {label(vm)} says {said} now",))


class SnapshotDelete(Verb):
    """Delete a snapshot."""

    id = "snapshot.delete"
    words = ("snapshot", "delete")
    help = "Delete one snapshot of a VM; the VM and other snapshots stay"
    long_help = """\
The moment it holds cannot be gone back to any more. The VM's present is not touched, and snapshots
that were taken after it stay: they then stand below the one before it. What it took in the VM's disk
file is given back to the file system."""
    examples = (
        ("vmlab snapshot delete last snap-131415", "asks at a terminal"),
        ("vmlab snapshot delete web-7f3a before-upgrade --yes", "for a script"),
    )
    areas = ("lab",)
    key = "D"
    loses = True
    params = (VM, SNAPSHOT)

    async def preview(self, ctx: Context, args: Args) -> Preview:
        from vmlab_tui.lab.rewind import why_not_delete

        async with ctx.host(readonly=True) as host:
            vm, snapshot = await one_snapshot(ctx, host, args, "snapshot-delete")
            if why := await why_not_delete(host, vm.uuid, snapshot):
                raise Refused(f"snapshot {told(snapshot)}: {why}", hint="it is left as it is")
        await remember(ctx, args, [vm])
        children = [clean_line(one.name, 60) for one in vm.snapshots if one.parent == snapshot.name]
        lines = [f"a snapshot of {label(vm)} will be deleted; the VM itself stays as it is"]
        if children:
            below = f"below {clean_line(snapshot.parent, 60)}" if snapshot.parent else "at the root"
            lines.append(f"snapshots taken after it stay, then {below}: {', '.join(children[:6])}")
        if snapshot.size:
            # QEMU lets go of the memory that it has loaded only when it writes the next
            when = "by up to" if snapshot.current else "by about"
            late = ", some of it with the next snapshot" if snapshot.current else ""
            lines.append(f"its disk file becomes smaller {when} {size(snapshot.size)}{late}")
        return Preview(tuple(lines), (f"snapshot {told(snapshot)}",))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.vmverbs import Change

        async with ctx.host() as host:
            vm, snapshot = await one_snapshot(ctx, host, args, "snapshot-delete")
            ctx.front.status(f"{label(vm)}: deleting snapshot {clean_line(snapshot.name, 60)}")
            done = await change(ctx, host, args, vm, Change(do="delete-snapshot", name=snapshot.name))
        data: JsonValue = {
            "schema": 1,
            "vm": vm.name,
            "uuid": vm.uuid,
            "deleted": snapshot.name,
            **done.data,
        }
        line = f"deleted snapshot {clean_line(snapshot.name, 60)} of {label(vm)}"
        return Outcome(data, (line, *done.lines))


async def warn_of_budget(ctx: Context) -> None:
    """Say so if snapshots and templates now take more than they may: what a person wants is taken anyway."""
    from vmlab_tui.runs.budget import excess
    from vmlab_tui.spec.settings import load_settings

    if much := await blocking(lambda: excess(ctx.lab.store, load_settings().budget)):
        ctx.front.say(f"warning: {much}; vmlab template list and vmlab ls --own tell what takes it")


def _about(args: Args) -> str:
    about = args.optional("description") or ""
    if len(about) > ABOUT:
        raise UsageError(f"the description is longer than {ABOUT} characters")
    return about


async def one_snapshot(ctx: Context, host: Host, args: Args, command: str = "") -> tuple[VmEntry, Snapshot]:
    """The VM and its snapshot that the parameters name. Raises UsageError, Refused.

    ``command``: what virsh would do to it; foreign VMs are refused then.
    """
    vm = await one_vm(ctx, host, args, snapshots=True)
    name = args.optional("snapshot") or ""
    if command:
        refuse_foreign(ctx, vm, command, vm.name, name)
    refuse_absent(vm)
    assert vm.domain is not None
    for one in vm.snapshots:
        if one.name == name:
            return vm, one
    if not vm.snapshots and (why := await no_travel(host, vm.domain)):
        raise Refused(f"VM {label(vm)} has no snapshots: no time travel: {why}", hint=BIOS)
    names = ", ".join(clean_line(one.name, 60) for one in vm.snapshots)
    raise UsageError(
        f"VM {label(vm)} has no snapshot" + (f" '{clean_line(name, 80)}'" if name else ""),
        hint=f"it has: {names}" if names else f"take one first: vmlab snapshot create {label(vm)}",
    )


async def refuse_no_travel(host: Host, vm: VmEntry) -> None:
    """Raises Refused with the reason when such a VM cannot have snapshots on this host."""
    refuse_absent(vm)
    assert vm.domain is not None
    if why := await no_travel(host, vm.domain):
        raise Refused(f"VM {label(vm)}: no time travel: {why}", hint=BIOS)


async def no_travel(host: Host, domain: Domain) -> str:
    """Why a domain cannot have snapshots; empty when it can, as far as can be known beforehand."""
    if domain.problem:
        return f"its definition cannot be read: {clean_line(domain.problem)}"
    if not domain.formats:
        return "it has no disk that could hold snapshots"
    # a seed or an installation medium beside the disk is raw, and is left out of snapshots
    form = "qcow2" if "qcow2" in domain.formats else domain.formats[0]
    return await host.can_time_travel(domain.firmware, form)


def tree(snapshots: tuple[Snapshot, ...]) -> tuple[str, ...]:
    """Snapshots as indented lines, children below their parents, siblings by age."""
    names = {one.name for one in snapshots}
    below: dict[str | None, list[Snapshot]] = {}
    for one in snapshots:
        below.setdefault(one.parent if one.parent in names else None, []).append(one)
    rows: list[tuple[str, ...]] = []
    waiting = [(0, one) for one in reversed(below.get(None, []))]
    while waiting:
        depth, one = waiting.pop()
        mark = "* " if one.current else "  "
        about = clean_line(one.description, 60)
        name = "  " * min(depth, _DEEP) + clean_line(one.name, 60)
        rows.append((mark + name, kind(one), amount(one), f"{age_of(one)} ago", about))
        waiting += [(depth + 1, child) for child in reversed(below.get(one.name, []))]
    return table(rows, head=("  snapshot", "holds", "size", "taken", ""))


def kind(snapshot: Snapshot) -> str:
    """``memory``, ``disk``; ``external`` for files beside the disk, which vmlab does not make."""
    held = "memory" if snapshot.memory else "disk"
    return f"{held}, external" if snapshot.external else held


def amount(snapshot: Snapshot) -> str:
    """What its memory takes in the VM's disk: ``93.2M``; ``-`` where there is none, or nobody knows."""
    return "-" if snapshot.size is None else size(snapshot.size)


def told(snapshot: Snapshot) -> str:
    """``'clean-boot' of 13:14 (12 min ago)``."""
    when = datetime.fromtimestamp(snapshot.created, UTC).astimezone()
    clock = when.strftime("%H:%M" if _seconds(snapshot) < 12 * 3600 else "%Y-%m-%d %H:%M")
    return f"'{clean_line(snapshot.name, 60)}' of {clock} ({age_of(snapshot)} ago)"


def _seconds(snapshot: Snapshot) -> float:
    return datetime.now(UTC).timestamp() - snapshot.created


def age_of(snapshot: Snapshot) -> str:
    """``12 min``: how long ago it was taken."""
    return span(_seconds(snapshot))


def as_json(snapshot: Snapshot) -> dict[str, JsonValue]:
    """A snapshot for programs; ``created`` in seconds since 1970, ``size`` of its memory in bytes."""
    return {
        "name": snapshot.name,
        "parent": snapshot.parent,
        "description": snapshot.description,
        "created": snapshot.created,
        "power": snapshot.power.value,
        "memory": snapshot.memory,
        "size": snapshot.size,
        "external": snapshot.external,
        "files": [str(path) for path in snapshot.files],
        "current": snapshot.current,
    }
