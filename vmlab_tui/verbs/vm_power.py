"""``vmlab start|shutdown|off|reboot|pause|unpause``: a VM's power."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.text import clean
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb
from vmlab_tui.verbs.vm_target import (
    VMS,
    Done,
    at_work,
    change,
    chosen,
    each,
    foreign,
    label,
    refuse_absent,
    refuse_unconfirmed,
    remember,
)

if TYPE_CHECKING:
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.inventory import VmEntry
    from vmlab_tui.lab.vmverbs import Do

_OFF = ("off", "crashed")
_POLL = 0.5


class PowerVerb(Verb):
    """A verb that changes the power of one or several VMs. Subclasses say which states it fits."""

    areas = ("lab",)
    params: ClassVar[tuple[Param, ...]] = (VMS,)
    confirms = True
    stops: ClassVar[bool] = False
    """Whether a run that is at work on the VM loses its step by it."""
    at_once: ClassVar[int] = 4
    do: ClassVar[Do]
    fits: ClassVar[tuple[str, ...]]
    """The states it makes sense in."""
    reached: ClassVar[tuple[str, ...]] = ()
    """The states in which nothing is left to do."""
    will: ClassVar[str]
    """What happens, after the VM's name."""
    done: ClassVar[str]
    """What has happened, after the VM's name."""

    def applies(self, power: str) -> bool:
        return power in self.fits

    def wish(self, _args: Args) -> Do:
        return self.do

    def costs(self, _vm: VmEntry, _args: Args) -> tuple[str, ...]:
        """What is lost of a VM in the right state."""
        return ()

    async def preview(self, ctx: Context, args: Args) -> Preview:
        async with ctx.host(readonly=True) as host:
            vms, problems = await chosen(ctx, host, args)
        await remember(ctx, args, vms)
        lines = [f"{label(vm)} {self.will}" for vm in vms if vm.power not in self.reached]
        lines += [f"failed: {error.message}" for _, error in problems]
        loses: list[str] = []
        for vm in vms:
            if vm.power in self.reached:
                continue
            if why := foreign(vm):
                loses.append(why)
            if vm.power in self.fits:
                loses += self.costs(vm, args)
                if self.stops and (run := await at_work(ctx, vm)):
                    loses.append(f"the work of {run}: its step will fail")
        return Preview(tuple(lines), tuple(loses))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        async with ctx.host() as host:
            vms, problems = await chosen(ctx, host, args)

            async def work(vm: VmEntry) -> Done:
                return await self._one(ctx, host, args, vm)

            return await each(ctx, self.id, vms, problems, work, at_once=self.at_once)

    async def _one(self, ctx: Context, host: Host, args: Args, vm: VmEntry) -> Done:
        from vmlab_tui.lab.vmverbs import Change

        refuse_absent(vm)
        power = (await host.power(vm.uuid)).value
        if power in self.reached:
            return Done(f"{label(vm)} is {power} already", {"changed": False, "power": power})
        if power not in self.fits:
            raise Refused(f"VM {label(vm)} is {power}", hint=_way_out(power, vm))
        refuse_unconfirmed(ctx, vm)
        ctx.front.status(f"{label(vm)}: {self.words[0]}")
        came = await change(ctx, host, args, vm, Change(do=self.wish(args)))
        for note in came.lines:
            ctx.front.say(f"{label(vm)}: {clean(note)}")
        line = await self.after(ctx, host, args, vm)
        power = (await host.power(vm.uuid)).value
        return Done(line, {"changed": True, "power": power, **came.data})

    async def after(self, _ctx: Context, _host: Host, _args: Args, vm: VmEntry) -> str:
        """What is left to do once libvirt has been told; returns what to say."""
        return f"{label(vm)} {self.done}"


def _way_out(power: str, vm: VmEntry) -> str:
    """The command that leads out of a state in which a verb makes no sense."""
    if power in _OFF:
        return f"vmlab start {label(vm)}"
    if power == "paused":
        return f"vmlab unpause {label(vm)}"
    return "look again in a moment: vmlab ls"


class Start(PowerVerb):
    """Turn VMs on."""

    id = "vm.start"
    words = ("start",)
    help = "Turn VMs on"
    long_help = """\
A VM that runs already is left as it is; one that is paused goes on with vmlab unpause.

VMs without a lease of ours are foreign: they are only touched after a confirmation, or with --yes."""
    examples = (
        ("vmlab start last", "the newest run's VM"),
        ("vmlab start web-7f3a db-11c0", "two by their names"),
    )
    key = "t"
    do = "start"
    fits = _OFF
    reached = ("on",)
    will = "is turned on"
    done = "is on"


class Shutdown(PowerVerb):
    """Ask guests to power off."""

    id = "vm.shutdown"
    words = ("shutdown",)
    help = "Ask the guests of VMs to power off, and wait for it"
    long_help = """\
The guest is asked by its ACPI power button, and shuts its services down in order. It may take its
time or not listen at all: this waits up to --wait, then says that the VM is still running. vmlab
off pulls the plug.

With --wait 0 the guest is asked and nobody waits."""
    examples = (
        ("vmlab shutdown last", "waits up to a minute"),
        ("vmlab shutdown --wait 5m web-7f3a", "a guest with much to stop"),
    )
    key = "h"
    stops = True
    at_once = 64  # it is mostly waiting
    do = "shutdown"
    fits = ("on", "stopping")
    reached = _OFF
    will = "is asked to shut down"
    done = "is off"
    params = (VMS, Param("wait", "How long to wait (default 60s).", kind=Kind.DURATION, metavar="TIME"))

    async def after(self, ctx: Context, host: Host, args: Args, vm: VmEntry) -> str:
        import asyncio

        wanted = args.seconds("wait")
        limit = 60.0 if wanted is None else wanted
        if not limit:
            return f"{label(vm)} is asked to shut down"
        begun = time.monotonic()
        while (await host.power(vm.uuid)).value not in _OFF:
            spent = time.monotonic() - begun
            if spent >= limit:
                raise LabError(
                    f"VM {label(vm)} was asked to shut down and still runs after {limit:g} s",
                    hint=f"wait longer: vmlab shutdown --wait 5m {label(vm)}\n"
                    f"or pull the plug: vmlab off {label(vm)}",
                )
            ctx.front.status(f"{label(vm)}: shutting down: the guest is asked, {spent:.0f} of {limit:g} s")
            await asyncio.sleep(min(_POLL, limit - spent))
        return f"{label(vm)} is off"


class Off(PowerVerb):
    """Pull the plug."""

    id = "vm.off"
    words = ("off",)
    help = "Pull the plug of VMs: at once, without asking the guest"
    long_help = """\
What a guest has not written to its disk is lost, as with a real power cut. vmlab shutdown asks the
guest instead. Disks, snapshots and leases stay."""
    examples = (
        ("vmlab off last", "asks at a terminal"),
        ("vmlab off web-7f3a --yes", "for a script"),
    )
    key = "O"
    loses = True
    stops = True
    do = "off"
    fits = ("on", "paused", "sleeping", "stopping", "unknown")
    reached = _OFF
    will = "loses its power at once"
    done = "is off"

    def costs(self, vm: VmEntry, _args: Args) -> tuple[str, ...]:
        return (f"what the guest {label(vm)} has not written to its disk",)


class Reboot(PowerVerb):
    """Restart guests."""

    id = "vm.reboot"
    words = ("reboot",)
    help = "Ask the guests of VMs to reboot, or press the reset button"
    long_help = """\
The guest is asked by ACPI; one that does not listen goes on as it is. --reset presses the reset
button instead: at once, and what the guest has not written to its disk is lost."""
    examples = (
        ("vmlab reboot last", ""),
        ("vmlab reboot --reset web-7f3a --yes", "a guest that hangs"),
    )
    key = "B"
    loses = True
    stops = True
    do = "reboot"
    fits = ("on",)
    will = "restarts"
    done = "is asked to reboot"
    params = (VMS, Param("reset", "Press the reset button.", kind=Kind.FLAG))

    def wish(self, args: Args) -> Do:
        return "reset" if args.flag("reset") else "reboot"

    def costs(self, vm: VmEntry, args: Args) -> tuple[str, ...]:
        if args.flag("reset"):
            return (f"what the guest {label(vm)} has not written to its disk",)
        return (f"the programs that run in {label(vm)}",)

    async def after(self, _ctx: Context, _host: Host, args: Args, vm: VmEntry) -> str:
        return f"{label(vm)} {'starts anew' if args.flag('reset') else self.done}"


class Pause(PowerVerb):
    """Stop VMs' CPUs."""

    id = "vm.pause"
    words = ("pause",)
    help = "Stop the CPUs of VMs; memory and disk stay as they are"
    long_help = "The guest notices nothing but a jump of its clock. vmlab unpause lets it go on."
    examples = (("vmlab pause last", ""),)
    key = "p"
    do = "pause"
    fits = ("on",)
    reached = ("paused",)
    will = "is paused"
    done = "is paused"


class Unpause(PowerVerb):
    """Let paused VMs go on."""

    id = "vm.unpause"
    words = ("unpause",)
    help = "Let paused VMs go on"
    long_help = "A guest of ours gets the right time again, by its agent or over SSH."
    examples = (("vmlab unpause last", ""),)
    key = "p"
    do = "unpause"
    fits = ("paused",)
    reached = ("on",)
    will = "goes on"
    done = "goes on"
