"""``vmlab show``: all one would want to know of one VM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import used_bytes
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs.snapshots import as_json as snapshot_json
from vmlab_tui.verbs.snapshots import no_travel, tree
from vmlab_tui.verbs.verb import Args, Context, Outcome, Verb, blocking
from vmlab_tui.verbs.vm_target import VM, foreign, label, one_vm
from vmlab_tui.verbs.vms import as_json
from vmlab_tui.verbs.words import left, local, table

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

    from vmlab_tui.lab.inventory import VmEntry


class Show(Verb):
    """One VM in full."""

    id = "vm.show"
    words = ("show",)
    help = "Show one VM: power, lease, run, addresses, disks, snapshots"
    long_help = "Any VM on the connection can be shown, foreign ones too. Nothing is changed."
    examples = (
        ("vmlab show last", "the newest run's VM"),
        ("vmlab show web-7f3a --json", "for a program; sizes in bytes"),
    )
    areas = ("lab", "runs")
    key = "i"
    params = (VM,)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        async with ctx.host(readonly=True) as host:
            vm = await one_vm(ctx, host, args, snapshots=True)
            travel = await no_travel(host, vm.domain) if vm.domain else ""
        folder = ctx.lab.store.vm(vm.uuid) if vm.lease else None
        domain, lease = vm.domain, vm.lease
        status = await blocking(partial(_run_status, ctx, vm))
        forms = domain.formats if domain else ()
        disks = [
            (path, forms[at] if at < len(forms) else "-", await blocking(partial(_used, path)))
            for at, path in enumerate(domain.disks if domain else ())
        ]
        others = [path for path in domain.files if path not in domain.disks] if domain else []
        data: JsonValue = {
            "schema": 1,
            **as_json(vm),
            "created": lease.created if lease else None,
            "image": lease.image if lease else None,
            "user": lease.user if lease else None,
            "mac": lease.mac if lease else None,
            "network": lease.network if lease else None,
            "run_status": status or None,
            "forked_from": lease.forked_from.model_dump() if lease and lease.forked_from else None,
            "folder": str(folder) if folder else None,
            "firmware": domain.firmware if domain else None,
            "persistent": domain.persistent if domain else None,
            "disks": [{"path": str(path), "format": form, "used": used} for path, form, used in disks],
            "files": [str(path) for path in others],
            "snapshots": [snapshot_json(one) for one in domain.snapshots] if domain else [],
            "no_time_travel": travel or None,
            "problem": domain.problem or None if domain else None,
        }
        rows = [("power", vm.power), ("uuid", vm.uuid)]
        if lease:
            time = "kept" if lease.keep else "its run's"
            if lease.expires:
                time = f"{left(lease.expires)} (until {local(lease.expires)})"
            if was := lease.forked_from:
                rows.append(("fork of", clean_line(f"{was.name}@{was.snapshot}", 120)))
            else:
                rows.append(
                    ("run", f"{lease.run_id}{f', {status}' if status else ', its directory is gone'}")
                )
            rows += [
                ("profile", f"{clean_line(lease.profile, 60)} on image {clean_line(lease.image, 60)}"),
                ("lease", f"{time}, of {clean_line(lease.owner, 60)}"),
                ("ssh", vm.address or "-"),
                ("network", f"{clean_line(lease.network, 40)}, {lease.mac or 'no address'}"),
            ]
            rows += [
                (f"port {clean_line(port.name, 20)}", f"127.0.0.1:{port.host_port} -> {port.guest_port}")
                for port in lease.ports
                if port.name != "ssh"
            ]
        else:
            rows.append(("whose", foreign(vm).partition(": ")[2]))
        if domain:
            rows.append(
                (
                    "machine",
                    f"{domain.cpus} CPU{'s' * (domain.cpus != 1)}, {size(domain.memory)}, {domain.firmware}",
                )
            )
            for path, form, used in disks:
                took = "" if used is None else f", {size(used)}"
                rows.append(("disk", f"{clean_line(str(path), 200)} ({clean_line(form, 20)}{took})"))
            rows += [("file", clean_line(str(path), 200)) for path in others]
            if domain.problem:
                rows.append(("problem", clean_line(domain.problem)))
            if travel:
                rows.append(("snapshots", clean_line(f"no time travel: {travel}")))
        if folder:
            held = f", {size(vm.size)}" if vm.size is not None else ""
            rows.append(("folder", f"{folder}{held}"))
        if domain and domain.snapshots:
            held = f", {size(vm.saved)} of memory in them" if vm.saved else ""
            rows.append(("snapshots", f"{len(domain.snapshots)}{held}"))
        lines = (label(vm), *table(rows, indent="  "))
        if domain and domain.snapshots:
            lines += tuple(f"  {line}" for line in tree(domain.snapshots))
        return Outcome(data, lines)


def _run_status(ctx: Context, vm: VmEntry) -> str:
    """The status of the run that made it; empty when that cannot be read."""
    from vmlab_tui.runs import client

    if vm.lease is None:
        return ""
    try:
        return client.get_run(ctx.lab, vm.lease.run_id).status
    except LabError:
        return ""


def _used(path: Path) -> int | None:
    """Bytes a file takes on the disk; None when it cannot be looked at."""
    try:
        return used_bytes(path.stat())
    except OSError:
        return None
