"""``vmlab diagnose``: why a step failed, or why a VM does not answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import find_vm, one_vm, own_vms

if TYPE_CHECKING:
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.inventory import VmEntry
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.diagnosis.collect import Subject


class Diagnose(Verb):
    """Collect what can be seen, name the likely cause."""

    id = "diagnose"
    words = ("diagnose",)
    help = "Say in one line why a step failed or a VM does not answer"
    long_help = """\
Looks by the best way that is open: SSH, else the guest agent, else the console, libvirt and QEMU's
log. Nothing is changed, and it takes at most about ten seconds.

The first line names the likely cause, or says "no cause found". Below are the lines that show it
and what to do next. All that was seen is kept in diagnosis-TIME in the run's directory, readable
for its owner only.

A foreign VM is looked at from outside only."""
    examples = (
        ("vmlab diagnose last", "why the newest run failed"),
        ("vmlab diagnose web-7f3a --json", "a VM by its name, for a program"),
    )
    areas = ("lab", "runs")
    key = "d"
    params = (
        Param(
            "target",
            "A run (id, beginning of it, 'last') or a VM (name, uuid).",
            positional=True,
            required=True,
            metavar="RUN|VM",
            names="vm",
        ),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.runs.diagnosis.bundle import as_json, diagnose, lines_of

        subject = await blocking(lambda: _own(ctx, args))
        try:
            async with ctx.host() as host:
                subject = subject or await _foreign(ctx, host, args)
                done = await diagnose(ctx.lab, host, subject, _secrets(subject.view, args))
        except LabError as error:
            from vmlab_tui.hosts.failures import Unreachable

            if not isinstance(error, Unreachable) or subject is None:
                raise
            done = await diagnose(ctx.lab, None, subject, _secrets(subject.view, args))
            ctx.front.say(f"libvirt does not answer: {error.message}")
        run = subject.view.run_id if subject.view else None
        return Outcome({**as_json(done), "run": run, "uuid": subject.uuid}, lines_of(done))


def _own(ctx: Context, args: Args) -> Subject | None:
    """The run or the VM of ours that is meant; None when it is neither."""
    from vmlab_tui.runs import client
    from vmlab_tui.runs.diagnosis.collect import Subject

    ref = args.text("target")
    vms = own_vms(ctx.lab)
    view: RunView | None = None
    try:
        view = client.get_run(ctx.lab, ref)
    except UsageError as error:
        if "is the beginning of" in error.message:
            raise
    uuid = view.plan.vm.uuid if view else ""
    vm = next((one for one in vms if one.uuid == uuid), None)
    if view is None:
        try:
            vm = find_vm(ctx.lab, vms, ref)
        except UsageError:
            return None
    lease = vm.lease if vm else None
    if view:
        plan = view.plan
        user = lease.user if lease else plan.image.user
        return Subject(plan.vm.name, plan.vm.uuid, True, user, plan.vm.network, view)
    assert vm is not None
    assert lease is not None
    return Subject(vm.name, vm.uuid, True, lease.user, lease.network)


async def _foreign(ctx: Context, host: Host, args: Args) -> Subject:
    """Another's VM. Raises UsageError when there is none of that name."""
    from vmlab_tui.runs.diagnosis.collect import Subject

    vm: VmEntry = await one_vm(ctx, host, Args({"vm": args.text("target")}))
    return Subject(vm.name, vm.uuid, own=False)


def _secrets(view: RunView | None, args: Args) -> list[str]:
    """The values of the run's secrets as far as they are known here."""
    known = {**os.environ, **args.typed}
    return [known[name] for name in view.plan.secret_names if name in known] if view else []
