"""``vmlab ls``: which VMs there are, and whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb
from vmlab_tui.verbs.words import left, table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.base.paths import Store
    from vmlab_tui.lab.inventory import VmEntry


class Ls(Verb):
    """The VMs under our leases, and those of others, marked."""

    id = "ls"
    words = ("ls",)
    help = "List VMs: ours with run and lease, others marked foreign"
    long_help = """\
Ours are the VMs with a lease in the store. Everything else on the connection is foreign:
it is shown and left alone ('other lab': made with another store). The column ssh is the
port on 127.0.0.1, size what its files take of the disk. 'no domain' is a VM of which only files are left."""
    examples = (
        ("vmlab ls", ""),
        ("vmlab ls --own --json", "only ours, for a program"),
    )
    areas = ("lab",)
    params = (Param("own", "Leave foreign VMs out.", kind=Kind.FLAG),)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.inventory import take_inventory

        async with ctx.host(readonly=True) as host:
            found = await take_inventory(ctx.lab, host)
        vms = [vm for vm in found.vms if vm.lease or not args.flag("own")]
        data: JsonValue = {
            "schema": 1,
            "uri": ctx.lab.uri,
            "store": str(ctx.lab.store.root),
            "vms": [as_json(vm) for vm in vms],
            "problems": [{"directory": name, "problem": text} for name, text in found.problems],
        }
        lines = [
            *table(
                (self._row(vm, ctx.lab.store) for vm in vms),
                head=("vm", "power", "size", "ssh", "lease", "run"),
            )
        ]
        lines += [f"warning: {clean_line(name, 60)}: {clean_line(text)}" for name, text in found.problems]
        ours = " of ours" if args.flag("own") else ""
        return Outcome(
            data, tuple(lines) or (f"no VMs{ours} on {ctx.lab.uri}", "  vmlab run quickstart --keep")
        )

    @staticmethod
    def _row(vm: VmEntry, store: Store) -> tuple[str, ...]:
        lease, domain = vm.lease, vm.domain
        power, held = clean_line(vm.power, 12), size(vm.size) if vm.size is not None else "-"
        if lease is None:
            other = domain and domain.mark and domain.mark.store != str(store.root)
            return (clean_line(vm.name, 60), power, held, "-", "other lab" if other else "foreign", "-")
        time = left(lease.expires) if lease.expires else "kept" if lease.keep else "its run's"
        return (clean_line(vm.name, 60), power, held, str(lease.port("ssh") or "-"), time, lease.run_id)


def as_json(vm: VmEntry) -> dict[str, JsonValue]:
    """A VM for programs. In bytes: ``memory`` as it is given, ``size`` of its files on the disk, and of that
    ``snapshots_bytes`` of memory in its snapshots."""
    lease, domain = vm.lease, vm.domain
    return {
        "uuid": vm.uuid,
        "name": vm.name,
        "power": vm.power,
        "foreign": lease is None,
        "run": lease.run_id if lease else None,
        "profile": lease.profile if lease else None,
        "owner": lease.owner if lease else None,
        "expires": lease.expires if lease else None,
        "keep": lease.keep if lease else None,
        "ssh": vm.address or None,
        "ports": {port.name: port.host_port for port in lease.ports} if lease else {},
        "memory": domain.memory if domain else None,
        "cpus": domain.cpus if domain else None,
        "size": vm.size,
        "snapshots_bytes": vm.saved,
    }
