"""``vmlab fork``: new VMs that go on from a VM of ours, memory included."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.ids import is_name, new_uuid
from vmlab_tui.base.paths import used_bytes
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs.snapshots import refuse_no_travel, warn_of_budget
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb, blocking
from vmlab_tui.verbs.vm_target import (
    VM_HELP,
    Done,
    change,
    each,
    find_vm,
    inventory,
    label,
    refuse_absent,
    remember,
)

if TYPE_CHECKING:
    import asyncio

    from pydantic import JsonValue

    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.forks import Fork
    from vmlab_tui.lab.inventory import VmEntry

_TTL = 24 * 3600.0
_MOST = 64


class ForkVm(Verb):
    """Fork a VM."""

    id = "vm.fork"
    words = ("fork",)
    help = "Start new VMs from a running VM or one of its snapshots"
    long_help = """\
A fork goes on from where the VM is, or was when the snapshot was taken, its memory and running
programs included. It has a disk, ports, a host name, a machine id, an SSH host key and a lease of
its own. The VM it comes from is not changed and goes on if it runs: it stands still for a moment
while its disk is copied.

With '@' and a snapshot's name it is forked from there. Without, a running VM is forked from now;
the snapshot that this takes is dropped again. Several forks are started a few at a time, and each is
told as soon as it can be used.

Each fork takes memory of its own: they share nothing. Its snapshot 'forked' is the moment at which it
began. VMs on a libvirt network cannot be forked, since a fork would have their address."""
    examples = (
        ("vmlab fork last", "of the newest run's VM, from now"),
        ("vmlab fork last@clean-boot --count 4", "four of them, from a snapshot"),
        ("vmlab fork web-7f3a@provisioned --name web-copy --ttl 2h", ""),
    )
    areas = ("lab",)
    key = "k"
    label = "fork"
    confirms = True
    at_snapshots = True
    asks = ("name", "count")
    params = (
        Param(
            "vm",
            VM_HELP.removesuffix(".") + ", with @SNAPSHOT for one of its snapshots.",
            positional=True,
            required=True,
            metavar="VM|RUN[@SNAPSHOT]",
            names="vm",
        ),
        Param("count", "How many (default 1).", metavar="N"),
        Param("name", "What to call it; several are numbered (default: VM-fork-XXXX).", metavar="NAME"),
        Param("ttl", "How long its lease keeps it (default 24h).", kind=Kind.DURATION, metavar="TIME"),
    )

    def applies(self, power: str) -> bool:
        return power in ("on", "paused")

    async def preview(self, ctx: Context, args: Args) -> Preview:
        count = _count(args)
        async with ctx.host(readonly=True) as host:
            vm, snapshot = await _source(ctx, host, args)
            heed = await room(ctx, host, vm, count)
        await remember(ctx, args, [vm])
        origin = f"its snapshot '{clean_line(snapshot, 60)}'" if snapshot else "now"
        many = f"{count} VMs are" if count > 1 else "a VM is"
        disk, memory = _takes(vm, count)
        lines = (
            f"{many} forked from {label(vm)}, from {origin}",
            f"up to {size(disk)} of disk and {size(memory)} of memory, and a lease of its own"
            + (" each" if count > 1 else ""),
        )
        return Preview(lines, (heed,) if heed else ())

    async def run(self, ctx: Context, args: Args) -> Outcome:
        import asyncio

        from vmlab_tui.lab import forks

        count, ttl = _count(args), args.seconds("ttl")
        async with ctx.host() as host:
            vm, wanted = await _source(ctx, host, args)
            new = [
                _entry(name) for name in _names(args, vm, count, {one.name for one in await host.domains()})
            ]
            if heed := await room(ctx, host, vm, count):
                ctx.front.say(f"warning: {heed}")
            snapshot = wanted or await self._mark(ctx, host, args, vm)
            made: list[Fork] = []
            at_work: set[asyncio.Task[None]] = set()

            async def work(entry: VmEntry) -> Done:
                def stage(text: str) -> None:
                    ready = f" ({len(made)} of {count} ready)" if count > 1 else ""
                    ctx.front.status(f"{label(entry)}: {clean_line(text)}{ready}")

                at_work.add(cast("asyncio.Task[None]", asyncio.current_task()))
                fork = await forks.make_fork(
                    ctx.lab, host, source, entry.name, entry.uuid, ttl=_TTL if ttl is None else ttl,
                    on_stage=stage,
                )  # fmt: skip
                made.append(fork)
                _tell(ctx, fork)
                return Done("", _data(fork))

            try:
                source = await forks.source_of(ctx.lab, host, vm, snapshot)
                # each takes a host CPU and more until it can be used: so the first is ready early
                outcome = await each(ctx, self.id, new, (), work, at_once=_cpus())
                warnings = await self._settle(ctx, host, made)
            finally:
                if at_work:  # called off: each takes away what it has made
                    await asyncio.wait(at_work)
                if not wanted:
                    await self._drop(ctx, host, args, vm, snapshot)
        await warn_of_budget(ctx)
        assert isinstance(outcome.data, dict)
        data: JsonValue = {
            **outcome.data,
            "source": vm.name,
            "snapshot": wanted or None,
            "warnings": list(warnings),
        }
        return replace(outcome, data=data, lines=())

    @staticmethod
    async def _mark(ctx: Context, host: Host, args: Args, vm: VmEntry) -> str:
        """Take the snapshot from which a running VM is forked; its name."""
        from vmlab_tui.base.faults import point
        from vmlab_tui.lab.forks import MARKED
        from vmlab_tui.lab.vmverbs import FORK_POINT, Change

        name = datetime.now().strftime(f"{FORK_POINT}%H%M%S-") + secrets.token_hex(1)
        ctx.front.status(f"{label(vm)}: marking this moment")
        about = "where vmlab fork started from; it may be deleted when no fork is being made"
        await change(ctx, host, args, vm, Change(do="snapshot", name=name, description=about))
        point(MARKED)
        return name

    @staticmethod
    async def _drop(ctx: Context, host: Host, args: Args, vm: VmEntry, snapshot: str) -> None:
        from vmlab_tui.lab.vmverbs import Change

        try:
            await change(ctx, host, args, vm, Change(do="drop-fork-point", name=snapshot))
        except LabError as error:
            ctx.front.say(f"warning: {clean(error.message)}")
            ctx.front.say(f"  -> vmlab snapshot delete {label(vm)} {snapshot}")

    @staticmethod
    async def _settle(ctx: Context, host: Host, made: Sequence[Fork]) -> list[str]:
        """Give each fork its own snapshot, once all can be used; what went wrong."""
        import asyncio

        from vmlab_tui.lab.forks import settle

        few, warnings = asyncio.Semaphore(_cpus()), []

        async def one(fork: Fork) -> None:
            async with few:
                ctx.front.status(f"{fork.lease.name}: its own snapshot")
                try:
                    await settle(host, fork)
                except LabError as error:
                    warnings.append(f"{fork.lease.name} has no snapshot of its own: {clean(error.message)}")

        await asyncio.gather(*map(one, made))
        for text in warnings:
            ctx.front.say(f"warning: {text}")
        return warnings


def _cpus() -> int:
    return os.cpu_count() or 2


def _count(args: Args) -> int:
    text = args.optional("count") or "1"
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise UsageError(f"--count '{clean_line(text, 20)}': not a number from 1 to {_MOST}")
    return int(text)


async def _source(ctx: Context, host: Host, args: Args) -> tuple[VmEntry, str]:
    """The VM of ours to fork, and the snapshot that was named; empty: from now.

    Raises UsageError, Refused.
    """
    from vmlab_tui.lab.safety import is_safety

    ref, _, snapshot = args.text("vm").partition("@")
    vms = await inventory(ctx, host, snapshots=True)
    vm = await blocking(lambda: find_vm(ctx.lab, vms, ref))
    if vm.lease is None:
        raise Refused(
            f"VM {label(vm)} carries no vmlab lease: vmlab does not fork what it does not own",
            hint="those that can be forked: vmlab ls --own",
        )
    refuse_absent(vm)
    assert vm.domain is not None
    if vm.lease.network not in ("isolated", "user"):
        raise Refused(
            f"VM {label(vm)} sits on the libvirt network {clean_line(vm.lease.network, 40)}: "
            "a fork would have its address",
            hint="run its profile with --set vm.network=isolated (or user), and fork that VM",
        )
    lasting = [one for one in vm.domain.snapshots if one.memory and not one.external]
    lasting.sort(key=is_safety, reverse=True)  # those go by themselves one day, so another is proposed
    fitting = [clean_line(one.name, 60) for one in lasting]
    hint = (
        f"from a snapshot: vmlab fork {label(vm)}@{fitting[-1]}   # it has: {', '.join(fitting)}"
        if fitting
        else f"it has no snapshot with memory; start it first: vmlab start {label(vm)}"
    )
    if not (fitting and snapshot):
        await refuse_no_travel(host, vm)  # first: starting it would not help
    if not snapshot:
        if vm.power not in ("on", "paused"):
            raise Refused(f"VM {label(vm)} is {vm.power}: there is no now to fork it from", hint=hint)
        return vm, ""
    known = next((one for one in vm.domain.snapshots if one.name == snapshot), None)
    if known is None:
        raise UsageError(f"VM {label(vm)} has no snapshot '{clean_line(snapshot, 80)}'", hint=hint)
    if not known.memory or known.external:
        kind = "lies in files of its own" if known.external else "holds no memory"
        raise Refused(
            f"snapshot '{clean_line(snapshot, 80)}' of {label(vm)} {kind}: nothing can go on from it",
            hint=hint,
        )
    return vm, snapshot


def _names(args: Args, vm: VmEntry, count: int, taken: set[str]) -> list[str]:
    """Free names for so many forks. Raises UsageError."""
    asked = args.optional("name")
    if asked is None:
        found: set[str] = set()
        while len(found) < count:
            found |= {f"{vm.name[:50]}-fork-{secrets.token_hex(2)}"} - taken
        return sorted(found)
    names = [asked] if count == 1 else [f"{asked}-{at}" for at in range(1, count + 1)]
    for name in names:
        if not is_name(name):
            raise UsageError(
                f"'{clean_line(name, 80)}' cannot name a VM",
                hint="use letters, digits, dot, dash and underscore",
            )
        if name in taken:
            raise UsageError(f"a VM is called {name} already", hint="choose another --name")
    return names


def _entry(name: str) -> VmEntry:
    from vmlab_tui.lab.inventory import VmEntry

    return VmEntry(new_uuid(), name, None, None)


def _takes(vm: VmEntry, count: int) -> tuple[int, int]:
    """Bytes of disk and of memory that so many forks take at most."""
    memory = vm.domain.memory if vm.domain else 0
    try:
        used = used_bytes(Path(vm.disks[0].path).stat()) if vm.disks else 0
    except OSError:
        used = 0
    # the copy, and the memory again in a snapshot
    return count * (used + memory), count * memory


async def room(ctx: Context, host: Host, vm: VmEntry, count: int) -> str:
    """What to heed of the host's memory, empty if there is enough. Raises Refused when it cannot be."""
    from vmlab_tui.runs.budget import RESERVE

    disk, memory = _takes(vm, count)
    many = f"{count} forks take" if count > 1 else "the fork takes"
    free = shutil.disk_usage(ctx.lab.store.root).free
    if free < disk + RESERVE:
        raise Refused(
            f"{many} up to {size(disk)} of disk and {size(RESERVE)} must stay free, "
            f"but {ctx.lab.store.root} has {size(free)}",
            hint="free some space, or fork fewer",
        )
    facts = await host.facts()
    if memory > facts.memory_total:
        raise Refused(
            f"{many} {size(memory)} of memory, the machine has {size(facts.memory_total)}", hint="fork fewer"
        )
    if memory > facts.memory_free:
        return f"{many} {size(memory)} of memory, only {size(facts.memory_free)} are free: the host will swap"
    return ""


def _tell(ctx: Context, fork: Fork) -> None:
    """Say that a fork can be used, as soon as it can."""
    lease, where = fork.lease, fork.endpoint
    line = f"{lease.name} is ready after {fork.seconds:.1f} s: {where.user}@{where.host}:{where.port}"
    if ctx.wants_data or ctx.front.on_terminal:
        ctx.front.say(line)
    else:  # the result, for who reads it as it comes
        ctx.front.write(f"{line}\n")
    for note in fork.notes:
        ctx.front.say(f"  not its own: {clean_line(note)}")


def _data(fork: Fork) -> dict[str, JsonValue]:
    lease, where = fork.lease, fork.endpoint
    return {
        "run": lease.run_id,
        "ssh": f"{where.user}@{where.host}:{where.port}",
        "ports": {port.name: port.host_port for port in lease.ports},
        "expires": lease.expires,
        "seconds": round(fork.seconds, 3),
        "not_its_own": list(fork.notes),
    }
