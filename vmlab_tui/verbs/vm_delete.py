"""``vmlab delete``: a VM of ours, with everything that is its own, into the trash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import is_locked
from vmlab_tui.base.text import clean_line
from vmlab_tui.verbs import removing
from vmlab_tui.verbs.clean_shapes import cleaner
from vmlab_tui.verbs.verb import Args, Context, Outcome, Preview, Verb, blocking
from vmlab_tui.verbs.vm_target import VMS, Done, chosen, each, label, refuse_foreign, remember

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.lab.cleanup import Plan
    from vmlab_tui.lab.graph import Key
    from vmlab_tui.lab.inventory import VmEntry
    from vmlab_tui.lab.reach import World
    from vmlab_tui.lab.sweep import Cleaner, Result
    from vmlab_tui.runs.client import RunView

_LAST_WORD = 100
"""Tenths of a second within which a worker is gone whose run is over."""


@dataclass
class _Found:
    """What may go. By uuid ``refused``: why one may not; ``runs``: ended before; ``gone``: not there."""

    plan: Plan
    adjust: Callable[[World], World]
    refused: dict[str, LabError]
    runs: dict[str, RunView]
    gone: frozenset[str]


class Delete(Verb):
    """Move VMs of ours to the trash."""

    id = "vm.delete"
    words = ("delete",)
    help = "Delete VMs of ours: domain, disk, snapshots go to the trash"
    long_help = """\
What may not go is searched for as vmlab clean does: a VM stays while another VM, a disk in the store or in
a watched folder, or an open file needs its disk. A run that is still at work on the VM is ended first, by
its own worker. A running VM is saved with its memory. vmlab undo brings it back; vmlab trash empty frees
the space and the ports. The run's directory with its logs and reports stays, and so does the image.

VMs without a lease of ours are never deleted."""
    examples = (
        ("vmlab delete last", "says what will be done, and asks"),
        ("vmlab delete web-7f3a db-11c0 --yes", "for a script"),
    )
    areas = ("lab",)
    key = "D"
    loses = True
    params = (VMS,)

    async def preview(self, ctx: Context, args: Args) -> Preview:
        lines: list[str] = []
        loses: list[str] = []
        async with ctx.host(readonly=True) as host:
            vms, problems = await chosen(ctx, host, args, snapshots=True)
        for vm in vms:
            if len(vms) == 1:
                refuse_foreign(ctx, vm, "undefine", vm.name)
            if vm.lease is None:
                lines.append(f"{label(vm)} is foreign and stays")
        ours = [vm for vm in vms if vm.lease]
        async with cleaner(ctx, changes=True) as at_work:
            found = await _find(ctx, at_work, ours)
        for vm in ours:
            if error := found.refused.get(vm.uuid):
                if len(vms) == 1:
                    raise error
                lines.append(clean_line(error.message, 300))
                continue
            lines.append(f"VM {label(vm)} goes to the trash")
            if view := found.runs.get(vm.uuid):
                loses.append(
                    f"end run {view.run_id}, which {'is at work on it' if view.live else 'broke off'}"
                )
            if names := ", ".join(clean_line(one.name, 60) for one in vm.snapshots):
                lines.append(f"  with its snapshots: {clean_line(names, 300)}")
        await remember(ctx, args, vms)
        args.shown = found.plan
        lines += [f"failed: {error.message}" for _, error in problems]
        loses += removing.steps(found.plan.items)
        return Preview(tuple(lines), tuple(loses), removing.head(found.plan.items))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        async with ctx.host(readonly=True) as host:
            vms, problems = await chosen(ctx, host, args)
        ours = [vm for vm in vms if vm.lease]
        results: dict[str, Result] = {}
        gone: set[str] = set()
        found = None
        if ours:
            async with cleaner(ctx, changes=True) as at_work:
                found = await _find(ctx, at_work, ours)
                plan = args.shown or found.plan
                if found.runs:
                    await _end_runs(ctx, found)
                    still = [vm for vm in ours if vm.uuid not in found.refused]
                    again = await _find(ctx, at_work, still)
                    gone = {uuid for uuid in again.gone if uuid in found.runs}  # by their run's own hand
                    found.refused |= again.refused
                    plan, found.adjust = again.plan, again.adjust
            done = await removing.carry_out(ctx, found.adjust, plan)
            results = {one.thing.key[1]: one for one in done}

        async def work(vm: VmEntry) -> Done:
            refuse_foreign(ctx, vm, "undefine", vm.name)
            assert found is not None
            if vm.uuid in gone:
                return Done(f"deleted {label(vm)}: its run has removed what there was", {"entry": None})
            if error := found.refused.get(vm.uuid):
                raise error
            result = results.get(vm.uuid)
            if result is None or result.state != "done":
                why = result.why if result else "it was not there when it was looked at"
                raise LabError(f"VM {label(vm)} stays: {why}", hint=f"vmlab clean --explain vm:{vm.uuid}")
            moved: dict[str, JsonValue] = {"entry": result.entry, "frees": result.thing.frees}
            return Done(f"deleted {label(vm)}: {removing.BACK}", moved)

        return await each(ctx, self.id, vms, problems, work)


async def _find(ctx: Context, at_work: Cleaner, vms: Sequence[VmEntry]) -> _Found:
    """What may go of ``vms``, the runs that are at work on them left out of account."""
    from vmlab_tui.lab.asked import ask_for
    from vmlab_tui.lab.reach import Action
    from vmlab_tui.runs import client
    from vmlab_tui.runs.vmcontrol import run_folder

    world = (await at_work.look()).world
    runs: dict[str, RunView] = {}
    refused: dict[str, LabError] = {}
    gone = [vm.uuid for vm in vms if ("vm", vm.uuid) not in world.things]
    for vm in vms:
        if vm.uuid in gone:
            refused[vm.uuid] = LabError(f"VM {label(vm)} is not there any more")
        elif (folder := run_folder(ctx.lab, vm)) is not None:
            view = await blocking(partial(client.get_run, ctx.lab, folder.name))
            if view.plan.vm.uuid != vm.uuid:
                refused[vm.uuid] = LabError(
                    f"VM {label(vm)}: its lease names run {view.run_id}, which made another VM",
                    hint="it is left alone",
                )
            elif view.live or (vm.domain and not view.state.over):
                runs[vm.uuid] = view
    world = _without(world, {("vm", uuid): ("run", view.run_id) for uuid, view in runs.items() if view.live})
    things = []
    for thing in (world.things["vm", vm.uuid] for vm in vms if vm.uuid not in refused):
        try:
            ask_for([thing], Action.TRASH, "")
        except LabError as error:
            refused[thing.key[1]] = error
        else:
            things.append(thing)
    asked = removing.ask(world, things)
    refused |= {thing.key[1]: removing.stays(world, thing, why) for thing, why in asked.plan.skipped}
    runs = {uuid: view for uuid, view in runs.items() if uuid not in refused}
    return _Found(asked.plan, asked.adjust, refused, runs, frozenset(gone))


def _without(world: World, working: Mapping[Key, Key]) -> World:
    """The world as if these runs were not at work on their VMs: they will be ended first."""
    things = dict(world.things)
    for key in working:
        things[key] = replace(things[key], root="", yields=True)
    edges = tuple(edge for edge in world.edges if working.get(edge.used) != edge.user)
    return replace(world, things=things, edges=edges)


async def _end_runs(ctx: Context, found: _Found) -> None:
    """End what is at work on the VMs, so that they stay until they are moved; failures go to ``refused``."""
    import asyncio

    from vmlab_tui.lab.leases import whoami
    from vmlab_tui.runs import client
    from vmlab_tui.runs.folder import LOCK

    for uuid, view in found.runs.items():
        ctx.front.status(f"run {view.run_id} is ending")
        try:
            result = await client.end(ctx.lab, view.run_id, "keep", whoami())
            if result.asked:
                async for _ in client.follow(ctx.lab, view.run_id, since=view.state.seq):
                    pass
                if not (await blocking(partial(client.get_run, ctx.lab, view.run_id))).state.over:
                    raise LabError(
                        f"run {view.run_id} has not ended, so its VM stays",
                        hint=f"vmlab runs show {view.run_id}   # then: vmlab delete {uuid}",
                    )
            for _ in range(_LAST_WORD):
                if not await blocking(partial(is_locked, view.folder / LOCK)):
                    break
                await asyncio.sleep(0.1)
        except LabError as error:
            found.refused[uuid] = error
