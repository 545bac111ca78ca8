"""What a step changed: ``vmlab diff`` and ``vmlab bisect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Refused
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs.run import ENV, ENV_FILE
from vmlab_tui.verbs.runs_logs import find_step
from vmlab_tui.verbs.runs_view import RUN
from vmlab_tui.verbs.secrets import refuse_values, secrets_again
from vmlab_tui.verbs.shapes import stopped_at
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import find_vm, inventory, label, refuse_absent
from vmlab_tui.verbs.words import SHA, cut

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.graph import VmEntry
    from vmlab_tui.runs.bisect import Probe
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.facts import Change, Diff, Fact, Moment
    from vmlab_tui.runs.plan import PlannedStep


class DiffRun(Verb):
    """What a step changed in the guest."""

    id = "diff"
    words = ("diff",)
    help = "Show what a step of a run changed in its VM"
    long_help = """\
Compares packages, enabled units, listening ports, users, and the files that the profile speaks of
(where it copies to, what its file checks and artifacts name): between the newest checkpoint before
STEP and the state after it, which is the next checkpoint, or the VM as it runs now.

Without STEP: the step at which the run failed or stands still; else from the clean boot to the end.

A checkpoint is looked at in a fork of it that is removed again. The VM and its run go on untouched.
What a guest cannot tell is shown as not known."""
    examples = (
        ("vmlab diff last", "what the failing step did"),
        ("vmlab diff last 'web server'", "one step by its name"),
        ("vmlab diff last 12 --json", "for a program"),
    )
    areas = ("runs",)
    key = "a"
    long = True
    params = (RUN, Param("step", "A step's number or name.", positional=True, metavar="[STEP]"))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.runs import client, facts

        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        ref = args.optional("step")
        step = find_step(view, ref, ()) if ref is not None else _last_at(view)
        async with ctx.host() as host:
            vm = await _vm(ctx, host, view)
            states = facts.moments(view, vm, step.number if step else None)
            await _refuse_no_forks(ctx, host, vm, sum(one.checkpoint is not None for one in states))
            before, after = await facts.facts_between(
                ctx.lab, host, vm, view.plan.profile, states, ctx.front.status
            )
        found = facts.differences(before, after)
        also = facts.also_between(view, step.number if step else None, states)
        data: JsonValue = {
            "schema": 1,
            "run": view.run_id,
            "step": step.number if step else None,
            "before": _moment(states[0]),
            "after": _moment(states[1]),
            "also_steps": [one.number for one in also] if step else [],
            "changes": [
                {
                    "section": one.section,
                    "name": one.name,
                    "before": None if one.before is None else dict(one.before),
                    "after": None if one.after is None else dict(one.after),
                }
                for one in found.changes
            ],
            "not_known": dict(found.unknown),
            "notes": list(found.notes),
        }
        head = (
            f"step {step.number:02} '{clean_line(step.name, 60)}' of {view.run_id}" if step else view.run_id
        )
        lines = [f"{head}: what changed", f"  from  {states[0].told}", f"  to    {states[1].told}"]
        if step and also:
            names = ", ".join(f"{one.number:02} '{cut(clean_line(one.name), 24)}'" for one in also)
            lines.append(f"  no state was kept in between, so what these did shows too: {names}")
        return Outcome(data, (*lines, *_told(found)))


class BisectStep(Verb):
    """Which statement of a script breaks something."""

    id = "bisect"
    words = ("bisect",)
    help = "Find the statement of a step's script that makes a check fail"
    long_help = """\
Runs beginnings of the script of STEP on forks of the checkpoint before it, two at a time, and looks
after each whether the check holds. A round leaves a third of the statements, so that a hundred take
about six. Names the first one after which it fails, with its lines and what the check said.

The check is a command (exit status 0: it holds). Without --check: the profile's check of kind
command that failed, else all of its checks of that kind. It must hold at the checkpoint.

A statement ends where the shell of the guest can parse all that stands before. The forks are removed
again; the VM and its run go on untouched. A run with secrets needs them again."""
    examples = (
        ("vmlab bisect last 'web server'", "by the check that failed"),
        ("vmlab bisect last 12 --check 'systemctl is-active ssh'", "by a command"),
    )
    long = True
    params = (
        RUN,
        Param("step", "A step's number or name.", positional=True, required=True, metavar="STEP"),
        Param("check", "The command that must succeed, run by root with /bin/sh.", metavar="CMD"),
        ENV,
        ENV_FILE,
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        refuse_values(args.many("env"))

        from vmlab_tui.runs import bisect, client

        view = await blocking(lambda: client.get_run(ctx.lab, args.text("run")))
        step = find_step(view, args.text("step"), ())
        checks = bisect.checks_for(view, args.optional("check"))
        secrets = await secrets_again(view, args)
        if missing := [name for name in view.plan.secret_names if name not in secrets]:
            raise Refused(
                f"run {view.run_id} needs its secrets again: {', '.join(missing)}",
                hint="pass them with " + " ".join(f"--env {name}" for name in missing),
            )

        def tell(probe: Probe) -> None:
            where = f"lines 1-{probe.lines}" if probe.lines else "checkpoint"
            ctx.front.say(f"{where}: {'holds' if probe.holds else 'fails'}")

        async with ctx.host() as host:
            vm = await _vm(ctx, host, view)
            await _refuse_no_forks(ctx, host, vm, bisect.AT_ONCE)
            found = await bisect.Bisect(
                ctx.lab, host, vm, view, step, checks, secrets, ctx.front.status, tell
            ).run()
        where = found.statement
        text = clean(where.text).splitlines()
        data: JsonValue = {
            "schema": 1,
            "run": view.run_id,
            "step": step.number,
            "checkpoint": found.checkpoint.name,
            "checks": [one.label for one in checks],
            "first_line": where.first,
            "last_line": where.last,
            "statement": where.text,
            "statements": found.statements,
            "probes": [_probe(one) for one in found.probes],
        }
        many = where.last > where.first
        lines = f"lines {where.first}-{where.last}" if many else f"line {where.first}"
        named = f"step {step.number:02} '{clean_line(step.name, 60)}'"
        told = [
            f"{named}: the check fails after {lines} of its script",
            *(f"  {number:4}  {line}" for number, line in enumerate(text, where.first)),
            "",
            *bisect.told(found.after),
            f"tried {len(found.probes)} beginnings of {found.statements} statements, "
            f"from checkpoint '{clean_line(found.checkpoint.name, 60)}'",
        ]
        return Outcome(data, tuple(told))


# -- VMs and forks ----------------------------------------------------------------------------------


async def _vm(ctx: Context, host: Host, view: RunView) -> VmEntry:
    """The run's VM with its snapshots. Raises UsageError when it is gone."""
    vms = await inventory(ctx, host, snapshots=True)
    vm = await blocking(lambda: find_vm(ctx.lab, vms, view.run_id))
    refuse_absent(vm)
    return vm


async def _refuse_no_forks(ctx: Context, host: Host, vm: VmEntry, count: int) -> None:
    """Raises Refused where so many forks at a time cannot be; says what to heed."""
    from vmlab_tui.verbs.fork import room

    if not count:
        return
    if vm.lease is None or vm.lease.network not in ("isolated", "user"):
        raise Refused(
            f"VM {label(vm)} sits on a libvirt network: a fork would have its address",
            hint="run its profile with --set vm.network=isolated (or user)",
        )
    if heed := await room(ctx, host, vm, count):
        ctx.front.say(f"warning: {heed}")


def _last_at(view: RunView) -> PlannedStep | None:
    """The step at which the run failed or stands still; if that was not begun, the one before it."""
    step = stopped_at(view)
    if step is None or step.number in view.state.steps:
        return step
    begun = [number for number in view.state.steps if number < step.number]
    return view.plan.step(max(begun)) if begun else None


# -- diff -------------------------------------------------------------------------------------------


def _moment(state: Moment) -> JsonValue:
    if state.checkpoint is None:
        return {"checkpoint": None, "after": None}
    return {"checkpoint": state.checkpoint.name, "after": state.checkpoint.after}


def _told(found: Diff) -> list[str]:
    from vmlab_tui.runs.facts import SECTIONS

    lines = []
    for section in SECTIONS:
        changes = [one for one in found.changes if one.section == section]
        if changes:
            lines += ["", section, *map(_change, changes)]
    same = [one for one in SECTIONS if one not in found.unknown and one not in lines]
    lines.append("")
    if same:
        lines.append(f"the same: {', '.join(same)}")
    lines += [f"not known: {section} ({why})" for section, why in found.unknown.items()]
    return [*lines, *(f"note: {one}" for one in found.notes)]


def _change(one: Change) -> str:
    if one.before is None or one.after is None:
        fact = one.after if one.before is None else one.before
        mark = "+" if one.before is None else "-"
        return f"  {mark} {one.name}  {_fact(fact or {})}".rstrip()
    old, new = one.before, one.after
    told = []
    for name in (*old, *(name for name in new if name not in old)):
        if old.get(name) == new.get(name):
            continue
        if name == "sha256":
            if name in old and name in new:
                told.append("other content")
            continue
        words = [_value(name, side[name]) if name in side else "-" for side in (old, new)]
        told.append(f"{name if name != 'version' else ''} {words[0]} -> {words[1]}".strip())
    return f"  ~ {one.name}  {', '.join(told)}"


def _fact(fact: Fact) -> str:
    bare = ("version", "state", "kind")
    words = [value if name in bare else f"{name} {_value(name, value)}" for name, value in fact.items()]
    return ", ".join(words)


def _value(name: str, value: str) -> str:
    if name == "size" and value.isdigit():
        return size(int(value))
    return value[:SHA] if name == "sha256" else value


# -- bisect -----------------------------------------------------------------------------------------


def _probe(one: Probe) -> JsonValue:
    return {
        "lines": one.lines,
        "holds": one.holds,
        "status": one.status,
        "stopped": one.stopped,
        "checks": [
            {"check": check.check, "state": check.state, "detail": check.detail, "evidence": check.evidence}
            for check in one.results
        ],
    }
