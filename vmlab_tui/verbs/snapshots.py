"""``vmlab snapshot list|create|revert|delete``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.base.ids import is_name
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import span
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Preview, Verb
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
_DEEP = 12
"""Levels of a snapshot tree that are shown by indenting."""


class SnapshotList(Verb):
    """A VM's snapshots as a tree."""

    id = "snapshot.list"
    words = ("snapshot", "list")
    help = "List a VM's snapshots as a tree, the current one marked"
    long_help = """\
'memory' goes back to a running guest in a second or two; 'disk' holds no memory: going back leaves
the VM off. The mark * stands before the one that the present descends from."""
    examples = (
        ("vmlab snapshot list last", "of the newest run's VM"),
        ("vmlab snapshot list web-7f3a --json", "for a program; times in seconds since 1970"),
    )
    params = (VM,)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        async with ctx.host(readonly=True) as host:
            vm = await one_vm(ctx, host, args, snapshots=True)
        refuse_absent(vm)
        found = vm.domain.snapshots if vm.domain else ()
        data: JsonValue = {
            "schema": 1,
            "vm": vm.name,
            "uuid": vm.uuid,
            "snapshots": [as_json(one) for one in found],
        }
        lines = tree(found)
        return Outcome(
            data,
            lines or (f"{label(vm)} has no snapshots", f"  vmlab snapshot create {label(vm)}"),
        )


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
            about = args.optional("description") or ""
            if len(about) > 1000:
                raise UsageError("--description: longer than 1000 characters")
            await change(ctx, host, args, vm, Change(do="snapshot", name=name, description=about))
            made = next(one for one in await host.snapshots(vm.uuid) if one.name == name)
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


class SnapshotRevert(Verb):
    """Go back to a snapshot."""

    id = "snapshot.revert"
    words = ("snapshot", "revert")
    help = "Go back to a snapshot of a VM; its present is lost"
    long_help = """\
Everything since the snapshot is lost: disk, memory, running programs. Other snapshots stay, later ones
too. To be able to return to the present, take a snapshot of it first.

While the VM's run is at work nobody goes back; a run that is paused, or has ended with its VM kept,
allows it."""
    examples = (
        ("vmlab snapshot revert last clean-boot", "asks at a terminal"),
        ("vmlab snapshot revert web-7f3a before-upgrade --yes", "for a script"),
    )
    areas = ("lab",)
    key = "R"
    loses = True
    params = (VM, SNAPSHOT)

    async def preview(self, ctx: Context, args: Args) -> Preview:
        async with ctx.host(readonly=True) as host:
            vm, snapshot = await _snapshot(ctx, host, args, "snapshot-revert")
        await remember(ctx, args, [vm])
        assert vm.domain is not None
        later = [one.name for one in vm.domain.snapshots if one.created > snapshot.created]
        becomes = "runs" if snapshot.memory else "is off"
        lines = [f"{label(vm)} goes back to {told(snapshot)} and {becomes} then"]
        if later:
            lines.append(f"later snapshots stay: {', '.join(clean_line(name, 60) for name in later[:6])}")
        loses = [f"all changes in {label(vm)} of the last {_age(snapshot)} that no other snapshot holds"]
        if vm.power not in ("off", "crashed"):
            loses.append(f"its memory and the programs in it (it is {vm.power})")
        return Preview(tuple(lines), tuple(loses))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.vmverbs import Change

        async with ctx.host() as host:
            vm, snapshot = await _snapshot(ctx, host, args, "snapshot-revert")
            ctx.front.status(f"{label(vm)}: going back to {clean_line(snapshot.name, 60)}")
            await change(ctx, host, args, vm, Change(do="revert", name=snapshot.name))
            power = (await host.power(vm.uuid)).value
        data: JsonValue = {
            "schema": 1,
            "vm": vm.name,
            "uuid": vm.uuid,
            "snapshot": as_json(snapshot),
            "power": power,
        }
        return Outcome(data, (f"{label(vm)} is back at {told(snapshot)}; it is {power}",))


class SnapshotDelete(Verb):
    """Delete a snapshot."""

    id = "snapshot.delete"
    words = ("snapshot", "delete")
    help = "Delete one snapshot of a VM; the VM and other snapshots stay"
    long_help = """\
The moment it holds cannot be gone back to any more. The VM's present is not touched, and snapshots
that were taken after it stay."""
    examples = (
        ("vmlab snapshot delete last snap-131415", "asks at a terminal"),
        ("vmlab snapshot delete web-7f3a before-upgrade --yes", "for a script"),
    )
    areas = ("lab",)
    key = "D"
    loses = True
    params = (VM, SNAPSHOT)

    async def preview(self, ctx: Context, args: Args) -> Preview:
        async with ctx.host(readonly=True) as host:
            vm, snapshot = await _snapshot(ctx, host, args, "snapshot-delete")
        await remember(ctx, args, [vm])
        assert vm.domain is not None
        children = [clean_line(one.name, 60) for one in vm.domain.snapshots if one.parent == snapshot.name]
        lines = [f"a snapshot of {label(vm)} will be deleted; the VM itself stays as it is"]
        if children:
            lines.append(f"snapshots taken after it stay: {', '.join(children[:6])}")
        return Preview(tuple(lines), (f"snapshot {told(snapshot)}",))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.vmverbs import Change

        async with ctx.host() as host:
            vm, snapshot = await _snapshot(ctx, host, args, "snapshot-delete")
            ctx.front.status(f"{label(vm)}: deleting snapshot {clean_line(snapshot.name, 60)}")
            await change(ctx, host, args, vm, Change(do="delete-snapshot", name=snapshot.name))
        data: JsonValue = {"schema": 1, "vm": vm.name, "uuid": vm.uuid, "deleted": snapshot.name}
        return Outcome(data, (f"deleted snapshot {clean_line(snapshot.name, 60)} of {label(vm)}",))


async def _snapshot(ctx: Context, host: Host, args: Args, command: str) -> tuple[VmEntry, Snapshot]:
    """The VM of ours and its snapshot that the parameters name. Raises UsageError, Refused."""
    vm = await one_vm(ctx, host, args, snapshots=True)
    name = args.text("snapshot")
    refuse_foreign(ctx, vm, command, vm.name, name)
    refuse_absent(vm)
    found = vm.domain.snapshots if vm.domain else ()
    for one in found:
        if one.name == name:
            return vm, one
    names = ", ".join(clean_line(one.name, 60) for one in found)
    raise UsageError(
        f"VM {label(vm)} has no snapshot '{clean_line(name, 80)}'",
        hint=f"it has: {names}" if names else f"it has none; vmlab snapshot create {label(vm)}",
    )


async def refuse_no_travel(host: Host, vm: VmEntry) -> None:
    """Raises Refused with the reason when such a VM cannot have snapshots on this host."""
    refuse_absent(vm)
    assert vm.domain is not None
    if why := await no_travel(host, vm.domain):
        raise Refused(f"VM {label(vm)}: {why}", hint="profiles with BIOS firmware and qcow2 disks have it")


async def no_travel(host: Host, domain: Domain) -> str:
    """Why a domain cannot have snapshots; empty when it can, as far as can be known beforehand."""
    if domain.problem:
        return f"no time travel: its definition cannot be read: {clean_line(domain.problem)}"
    if not domain.formats:
        return "no time travel: it has no disk that could hold snapshots"
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
        rows.append((mark + name, kind(one), f"{_age(one)} ago", about))
        waiting += [(depth + 1, child) for child in reversed(below.get(one.name, []))]
    return table(rows, head=("  snapshot", "holds", "taken", ""))


def kind(snapshot: Snapshot) -> str:
    """``memory``, ``disk``; ``external`` for files beside the disk, which vmlab does not make."""
    held = "memory" if snapshot.memory else "disk"
    return f"{held}, external" if snapshot.external else held


def told(snapshot: Snapshot) -> str:
    """``'clean-boot' of 13:14 (12 min ago)``."""
    when = datetime.fromtimestamp(snapshot.created, UTC).astimezone()
    clock = when.strftime("%H:%M" if _seconds(snapshot) < 12 * 3600 else "%Y-%m-%d %H:%M")
    return f"'{clean_line(snapshot.name, 60)}' of {clock} ({_age(snapshot)} ago)"


def _seconds(snapshot: Snapshot) -> float:
    return datetime.now(UTC).timestamp() - snapshot.created


def _age(snapshot: Snapshot) -> str:
    return span(_seconds(snapshot))


def as_json(snapshot: Snapshot) -> dict[str, JsonValue]:
    """A snapshot for programs; ``created`` in seconds since 1970."""
    return {
        "name": snapshot.name,
        "parent": snapshot.parent,
        "description": snapshot.description,
        "created": snapshot.created,
        "power": snapshot.power.value,
        "memory": snapshot.memory,
        "external": snapshot.external,
        "current": snapshot.current,
    }
