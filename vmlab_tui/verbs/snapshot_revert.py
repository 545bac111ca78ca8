"""``vmlab snapshot revert``: going back to a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Refused
from vmlab_tui.base.text import clean_line
from vmlab_tui.verbs.snapshots import SNAPSHOT, age_of, as_json, no_travel, one_snapshot, told
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb
from vmlab_tui.verbs.vm_target import VM, change, label, remember

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.hosts.model import Snapshot

_BECOMES = {"running": "runs then", "paused": "is paused then", "off": "is off then"}


class SnapshotRevert(Verb):
    """Go back to a snapshot."""

    id = "snapshot.revert"
    words = ("snapshot", "revert")
    help = "Go back to a snapshot of a VM"
    long_help = """\
The VM becomes what it was: disk, memory, running programs. Its present is kept first, in a safety
snapshot before-revert-TIME; going back to that one undoes this. The newest two of them stay. If the
snapshot cannot be loaded, the VM returns to its present. Other snapshots stay, later ones too.

A guest that runs afterwards gets the right time, by its agent or over SSH.

While the VM's run is at work nobody goes back; a run that is paused, or has ended with its VM kept,
allows it."""
    examples = (
        ("vmlab snapshot revert last clean-boot", "asks at a terminal"),
        ("vmlab snapshot revert web-7f3a before-upgrade --yes", "for a script"),
        ("vmlab snapshot revert last clean-boot --then paused", "look before it goes on"),
    )
    areas = ("lab",)
    key = "R"
    loses = True
    picks = True
    options = (("t", "then"), ("s", "no_safety"))
    params = (
        VM,
        SNAPSHOT,
        Param(
            "then",
            "How the VM shall be then (default: as it was when the snapshot was taken).",
            kind=Kind.CHOICE,
            choices=("running", "paused", "off"),
        ),
        Param("no_safety", "Do not keep the present in a safety snapshot.", kind=Kind.FLAG),
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        from vmlab_tui.lab.rewind import refuse
        from vmlab_tui.lab.safety import too_many

        safety = not args.flag("no_safety")
        async with ctx.host(readonly=True) as host:
            vm, snapshot = await one_snapshot(ctx, host, args, "snapshot-revert")
            await refuse(host, vm.uuid, snapshot, keep_present=safety)
            assert vm.domain is not None
            if safety and (why := await no_travel(host, vm.domain)):
                raise Refused(f"VM {label(vm)}: no safety snapshot: {why}", hint="without one: --no-safety")
        await remember(ctx, args, [vm])
        becomes = _BECOMES[_then(args) or _was(snapshot)]
        lines = [f"{label(vm)} goes back to {told(snapshot)} and {becomes}"]
        runs = vm.power not in ("off", "crashed")
        kept = "disk and memory" if runs else "its disk"
        if safety:
            lines.append(f"its present ({kept}) is kept first: the safety snapshot undoes it")
        else:
            lines.append(f"its present ({kept}) is NOT kept: there is no way back to it")
        later = [clean_line(one.name, 60) for one in vm.snapshots if one.created > snapshot.created]
        if later:
            lines.append(f"later snapshots stay: {', '.join(later[:6])}")
        lines.append("the log of its console goes on, and keeps what was printed since")
        loses = [f"what {label(vm)} has done in the last {age_of(snapshot)}: its disk, logs in it"]
        if runs:
            loses.append(f"its memory and the programs in it (it is {vm.power})")
        if safety:
            old = too_many(vm.snapshots, snapshot.name, coming=1)
            loses += [f"the old safety snapshot {clean_line(name, 60)}" for name in old]
        return Preview(tuple(lines), tuple(loses))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.hosts.model import Then
        from vmlab_tui.lab.vmverbs import Change

        then = _then(args)
        async with ctx.host() as host:
            vm, snapshot = await one_snapshot(ctx, host, args, "snapshot-revert")
            ctx.front.status(f"{label(vm)}: going back to {clean_line(snapshot.name, 60)}")
            wish = Change(
                do="revert",
                name=snapshot.name,
                then=Then(then) if then else None,
                safety=not args.flag("no_safety"),
            )
            done = await change(ctx, host, args, vm, wish)
            power = (await host.power(vm.uuid)).value
        data: JsonValue = {
            "schema": 1,
            "vm": vm.name,
            "uuid": vm.uuid,
            "snapshot": as_json(snapshot),
            "power": power,
            **done.data,
        }
        return Outcome(data, (f"{label(vm)} is back at {told(snapshot)}; it is {power}", *done.lines))


def _then(args: Args) -> str | None:
    return args.optional("then")


def _was(snapshot: Snapshot) -> str:
    """How the VM was when the snapshot was taken."""
    if not snapshot.memory:
        return "off"
    return "paused" if snapshot.power == "paused" else "running"
