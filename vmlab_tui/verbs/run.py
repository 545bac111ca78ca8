"""``vmlab run``: one execution of a profile on a new VM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Exit, Refused, UsageError
from vmlab_tui.base.units import duration
from vmlab_tui.verbs.verb import Args, Context, Interrupt, Kind, Outcome, Param, Verb, blocking, pairs
from vmlab_tui.verbs.words import table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.runs.prepare import Prepared
    from vmlab_tui.runs.request import RunRequest

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


def refuse_values(names: tuple[str, ...]) -> None:
    """Raise UsageError for ``--env NAME=value``. The value is not repeated in the message."""
    for name in names:
        if "=" in name:
            key = name.partition("=")[0]
            raise UsageError(
                f"--env {key}=...: takes only a name, not a value",
                hint="what stands on a command line is visible to every user and lands in the shell's history; "
                f"export {key} and write --env {key}, or use --env-file FILE",
            )


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
PROFILE is a file, or the name of a profile in ./, ./profiles, your own profile folder or of those that ship
(vmlab profile list).

Everything that will be done is planned and checked before anything is touched (--plan shows it). The run lives in
a worker process of its own: closing this terminal does not stop it, and vmlab runs wait RUN follows it again.

Ctrl-C asks the run to end as it would have by --on-fail; a second Ctrl-C destroys its VM at once.

A missing image that vmlab knows a recipe for is built first; at a terminal you are asked.

Secrets are never taken from the command line. Export them and name them with --env, or use --env-file."""
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
        Param("plan", "Show the plan and what preflight finds; do nothing.", kind=Kind.FLAG),
        Param(
            "set",
            "Another value for one field of the profile, such as vm.cpus=4. Not for secrets.",
            multiple=True,
            metavar="KEY=VALUE",
        ),
        ENV,
        ENV_FILE,
        Param("image", "Boot this image instead of the profile's.", metavar="NAME", names="image"),
        Param("keep", "Keep the VM whatever happens: --on-pass keep --on-fail keep.", kind=Kind.FLAG),
        Param("on_pass", "What becomes of the VM after a pass.", kind=Kind.CHOICE, choices=("destroy", "keep")),
        Param(
            "on_fail",
            "What becomes of it after a failure (default: keep; destroy where CI=true).",
            kind=Kind.CHOICE,
            choices=("pause", "keep", "destroy"),
        ),
        Param("ttl", "How long a kept VM is kept, such as 4h.", kind=Kind.DURATION, metavar="TIME"),
        Param("max_duration", "End the run when it takes longer, such as 90m.", kind=Kind.DURATION, metavar="TIME"),
        Param(
            "accel",
            "auto measures whether KVM is really faster here.",
            kind=Kind.CHOICE,
            choices=("auto", "kvm", "tcg"),
        ),
        JUNIT,
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        request = self.request(args)
        junit = args.path("junit")
        check_junit(junit)
        if junit and (args.flag("detach") or args.flag("plan")):
            raise UsageError(
                "--junit needs the end of the run",
                hint="leave --detach and --plan away, or use vmlab runs wait RUN --junit FILE",
            )
        await self.refuse_secret_sets(request)
        if not args.flag("plan"):
            await self._have_image(ctx, request)

        from vmlab_tui.runs import client
        from vmlab_tui.runs.prepare import prepare

        async with ctx.host() as host:
            prepared = await prepare(ctx.lab, host, request)
            if args.flag("plan"):
                return Outcome(
                    plan_json(prepared), plan_lines(prepared), Exit.REFUSED if prepared.refused else Exit.PASSED
                )
            for finding in prepared.findings:
                if finding.level == "warn":
                    ctx.front.say(f"warning: {finding.what}: {finding.detail}")
            refuse(prepared)
            run_id = await client.start(ctx.lab, prepared)
        if args.flag("detach"):
            return Outcome(
                {"run": run_id},
                (run_id, f"  vmlab runs wait {run_id}", f"  vmlab runs logs -f {run_id}"),
            )
        view = await ctx.front.follow(ctx.lab, run_id, Interrupt.END)

        from vmlab_tui.verbs.shapes import finished

        return await finished(view, junit)

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
                    raise UsageError(f"--keep and {option} {value} contradict each other", hint="drop one of them")
            on_pass = on_fail = "keep"
        return RunRequest.model_validate(
            {
                "profile": args.text("profile"),
                "image": args.optional("image"),
                "sets": sets,
                "env_names": names,
                "env_file": args.path("env_file"),
                "on_pass": on_pass,
                "on_fail": on_fail,
                "ttl": args.seconds("ttl"),
                "max_duration": args.seconds("max_duration"),
                "accel": args.optional("accel"),
            }
        )

    @staticmethod
    async def refuse_secret_sets(request: RunRequest) -> None:
        """Raise UsageError when ``--set env.X=...`` gives a value to a secret of the profile."""
        from vmlab_tui.spec.profile import load_profile

        given = {key.partition(".")[2] for key in request.sets if key.startswith("env.")}
        if not given:
            return
        others = {key: value for key, value in request.sets.items() if not key.startswith("env.")}
        loaded = await blocking(lambda: load_profile(request.profile, others))
        if found := sorted(given & set(loaded.profile.secret)):
            name = found[0]
            raise UsageError(
                f"--set env.{name}=...: {name} is a secret of profile '{loaded.profile.name}'",
                hint="a command line is visible to every user and lands in the shell's history; "
                f"export {name} and write --env {name}, or use --env-file FILE",
            )

    @staticmethod
    async def _have_image(ctx: Context, request: RunRequest) -> None:
        """Build the image when it is missing and there is a recipe for it; else leave it to preflight."""
        from vmlab_tui.spec.profile import load_profile
        from vmlab_tui.verbs.image_make import build, known_recipe, missing_image

        loaded = await blocking(lambda: load_profile(request.profile, request.sets))
        name = request.image or loaded.profile.image
        if not await missing_image(ctx, name) or not await known_recipe(name):
            return
        if ctx.front.interactive and not await ctx.front.confirm(
            f"The image '{name}' is not in the store yet. Build it now (about 2 minutes)?"
        ):
            raise Refused(f"the image '{name}' is not in the store", hint=f"vmlab image build {name}")
        ctx.front.say(f"image '{name}' is not in the store yet: building it first")
        await build(ctx, name)


def refuse(prepared: Prepared) -> None:
    """Raise Refused with everything that preflight found, at once."""
    if not prepared.refused:
        return
    bad = [finding for finding in prepared.findings if finding.level == "refuse"]
    lines = [f"preflight refused: {bad[0].what}: {bad[0].detail}" if len(bad) == 1 else "preflight refused:"]
    if len(bad) == 1:
        raise Refused(lines[0], hint=bad[0].fix)
    for finding in bad:
        lines.append(f"  {finding.what}: {finding.detail}")
        if finding.fix:
            lines.append(f"    -> {finding.fix}")
    raise Refused("\n".join(lines), hint="nothing was touched")


def plan_lines(prepared: Prepared) -> tuple[str, ...]:
    """The plan and the findings for people."""
    plan = prepared.plan
    rows = [
        (f"{step.number:>2}", step.kind, step.name, f"at most {duration(step.timeout)}" if step.timeout else "")
        for step in plan.steps
    ]
    words = {"ok": "ok", "warn": "warning", "refuse": "REFUSED"}
    found = [(words[finding.level], f"{finding.what}: {finding.detail}") for finding in prepared.findings]
    fixes = [f"  -> {finding.fix}" for finding in prepared.findings if finding.level == "refuse" and finding.fix]
    return (f"plan of {plan.profile}", *table(rows, indent="  "), "preflight", *table(found, indent="  "), *fixes)


def plan_json(prepared: Prepared) -> JsonValue:
    """The plan and the findings for programs."""
    return {
        "schema": 1,
        "refused": bool(prepared.refused),
        "plan": prepared.plan.model_dump(mode="json", by_alias=True),
        "findings": [
            {"level": found.level, "what": found.what, "detail": found.detail, "fix": found.fix}
            for found in prepared.findings
        ],
    }
