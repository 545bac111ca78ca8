"""``vmlab delete``: a VM of ours with everything that is its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import is_locked, used_bytes
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs.verb import Args, Context, Outcome, Preview, Verb, blocking
from vmlab_tui.verbs.vm_target import (
    VMS,
    Done,
    chosen,
    each,
    label,
    refuse_foreign,
    remember,
)

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.inventory import VmEntry


class Delete(Verb):
    """Delete VMs of ours."""

    id = "vm.delete"
    words = ("delete",)
    help = "Delete VMs of ours: domain, disk, snapshots, ports"
    long_help = """\
A run that is still at work on the VM is ended first, by its own worker. The run's directory with its
logs and reports stays, and so does the image. There is no way back.

VMs without a lease of ours are never deleted."""
    examples = (
        ("vmlab delete last", "lists what is lost, and asks"),
        ("vmlab delete web-7f3a db-11c0 --yes", "for a script"),
    )
    areas = ("lab",)
    key = "D"
    loses = True
    params = (VMS,)

    async def preview(self, ctx: Context, args: Args) -> Preview:
        from vmlab_tui.runs.folder import LOCK
        from vmlab_tui.runs.vmcontrol import run_folder

        lines: list[str] = []
        loses: list[str] = []
        async with ctx.host(readonly=True) as host:
            vms, problems = await chosen(ctx, host, args, snapshots=True)
            for vm in vms:
                if len(vms) == 1:
                    refuse_foreign(ctx, vm, "undefine", vm.name)
                if vm.lease is None:
                    lines.append(f"{label(vm)} is foreign and stays")
                    continue
                lines.append(f"{label(vm)} will be deleted")
                folder = run_folder(ctx.lab, vm)
                if folder and is_locked(folder / LOCK):
                    loses.append(f"run {folder.name}, which is at work on it")
                loses += await self._lost(ctx, host, vm)
        await remember(ctx, args, vms)
        lines += [f"failed: {error.message}" for _, error in problems]
        return Preview(tuple(lines), tuple(loses))

    @staticmethod
    async def _lost(ctx: Context, host: Host, vm: VmEntry) -> list[str]:
        from vmlab_tui.lab.owned import things_of

        things = await things_of(ctx.lab.store, host, vm.uuid)
        found: list[str] = []
        for thing in things:
            match thing.what:
                case "domain":
                    found.append(f"domain {label(vm)} ({vm.power})")
                case "vm-dir":
                    used = await blocking(partial(_used, Path(thing.id)))
                    found.append(f"its disk and all other files, {size(used)}: {thing.id}")
                case "port":
                    found.append(f"its port {thing.id}")
        if vm.domain and vm.domain.snapshots:
            names = ", ".join(clean_line(one.name, 60) for one in vm.domain.snapshots)
            found.append(f"its snapshots: {clean_line(names, 300)}")
        return found

    async def run(self, ctx: Context, args: Args) -> Outcome:
        async with ctx.host() as host:
            vms, problems = await chosen(ctx, host, args)

            async def work(vm: VmEntry) -> Done:
                refuse_foreign(ctx, vm, "undefine", vm.name)
                ctx.front.status(f"{label(vm)}: deleting")
                removed = await self._remove(ctx, host, vm)
                things: list[JsonValue] = [{"what": what, "id": name} for what, name in removed]
                return Done(f"deleted {label(vm)}", {"removed": things})

            return await each(ctx, self.id, vms, problems, work)

    @staticmethod
    async def _remove(ctx: Context, host: Host, vm: VmEntry) -> list[tuple[str, str]]:
        """By its run, so that the journal knows; where that is gone, here. Returns what went."""
        from vmlab_tui.lab.leases import whoami
        from vmlab_tui.lab.owned import remove_vm
        from vmlab_tui.runs import client
        from vmlab_tui.runs.vmcontrol import run_folder

        assert vm.lease is not None
        if run_folder(ctx.lab, vm) is None:
            gone = await remove_vm(ctx.lab.store, host, vm.uuid, vm.lease.run_id)
            return [(thing.what, thing.id) for thing in gone]
        view = await blocking(lambda: client.get_run(ctx.lab, vm.lease.run_id if vm.lease else ""))
        if view.plan.vm.uuid != vm.uuid:
            raise LabError(
                f"VM {label(vm)}: its lease names run {view.run_id}, which made another VM",
                hint="it is left alone",
            )
        result = await client.end(ctx.lab, view.run_id, "destroy", whoami())
        removed = [(thing.what, thing.id) for thing in result.removed]
        if result.asked:
            ctx.front.status(f"{label(vm)}: run {view.run_id} is ending")
            async for event in client.follow(ctx.lab, view.run_id, since=view.state.seq):
                if event.kind == "removed":
                    removed.append((str(event.data["what"]), str(event.data["id"])))
            view = await blocking(lambda: client.get_run(ctx.lab, view.run_id))
            if not view.state.over or (view.state.ended and view.state.ended.disposition == "kept"):
                raise LabError(
                    f"VM {label(vm)}: run {view.run_id} has not removed it",
                    hint=f"vmlab runs show {view.run_id}   # then: vmlab delete {vm.uuid}",
                )
        return removed


def _used(folder: Path) -> int:
    """Bytes that the files below a directory take on the disk."""
    return sum(used_bytes(path.lstat()) for path in folder.rglob("*") if not path.is_dir())
