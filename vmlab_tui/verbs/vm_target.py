"""Which VMs a verb means, whose they are, and what to say of several at once; shared by the verbs on VMs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Exit, LabError, Refused, UsageError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, blocking

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.guests.endpoint import Endpoint
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.context import Lab
    from vmlab_tui.lab.inventory import VmEntry
    from vmlab_tui.lab.vmverbs import Change, Result

VM_HELP = "A VM: its name, uuid, run (id, beginning of it), or 'last'."
VM = Param("vm", VM_HELP, positional=True, required=True, metavar="VM", names="vm")
VMS = Param(
    "vm",
    VM_HELP.replace("A VM", "VMs, each by"),
    positional=True,
    required=True,
    multiple=True,
    metavar="VM...",
    names="vm",
)


def own_vms(lab: Lab) -> tuple[VmEntry, ...]:
    """The VMs under our leases, without asking libvirt."""
    from vmlab_tui.lab.inventory import VmEntry
    from vmlab_tui.lab.leases import all_leases

    return tuple(VmEntry(lease.uuid, lease.name, None, lease) for lease in all_leases(lab.store)[0].values())


def find_vm(lab: Lab, vms: Sequence[VmEntry], ref: str) -> VmEntry:
    """The one of ``vms`` that ``ref`` names: any by its exact name or uuid, ours also by its run.

    ``last`` is the newest run's, whatever a foreign VM is called. Raises UsageError when there is none, or
    no longer, or more than one.
    """
    found = [vm for vm in vms if ref in (vm.uuid, vm.name, *_by_lease(vm)) and (vm.lease or ref != "last")]
    if len(found) == 1:
        return found[0]
    if found:
        uuids = ", ".join(vm.uuid for vm in found)
        raise UsageError(f"{len(found)} VMs are called {clean_line(ref, 80)}", hint=f"give the uuid: {uuids}")
    from vmlab_tui.runs import client  # takes its time, which a whole name does not need

    ours = {vm.uuid: vm for vm in vms if vm.lease}
    try:
        view = client.get_run(lab, ref)
    except UsageError as error:
        names = ", ".join(clean_line(name, 60) for name in sorted(vm.name for vm in ours.values())[:8])
        if "is the beginning of" in error.message:
            raise
        if back := _from_trash(lab, ref):
            raise UsageError(f"VM {clean_line(ref, 80)} is in the trash", hint=back) from error
        raise UsageError(
            f"no run and no VM of ours is called '{clean_line(ref, 80)}'",
            hint=f"VMs: {names}" if names else "vmlab ls shows all VMs; vmlab run makes one",
        ) from error
    if view.plan.vm.uuid not in ours:
        raise UsageError(
            f"run {view.run_id} ({view.status}) has no VM any more",
            hint=_from_trash(lab, view.plan.vm.uuid)
            or f"keep the next one: vmlab run {view.plan.profile_file} --keep",
        )
    return ours[view.plan.vm.uuid]


async def reach(ctx: Context, ref: str) -> tuple[VmEntry, Endpoint]:
    """The VM of ours that ``ref`` names and where SSH answers on it.

    Raises UsageError for a name that means none, LabError when nothing can answer there now.
    """
    from vmlab_tui.hosts.model import Power
    from vmlab_tui.lab.endpoint import endpoint_of

    vm = await blocking(lambda: find_vm(ctx.lab, own_vms(ctx.lab), ref))
    endpoint = await blocking(lambda: endpoint_of(ctx.lab, vm.uuid))
    async with ctx.host(readonly=True) as host:
        if await host.domain(vm.uuid) is None:
            raise LabError(f"VM {endpoint.label} has no domain: it is gone", hint="vmlab runs list")
        power = await host.power(vm.uuid)
    if power is Power.PAUSED:
        raise LabError(
            f"VM {endpoint.label} is paused: nothing in it answers",
            hint=f"vmlab unpause {endpoint.label}   # then once more",
        )
    if power in (Power.OFF, Power.CRASHED):
        raise LabError(
            f"VM {endpoint.label} is {power.value}",
            hint=f"vmlab start {endpoint.label}   # then once more",
        )
    return vm, endpoint


def _from_trash(lab: Lab, ref: str) -> str:
    """The command that brings back the VM of that name or uuid; empty where none is in the trash."""
    from vmlab_tui.lab.trash import list_entries

    try:
        entries, _ = list_entries(lab.store)
    except OSError:  # then it is nobody's hint
        return ""
    there = next((one for one in entries if one.key[0] == "vm" and ref in (one.name, one.key[-1])), None)
    return f"bring it back: vmlab undo {clean_line(there.name, 60)}" if there else ""


def _by_lease(vm: VmEntry) -> tuple[str, ...]:
    """What a VM of ours is called in its lease, and the run that made it."""
    return (vm.lease.name, vm.lease.run_id) if vm.lease else ()


def label(vm: VmEntry) -> str:
    """The VM's name, fit for a line."""
    return clean_line(vm.name, 60)


async def inventory(ctx: Context, host: Host, *, snapshots: bool = False) -> tuple[VmEntry, ...]:
    from vmlab_tui.lab.inventory import take_inventory

    return (await take_inventory(ctx.lab, host, snapshots=snapshots)).vms


async def one_vm(ctx: Context, host: Host, args: Args, *, snapshots: bool = False) -> VmEntry:
    """The VM of the parameter `VM`. Raises UsageError."""
    vms = await inventory(ctx, host, snapshots=snapshots)
    return await blocking(lambda: find_vm(ctx.lab, vms, args.text("vm")))


async def chosen(
    ctx: Context, host: Host, args: Args, *, snapshots: bool = False
) -> tuple[list[VmEntry], list[tuple[str, LabError]]]:
    """The VMs of the parameter `VMS`, each once, and the names that mean none. One bad name alone raises."""
    vms = await inventory(ctx, host, snapshots=snapshots)
    found: dict[str, VmEntry] = {}
    problems: list[tuple[str, LabError]] = []

    def look() -> None:
        for ref in args.many("vm"):
            try:
                vm = find_vm(ctx.lab, vms, ref)
            except UsageError as error:
                problems.append((ref, error))
            else:
                found[vm.uuid] = vm

    await blocking(look)
    if problems and len(args.many("vm")) == 1:
        raise problems[0][1]
    return list(found.values()), problems


def foreign(vm: VmEntry) -> str:
    """Whose a VM without a lease is, for a person to heed; empty for ours."""
    if vm.lease:
        return ""
    mark = vm.domain.mark if vm.domain else None
    other = f"another lab made it, with the store {clean_line(mark.store, 120)}" if mark else "it is foreign"
    return f"VM {label(vm)} carries no vmlab lease: {other}"


def refuse_unconfirmed(ctx: Context, vm: VmEntry) -> None:
    """Raises Refused for a foreign VM when nobody was there to confirm."""
    if (why := foreign(vm)) and not ctx.front.interactive:
        raise Refused(why, hint="say --yes if it is to be touched")


def refuse_foreign(ctx: Context, vm: VmEntry, *command: str) -> None:
    """Raises Refused for a foreign VM; ``command`` is what a person who knows better would tell virsh."""
    if vm.lease is None:
        import shlex

        virsh = clean_line(shlex.join(["virsh", "-c", ctx.lab.uri, *command]))
        raise Refused(
            f"VM {label(vm)}: it carries no vmlab lease; vmlab leaves it alone",
            hint=f"if it is yours: {virsh}",
        )


async def at_work(ctx: Context, vm: VmEntry) -> str:
    """The run that is at work on a VM of ours, and at which step; empty when none is."""
    from vmlab_tui.runs import client
    from vmlab_tui.runs.vmcontrol import run_folder
    from vmlab_tui.verbs.shapes import stopped_at

    def look() -> str:
        folder = run_folder(ctx.lab, vm)
        try:
            view = client.get_run(ctx.lab, folder.name) if folder else None
        except LabError:
            return ""  # a damaged run does nothing
        if view is None or not view.at_work:
            return ""
        step = stopped_at(view)
        where = f" at step {step.number:02} '{clean_line(step.name, 60)}'" if step else ""
        return f"run {view.run_id}, {view.status}{where}"

    return await blocking(look)


def refuse_absent(vm: VmEntry) -> None:
    """Raises Refused when there is no domain, only files."""
    if vm.domain is None:
        raise Refused(
            f"VM {label(vm)} has no domain, only files are left of it",
            hint=f"remove them: vmlab delete {vm.uuid}",
        )


async def remember(ctx: Context, args: Args, vms: Iterable[VmEntry]) -> None:
    """Note in ``args`` what a person is being shown of the runs of ``vms``."""
    from vmlab_tui.runs.vmcontrol import seen_of

    for vm in vms:
        if vm.lease:
            args.seen[vm.lease.run_id] = await blocking(partial(seen_of, ctx.lab, vm))


async def change(ctx: Context, host: Host, args: Args, vm: VmEntry, wish: Change) -> Result:
    """Make a change to one VM, by the worker of its run where there is one."""
    from vmlab_tui.lab.leases import whoami
    from vmlab_tui.runs.vmcontrol import change_vm

    seen = args.seen.get(vm.lease.run_id) if vm.lease else None
    return await change_vm(ctx.lab, host, vm, wish, by=whoami(), seen=seen)


@dataclass(frozen=True)
class Done:
    """What became of one VM: a line for people, more for programs."""

    line: str
    data: dict[str, JsonValue]


async def each(
    ctx: Context,
    verb: str,
    vms: Sequence[VmEntry],
    problems: Sequence[tuple[str, LabError]],
    work: Callable[[VmEntry], Awaitable[Done]],
    *,
    at_once: int = 4,
) -> Outcome:
    """``work`` on every VM, a few at a time; what one of them fails of does not stop the others.

    With one VM its error is raised, unless a program wants to read it.
    """
    import asyncio

    few = asyncio.Semaphore(at_once)

    async def one(vm: VmEntry) -> Done | LabError:
        async with few:
            try:
                return await work(vm)
            except LabError as error:
                return error

    results = await asyncio.gather(*(one(vm) for vm in vms))
    entries: list[JsonValue] = []
    lines: list[str] = []
    exits: list[int] = []

    def failed(name: str, uuid: str | None, error: LabError) -> None:
        exits.append(int(error.exit))
        entries.append(
            {
                "vm": name,
                "uuid": uuid,
                "ok": False,
                "error": clean(error.message),
                "hint": clean(error.hint),
                "exit": int(error.exit),
            }
        )
        ctx.front.say(f"failed: {clean(error.message)}")
        if error.hint:
            ctx.front.say(f"  -> {clean(error.hint)}")

    if len(results) == 1 and not problems and isinstance(results[0], LabError) and not ctx.wants_data:
        raise results[0]
    for vm, result in zip(vms, results, strict=True):
        if isinstance(result, LabError):
            failed(vm.name, vm.uuid, result)
        else:
            entries.append({"vm": vm.name, "uuid": vm.uuid, "ok": True, **result.data})
            lines.append(result.line)
    for ref, error in problems:
        failed(ref, None, error)
    code = Exit.PASSED if not exits else exits[0] if len(set(exits)) == 1 else Exit.LAB
    return Outcome({"schema": 1, "verb": verb, "vms": entries}, tuple(lines), int(code))
