"""``vmlab keep`` and ``vmlab extend``: how long a VM of ours stays."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.units import span
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import VMS, Done, chosen, each, label, refuse_foreign
from vmlab_tui.verbs.words import local

if TYPE_CHECKING:
    from vmlab_tui.lab.inventory import VmEntry

_DAY = 86400.0


class Keep(Verb):
    """Keep VMs until somebody removes them."""

    id = "vm.keep"
    words = ("keep",)
    help = "Keep VMs of ours for good: no clean-up takes them"
    examples = (("vmlab keep last", "until vmlab rm, or vmlab extend gives it an end"),)
    params = (VMS,)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.leases import keep_for_good

        async with ctx.host(readonly=True) as host:
            vms, problems = await chosen(ctx, host, args)

            async def work(vm: VmEntry) -> Done:
                refuse_foreign(ctx, vm, "dominfo", vm.name)
                await blocking(partial(keep_for_good, ctx.lab.store, vm.uuid))
                return Done(f"{label(vm)} is kept for good", {"until": None})

            return await each(ctx, self.id, vms, problems, work)


class Extend(Verb):
    """Give VMs more time."""

    id = "vm.extend"
    words = ("extend",)
    help = "Give VMs of ours another while before they expire"
    long_help = "The time counts from now. Without --for it is a day."
    examples = (("vmlab extend last --for 3d", "three days from now"),)
    params = (VMS, Param("for", "How long from now.", kind=Kind.DURATION, metavar="TIME"))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.leases import keep

        seconds = args.seconds("for")
        seconds = _DAY if seconds is None else seconds
        if not 0 <= seconds <= 3650 * _DAY:
            raise UsageError("--for: not between now and ten years")
        async with ctx.host(readonly=True) as host:
            vms, problems = await chosen(ctx, host, args)

            async def work(vm: VmEntry) -> Done:
                refuse_foreign(ctx, vm, "dominfo", vm.name)
                until = await blocking(partial(keep, ctx.lab.store, vm.uuid, seconds))
                return Done(f"{label(vm)} is kept until {local(until)} ({span(seconds)})", {"until": until})

            return await each(ctx, self.id, vms, problems, work)
