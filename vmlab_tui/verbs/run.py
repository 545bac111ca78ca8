"""``vmlab run``: one execution of a profile on a new VM."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Exit, UsageError
from vmlab_tui.base.units import span
from vmlab_tui.verbs.secrets import refuse_secret_sets, refuse_values
from vmlab_tui.verbs.verb import Args, Context, Interrupt, Kind, Outcome, Param, Verb, blocking, pairs
from vmlab_tui.verbs.words import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from vmlab_tui.runs.plan import Plan, PlannedStep
    from vmlab_tui.runs.prepare import Prepared
    from vmlab_tui.runs.request import RunRequest
    from vmlab_tui.spec.profile import LoadedProfile

ENV = Param(
    "env",
    "Give the run this variable of your environment. Only the name: a value here would be visible to every "
    "user of this machine. Repeat for more.",
    multiple=True,
    metavar="NAME",
)
ENV_FILE = Param(
    "env_file", "Read variables from a file of NAME=value lines.", kind=Kind.FILE, metavar="FILE"
)
DETACH = Param("detach", "Start it and return at once; it goes on by itself.", kind=Kind.FLAG, short="d")
JUNIT = Param("junit", "Also write the result as JUnit XML to FILE.", kind=Kind.PATH, metavar="FILE")


def check_junit(path: Path | None) -> None:
    """Raise UsageError when the JUnit file could not be written, before a run is spent on it."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"--junit {path}: is a directory", hint=f"name a file, such as {path / 'junit.xml'}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--junit {path}: its folder does not exist", hint=f"mkdir -p {path.parent}")


class Run(Verb):
    """Prepare a run, build its image if that is missing, start its worker and follow it."""

    id = "run"
    words = ("run",)
    help = "Run a profile: make a VM, provision it, check it"
    long_help = """\
PROFILE is a file, or the name of a profile in ./, ./profiles, your own profile folder or of those
that ship (vmlab profile list).

Everything that will be done is planned and checked before anything is touched. If something speaks
against it, every reason is named at once, with what to do about it. --plan shows the plan and all that
was found, also where the image or variables are still missing, and builds nothing; if anything speaks
against the run, its exit code is 3.

The run lives in a worker process of its own: closing this terminal does not stop it, and vmlab runs
wait RUN follows it again.

Ctrl-C asks the run to end as it would have by --on-fail; a second Ctrl-C destroys its VM at once.

If all that is missing is the image and there is a recipe for it, it is built first; at a terminal you
are asked.

Secrets are never taken from the command line. Export them and name them with --env, or use
--env-file."""
    examples = (
        ("vmlab run quickstart", "the profile that ships; a good first run"),
        ("vmlab run quickstart --plan", "what would be done; touches nothing"),
        ("vmlab run ./web.yaml --set vm.memory=2GiB", "another value for one field"),
        ("vmlab run ./web.yaml --env TOKEN --keep", "TOKEN from your environment; keep the VM"),
        ("vmlab run ./web.yaml --detach --json", "start it, print its id, go on"),
    )
    areas = ("lab", "runs")
    key = "n"
    json = "journal"
    reports_run = True
    params = (
        Param(
            "profile",
            "A profile's name or file.",
            positional=True,
            required=True,
            metavar="PROFILE",
            names="profile",
        ),
        DETACH,
        Param("plan", "Show the plan and all that preflight finds; do nothing.", kind=Kind.FLAG),
        Param(
            "set",
            "Another value for one field of the profile, such as vm.cpus=4. Not for secrets.",
            multiple=True,
            metavar="KEY=VALUE",
        ),
        ENV,
        ENV_FILE,
        Param("name", "What to call the VM.", metavar="NAME"),
        Param("image", "Boot this image instead of the profile's.", metavar="NAME", names="image"),
        Param("keep", "Keep the VM whatever happens: --on-pass keep --on-fail keep.", kind=Kind.FLAG),
        Param(
            "on_pass", "What becomes of the VM after a pass.", kind=Kind.CHOICE, choices=("destroy", "keep")
        ),
        Param(
            "on_fail",
            "What becomes of it after a failure (default: keep; destroy where CI=true).",
            kind=Kind.CHOICE,
            choices=("pause", "keep", "destroy"),
        ),
        Param(
            "break",
            "Stand still before (or STEP:after) a step, by its number or name. Repeat for more.",
            multiple=True,
            metavar="STEP",
        ),
        Param("step", "Stand still before every step of the profile.", kind=Kind.FLAG),
        Param("ttl", "How long a kept VM is kept, such as 4h.", kind=Kind.DURATION, metavar="TIME"),
        Param(
            "max_duration",
            "End the run when it takes longer, such as 90m.",
            kind=Kind.DURATION,
            metavar="TIME",
        ),
        Param(
            "cold",
            "Start from nothing: no template, no checkpoint of an earlier run.",
            kind=Kind.FLAG,
        ),
        Param(
            "checkpoints",
            "auto: where going back would save more than a snapshot costs, and after marked steps; "
            "named: after marked steps; none: neither. After the clean boot and at the end there is always "
            "one.",
            kind=Kind.CHOICE,
            choices=("auto", "named", "none"),
        ),
        Param(
            "accel",
            "auto measures whether KVM is really faster here.",
            kind=Kind.CHOICE,
            choices=("auto", "kvm", "tcg"),
        ),
        JUNIT,
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        if args.flag("plan"):
            prepared = await self._prepared(ctx, args)
            refused = Exit.REFUSED if prepared.refused else Exit.PASSED
            return Outcome(plan_json(prepared), plan_lines(prepared), refused)

        from vmlab_tui.runs.spare import SpareWorker
        from vmlab_tui.runs.start import told

        # first of all: it starts up while everything else here is imported and prepared
        with SpareWorker() as worker:
            prepared = await self._prepared(ctx, args)
            for finding in prepared.findings:
                if finding.level == "warn":
                    ctx.front.say(f"warning: {finding.what}: {finding.detail}")
            prepared.raise_if_refused()
            # asked for, or warned of
            if not (args.flag("cold") or prepared.plan.vm.time_travel):
                ctx.front.say(f"start: {told(prepared.plan)}")

            from vmlab_tui.runs.launch import start

            run_id = await start(ctx.lab, prepared, worker)
        if args.flag("detach"):
            return Outcome(
                {"run": run_id},
                (run_id, f"  vmlab runs wait {run_id}", f"  vmlab runs logs -f {run_id}"),
            )
        view = await ctx.front.follow(ctx.lab, run_id, Interrupt.END)

        from vmlab_tui.verbs.shapes import finished

        return await finished(view, args.path("junit"))

    async def _prepared(self, ctx: Context, args: Args) -> Prepared:
        """The run as asked for, ready to be started; errors in arguments and profile come before libvirt."""
        from vmlab_tui.spec.profile import load_profile

        request = self.request(args)
        junit = args.path("junit")
        check_junit(junit)
        if junit and (args.flag("detach") or args.flag("plan")):
            raise UsageError(
                "--junit needs the end of the run",
                hint="leave --detach and --plan away, or use vmlab runs wait RUN --junit FILE",
            )
        await refuse_secret_sets(request.profile, request.sets)
        loaded = await blocking(lambda: load_profile(request.profile, request.sets))
        environ = {**os.environ, **args.typed}
        return await self._prepare(ctx, request, loaded, environ, build=not args.flag("plan"))

    @staticmethod
    def request(args: Args) -> RunRequest:
        """The request that the arguments amount to. Raises UsageError where they contradict each other."""
        from vmlab_tui.runs.request import RunRequest

        names = args.many("env")
        refuse_values(names)
        sets = pairs(args.many("set"), "--set")
        on_pass, on_fail = args.optional("on_pass"), args.optional("on_fail")
        if args.flag("keep"):
            for option, value in (("--on-pass", on_pass), ("--on-fail", on_fail)):
                if value not in (None, "keep"):
                    raise UsageError(
                        f"--keep and {option} {value} contradict each other", hint="drop one of them"
                    )
            on_pass, on_fail = "keep", "keep"
        return RunRequest(
            profile=args.text("profile"),
            image=args.optional("image"),
            sets=sets,
            env_names=(*names, *args.typed),
            env_file=args.path("env_file"),
            on_pass=on_pass,
            on_fail=on_fail,
            ttl=args.seconds("ttl"),
            max_duration=args.seconds("max_duration"),
            accel=args.optional("accel"),
            checkpoints=args.optional("checkpoints"),
            cold=args.flag("cold"),
            breaks=args.many("break"),
            stepwise=args.flag("step"),
            name=args.optional("name"),
        )

    @staticmethod
    async def _prepare(
        ctx: Context,
        request: RunRequest,
        loaded: LoadedProfile,
        environ: Mapping[str, str],
        *,
        build: bool,
    ) -> Prepared:
        """The plan. With ``build``, an image is built first if only that is missing and it has a recipe;
        if somebody can be asked, only after a yes.
        """
        from vmlab_tui.runs.prepare import prepare

        async with ctx.host() as host:
            prepared = await prepare(ctx.lab, host, request, loaded, environ)
        if not (build and prepared.build):
            return prepared
        ctx.front.say(f"the image '{prepared.build}' is not in the store yet")
        if ctx.front.interactive and not await ctx.front.confirm("Build it now? It takes about 2 minutes."):
            return prepared

        from vmlab_tui.verbs import image_make

        await image_make.build(ctx, prepared.build)
        async with ctx.host() as host:
            return await prepare(ctx.lab, host, request, loaded, environ)


def plan_lines(prepared: Prepared) -> tuple[str, ...]:
    """The plan and the findings for people."""
    plan = prepared.plan
    rows = [
        (
            f"{step.number:>2}",
            step.kind if step.index is not None else "",
            step.name,
            _told(plan, step),
        )
        for step in plan.steps
    ]
    words = {"ok": "ok", "warn": "warning", "refuse": "REFUSED"}
    found = [(words[finding.level], f"{finding.what}: {finding.detail}") for finding in prepared.findings]
    lines = []
    for finding, line in zip(prepared.findings, table(found, indent="  "), strict=True):
        lines.append(line)
        if finding.fix and finding.level != "ok":
            lines.append(f"    -> {finding.fix}")
    title = f"plan of {plan.profile.name} on image {plan.image.name}"
    return (title, *table(rows, indent="  "), "preflight", *lines)


def _told(plan: Plan, step: PlannedStep) -> str:
    """What there is to know of a step before it is done."""
    if plan.reused(step.number):
        return "done already"
    return f"at most {span(step.timeout)}{', then a checkpoint' if plan.marked(step) else ''}"


def plan_json(prepared: Prepared) -> JsonValue:
    """The plan and the findings for programs; ``build``: the image that must be built, and nothing else."""
    return {
        "schema": 1,
        "refused": bool(prepared.refused),
        "build": prepared.build or None,
        "plan": prepared.plan.model_dump(mode="json", by_alias=True),
        "findings": [
            {"level": found.level, "what": found.what, "detail": found.detail, "fix": found.fix}
            for found in prepared.findings
        ],
    }
