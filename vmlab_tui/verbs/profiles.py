"""``vmlab profile list|check|schema|show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Exit
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import size, span
from vmlab_tui.verbs.secrets import refuse_secret_sets
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb, blocking, pairs
from vmlab_tui.verbs.words import cut, table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.spec.profile import LoadedProfile

PROFILE = Param(
    "profile", "A profile's name or file.", positional=True, required=True, metavar="PROFILE", names="profile"
)
SET = Param("set", "Another value for one field.", multiple=True, metavar="KEY=VALUE")


class ProfileList(Verb):
    """Every profile that can be named."""

    id = "profile.list"
    words = ("profile", "list")
    help = "List the profiles that can be run by name"
    long_help = """\
Looked for in ./, ./profiles, your own profile folder and among those that ship; the first of a name
is the one that is used."""
    examples = (("vmlab profile list", ""),)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.spec.profile import find_profiles

        found = await blocking(find_profiles)
        data: JsonValue = {
            "schema": 1,
            "profiles": [
                {
                    "name": ref.name,
                    "path": str(ref.path),
                    "origin": ref.origin,
                    "description": ref.description,
                    "problem": str(ref.problem) if ref.problem else None,
                }
                for ref in found
            ],
        }
        rows = [
            (
                clean_line(ref.name, 24),
                ref.origin,
                f"cannot be used: {clean_line(str(ref.problem), 120)}"
                if ref.problem
                else clean_line(ref.description, 120),
            )
            for ref in found
        ]
        return Outcome(data, table(rows, head=("profile", "from", "")) or ("no profiles",))


class ProfileCheck(Verb):
    """Whether a profile is right, with every error at once."""

    id = "profile.check"
    words = ("profile", "check")
    help = "Check a profile: every error with its line, at once"
    long_help = "Exit code 0 when it is right, 2 when it is not. Nothing is run, and libvirt is not asked."
    examples = (
        ("vmlab profile check ./web.yaml", ""),
        ("vmlab profile check ./web.yaml --json", "file, line, field, found, allowed, nearest"),
    )
    params = (PROFILE, SET)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.spec.problems import SpecErrors

        try:
            loaded = await _load(args)
        except SpecErrors as error:
            if not ctx.wants_data:
                raise
            fields = ("file", "line", "column", "field", "found", "allowed", "nearest")
            problems: list[JsonValue] = [
                {name: getattr(problem, name) for name in fields} for problem in error.problems
            ]
            return Outcome({"schema": 1, "ok": False, "problems": problems}, (), Exit.USAGE)
        profile = loaded.profile
        line = f"ok: profile '{profile.name}', {len(profile.steps)} steps, {len(profile.checks)} checks"
        return Outcome({"schema": 1, "ok": True, "profile": profile.name, "problems": []}, (line,))


class ProfileShow(Verb):
    """What a profile amounts to, defaults and overrides included."""

    id = "profile.show"
    words = ("profile", "show")
    help = "Show what a profile amounts to, defaults included"
    examples = (
        ("vmlab profile show quickstart", ""),
        ("vmlab profile show ./web.yaml --set vm.cpus=4 --json", "with an override, for a program"),
    )
    params = (PROFILE, SET)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        loaded = await _load(args)
        profile = loaded.profile
        vm = profile.vm
        head = [
            ("file", str(loaded.path)),
            ("image", profile.image),
            (
                "vm",
                f"{vm.cpus} cpus, {size(vm.memory)} memory, {size(vm.disk)} disk, "
                f"accel {vm.accel}, {vm.firmware}",
            ),
            ("network", vm.network),
            ("ports", ", ".join(f"{name}={port}" for name, port in profile.ports.items()) or "-"),
            ("env", ", ".join(profile.env) or "-"),
            ("required", ", ".join(profile.required) or "-"),
            ("secret", ", ".join(profile.secret) or "-"),
            (
                "at the end",
                f"passed: {profile.on_pass}, failed: {profile.on_fail or 'keep (destroy where CI=true)'}",
            ),
            ("limits", f"{span(profile.max_duration)} in all; a kept VM {span(profile.ttl)}"),
        ]
        steps = [
            (f"{at:>2}", step.kind, cut(step.name, 40), f"at most {span(step.timeout)}")
            for at, step in enumerate(profile.steps, 1)
        ]
        checks = [(cut(check.label, 60), check.component or "") for check in profile.checks]
        lines = [profile.name + (f": {profile.description}" if profile.description else "")]
        lines += table(head, indent="  ")
        lines += ["steps", *table(steps, indent="  ")] if steps else ["no steps"]
        lines += ["checks", *table(checks, indent="  ")] if checks else ["no checks"]
        data: JsonValue = {
            "schema": 1,
            "file": str(loaded.path),
            "profile": profile.model_dump(mode="json", by_alias=True),
        }
        return Outcome(data, tuple(clean(line) for line in lines))


class ProfileSchema(Verb):
    """The JSON Schema of profiles, for editors."""

    id = "profile.schema"
    words = ("profile", "schema")
    help = "Print the JSON Schema of profiles, for editors"
    long_help = """\
With the schema in a file, editors that know YAML complete fields and mark mistakes. A first line in
a profile such as

# yaml-language-server: $schema=./profile.schema.json

tells them where it is."""
    examples = (("vmlab profile schema > profile.schema.json", ""),)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        import json

        from vmlab_tui.spec.profile import profile_schema

        schema: JsonValue = await blocking(profile_schema)
        return Outcome(schema, tuple(json.dumps(schema, indent=1).splitlines()))


async def _load(args: Args) -> LoadedProfile:
    from vmlab_tui.spec.profile import load_profile

    sets = pairs(args.many("set"), "--set")
    await refuse_secret_sets(args.text("profile"), sets)
    return await blocking(lambda: load_profile(args.text("profile"), sets))
