"""``vmlab console``: a VM's serial console at one's own terminal."""

from __future__ import annotations

import sys

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb
from vmlab_tui.verbs.vm_target import VM, foreign, label, one_vm, refuse_absent, refuse_unconfirmed


class Console(Verb):
    """Hand the terminal to the process that shows it."""

    id = "vm.console"
    words = ("console",)
    help = "Open a VM's serial console, with all that was on it"
    long_help = """\
First what the console has shown so far, then what comes; what you type goes to the guest, Ctrl-]
leaves. The log of the console goes on meanwhile, and several may look and type at once.

Of what the guest sends, only what moves, colours and scrolls reaches your terminal: nothing that
sets its title or clipboard, or asks it a question. Afterwards the terminal is as it was before."""
    examples = (
        ("vmlab console last", "the newest run's VM; no network needed"),
        ("vmlab console web-7f3a --force", "take it over from virsh"),
    )
    areas = ("lab", "runs")
    key = "c"
    json = ""
    confirms = True
    params = (VM, Param("force", "Take the console over from another program.", Kind.FLAG))

    def applies(self, power: str) -> bool:
        return power not in ("off", "crashed")

    async def preview(self, ctx: Context, args: Args) -> Preview:
        async with ctx.host(readonly=True) as host:
            vm = await one_vm(ctx, host, args)
        why = foreign(vm)
        return Preview((f"what is typed goes to {label(vm)}",), (why,) if why else ())

    async def run(self, ctx: Context, args: Args) -> Outcome:
        if not ctx.front.on_terminal:
            raise UsageError(
                "a console needs a terminal", hint=f"its log: vmlab runs logs {args.text('vm')} console"
            )
        async with ctx.host(readonly=True) as host:
            vm = await one_vm(ctx, host, args)
            refuse_absent(vm)
            refuse_unconfirmed(ctx, vm)
        if not self.applies(vm.power):
            raise LabError(
                f"VM {label(vm)} is {vm.power}", hint=f"vmlab start {label(vm)}   # then once more"
            )
        from vmlab_tui.runs.altered import AT_THE_CONSOLE
        from vmlab_tui.runs.vmcontrol import visit

        await visit(ctx.lab, vm, AT_THE_CONSOLE)
        argv = [sys.executable, "-m", "vmlab_tui.lab.console"]
        argv += ["--force"] if args.flag("force") else []
        argv += ["--", ctx.lab.uri, vm.uuid, label(vm)]
        if vm.lease:
            argv.append(str(ctx.lab.store.vm(vm.uuid).absolute()))
        return Outcome(exit=await ctx.front.terminal(argv))
