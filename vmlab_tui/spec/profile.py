"""Finding a profile, reading it, and making it complete: paths resolved, scripts read, names given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import config_dir, shipped
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.checks.registry import KINDS, CheckSpec
from vmlab_tui.spec.loader import Document, read_document
from vmlab_tui.spec.model import (
    DEFAULT_TIMEOUTS,
    CopyStep,
    Profile,
    RebootStep,
    RunStep,
    Step,
    Vm,
    WaitStep,
)
from vmlab_tui.spec.problems import Place, Problem, SpecErrors, nearest, short
from vmlab_tui.spec.sets import apply_sets
from vmlab_tui.spec.settings import load_settings
from vmlab_tui.spec.shape import CopyForm, RebootForm, RunForm, ScriptFile, StepForm, WaitForm
from vmlab_tui.spec.validate import validate
from vmlab_tui.spec.written import ProfileFile, profile_schema

__all__ = [
    "DEFAULT_TIMEOUTS",
    "CheckSpec",
    "CopyStep",
    "LoadedProfile",
    "Profile",
    "ProfileRef",
    "RebootStep",
    "RunStep",
    "Step",
    "Vm",
    "WaitStep",
    "check_profile",
    "find_profiles",
    "load_profile",
    "profile_schema",
]

MAX_SCRIPT = 1 << 20
"""Bytes a script file may have."""


@dataclass(frozen=True)
class LoadedProfile:
    """A complete profile, where it came from, and the bytes of its file as read."""

    profile: Profile
    path: Path
    folder: Path
    text: bytes


@dataclass(frozen=True)
class ProfileRef:
    """A profile that can be named. ``origin``: here, config, settings or shipped; ``problem`` says why it
    cannot be used, None when it can."""

    name: str
    path: Path
    origin: str
    description: str
    problem: str | None = None


def load_profile(ref: str | Path, sets: Mapping[str, str] | None = None) -> LoadedProfile:
    """The profile in a file, in a folder (its ``profile.yaml``), or the one of that name.

    Names are looked for here, in ``./profiles``, in the configuration folder, in the folders of the settings
    and among the shipped ones. ``sets`` are single values to replace, such as ``{"vm.memory": "2GiB"}``.
    Raises SpecErrors with all problems of the file, UsageError when there is no such profile.
    """
    path = _find(ref)
    document = apply_sets(read_document(path), sets or {})
    profile, problems = check_profile(document, path.parent)
    if profile is None or problems:
        raise SpecErrors(str(path), problems)
    return LoadedProfile(profile, path, path.parent.resolve(), document.raw)


def check_profile(document: Document, folder: Path) -> tuple[Profile | None, tuple[Problem, ...]]:
    """A document as a complete profile, and everything that is wrong with it."""
    written, problems = validate(document, ProfileFile)
    if written is None:
        rest, _ = validate(_sound_part(document, problems), ProfileFile)
        if rest is None:
            return None, problems
        maker = _Maker(document, folder.resolve(), rest)
        maker.profile()
        return None, (*problems, *maker.problems)
    maker = _Maker(document, folder.resolve(), written)
    made = maker.profile()
    found = (*problems, *maker.problems)
    return (None if found else made), found


_STAND_INS: dict[str, Any] = {"schema": 1, "name": "x", "image": "x"}
_ENTRIES: dict[str | int, Any] = {"steps": {"wait": 1}, "checks": {"port": 1}}


def _sound_part(document: Document, problems: tuple[Problem, ...]) -> Document:
    """The document with harmless stand-ins for what is wrong, so that the rest can be looked at further.

    Otherwise a person would fix one sort of mistake only to be told of the next.
    """
    if not isinstance(document.data, dict):
        return document
    data = {**_STAND_INS, **document.data}
    for field in _ENTRIES:
        if isinstance(data.get(str(field)), list):
            data[str(field)] = list(data[str(field)])
    for problem in problems:
        if not (place := problem.place):
            continue
        top, entries = str(place[0]), data.get(str(place[0]))
        if len(place) > 1 and top in _ENTRIES and isinstance(entries, list) and isinstance(place[1], int):
            if place[1] < len(entries):
                entries[place[1]] = _ENTRIES[top]
        elif top in _STAND_INS:
            data[top] = _STAND_INS[top]
        elif top == "allow_outside":
            data[top] = True
        elif len(place) > 1 and isinstance(entries, dict):
            data[top] = {key: value for key, value in entries.items() if key != place[1]}
        else:
            data.pop(top, None)
    return replace(document, data=data, problems=())


class _Maker:
    """Turns what was written into a complete profile, collecting what makes no sense."""

    def __init__(self, document: Document, folder: Path, written: ProfileFile) -> None:
        self.document = document
        self.folder = folder
        self.written = written
        self.problems: list[Problem] = []

    def blame(self, place: Place, found: str, allowed: str, close: str = "") -> None:
        self.problems.append(self.document.problem(place, found, allowed, close))

    def profile(self) -> Profile:
        self.variables()
        steps = tuple(self.step(number, step) for number, step in enumerate(self.written.steps))
        checks = tuple(self.check(one) for one in self.written.checks)
        common = {
            name: getattr(self.written, name)
            for name in ProfileFile.model_fields
            if name not in ("steps", "checks")
        }
        return Profile(**common, steps=steps, checks=checks)

    def variables(self) -> None:
        """A value has one origin: the profile, or the caller. A secret is never written down."""
        written = self.written
        places: list[tuple[Place, dict[str, str]]] = [(("env",), written.env)]
        places += [
            (("steps", number, "env"), step.env)
            for number, step in enumerate(written.steps)
            if isinstance(step, RunForm)
        ]
        for place, env in places:
            for name in env:
                if name in written.secret:
                    self.blame(
                        (*place, name),
                        "the value of a secret",
                        "its name only (under required); the value comes by --env NAME or --env-file",
                    )
                elif name in written.required and place == ("env",):
                    self.blame((*place, name), "a value", "either a value here or its name under required")
        for field in ("required", "secret"):
            names: tuple[str, ...] = getattr(written, field)
            for number, name in enumerate(names):
                if name in names[:number]:
                    self.blame((field, number), short(name), "each name once")

    def step(self, number: int, form: StepForm) -> Step:
        place: Place = ("steps", number)
        if isinstance(form, CopyForm):
            what = form.copy_
            source = self.path((*place, "copy", "from"), what.source)
            # without a source there is a problem, and nobody gets the step
            return CopyStep(
                **_common(form, "copy", f"copy {what.source}"),
                src=source or self.folder,
                to=what.to,
                exclude=what.exclude,
                delete=what.delete,
                owner=what.owner,
            )
        if isinstance(form, RunForm):
            return self.run_step(place, form)
        if isinstance(form, RebootForm):
            return RebootStep(**_common(form, "reboot", "reboot"))
        assert isinstance(form, WaitForm)
        if isinstance(form.wait, float):
            arguments: dict[str, Any] = {"seconds": form.wait}
        else:
            arguments = form.wait.model_dump()
        [(kind, value)] = arguments.items()
        said = duration(value) if kind == "seconds" else f"for {kind} {str(value).strip()}"
        step = WaitStep(**_common(form, "wait", f"wait {said}"), **arguments)
        if step.seconds is not None and step.seconds >= step.timeout:
            if form.timeout is not None:
                self.blame((*place, "timeout"), duration(form.timeout), f"more than {duration(step.seconds)}")
            return step.model_copy(update={"timeout": step.seconds + 60})
        return step

    def run_step(self, place: Place, form: RunForm) -> RunStep:
        if isinstance(form.run, ScriptFile):
            path: Path | None = self.path((*place, "run", "file"), form.run.file)
            script = self.script((*place, "run", "file"), path)
            title = Path(form.run.file).name
        else:
            path, script = None, form.run
            lines = (line.strip() for line in script.splitlines())
            title = next((line for line in lines if line and not line.startswith(("#", "set "))), "run")
        return RunStep(
            **_common(form, "run", title), script=script, script_file=path, user=form.user, env=form.env
        )

    def script(self, place: Place, path: Path | None) -> str:
        if path is None:
            return ""
        if not path.is_file():
            self.blame(place, short(str(path)), "a file")
            return ""
        try:
            if path.stat().st_size > MAX_SCRIPT:
                self.blame(place, f"{path.stat().st_size} bytes", f"a script of at most {MAX_SCRIPT} bytes")
                return ""
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.blame(
                place, f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}", "a readable text file"
            )
            return ""
        if "\0" in text or not text.strip():
            self.blame(place, "an empty or binary file", "a shell script")
        return text

    def path(self, place: Place, text: str) -> Path | None:
        """``text`` resolved, links included; it must exist, and inside the folder unless that is allowed."""
        try:
            path = (self.folder / text).resolve()
            there = path.exists()
        except (OSError, RuntimeError):  # a name too long, a loop of links
            self.blame(place, short(text), "a file or folder that can be looked at")
            return None
        if not self.written.allow_outside and not path.is_relative_to(self.folder):
            self.blame(
                place,
                f"{short(text)}, which is {path}",
                f"a path inside {self.folder} (or set allow_outside: true)",
            )
            return None
        if not there:
            siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
            self.blame(
                place,
                short(text),
                f"a file or folder that exists; there is no {path}",
                nearest(path.name, siblings),
            )
            return None
        return path

    def check(self, form: Any) -> CheckSpec:
        kind = next(one for name, one in KINDS.items() if name in type(form).model_fields)
        value = getattr(form, kind.name)
        if not isinstance(value, kind.params):
            arguments = {kind.short: value} | {name: getattr(form, name) for name in kind.flat}
            value = kind.params.model_validate(arguments)
        return CheckSpec(
            kind=kind.name,
            params=value,
            name=form.name or "",
            component=form.component,
            within=form.within or 0.0,
        )


def _common(form: StepForm, kind: str, title: str) -> dict[str, Any]:
    return {
        "name": form.name or clean_line(title, 60),
        "timeout": form.timeout or DEFAULT_TIMEOUTS[kind],
        "component": form.component,
        "checkpoint": form.checkpoint,
    }


def _places() -> list[tuple[str, Path]]:
    folders = [("here", Path()), ("here", Path("profiles")), ("config", config_dir() / "profiles")]
    folders += [("settings", folder) for folder in load_settings().profiles]
    return [*folders, ("shipped", shipped())]


def _find(ref: str | Path) -> Path:
    path = Path(ref)
    if isinstance(ref, Path) or "/" in ref or path.suffix in (".yaml", ".yml"):
        return path / "profile.yaml" if path.is_dir() else path
    for _, folder in _places():
        for candidate in (folder / ref / "profile.yaml", folder / f"{ref}.yaml"):
            if candidate.is_file():
                return candidate
    known = [one.name for one in find_profiles()]
    close = nearest(ref, known)
    raise UsageError(
        f"there is no profile {short(ref)}",
        hint=f"did you mean '{close}'?" if close else f"known: {', '.join(known) or 'none'}; or give a file",
    )


def find_profiles() -> list[ProfileRef]:
    """All profiles that can be named, nearest place first; a name in a nearer place hides farther ones."""
    found: dict[str, ProfileRef] = {}
    seen: set[Path] = set()
    for origin, folder in _places():
        if not folder.is_dir() or folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        paths = sorted(folder.glob("*/profile.yaml"))
        if folder != Path():  # any YAML may lie in the current folder
            paths += sorted(folder.glob("*.yaml"))
        for path in paths:
            name = path.parent.name if path.name == "profile.yaml" else path.stem
            found.setdefault(name, _reference(name, path, origin))
    return list(found.values())


def _reference(name: str, path: Path, origin: str) -> ProfileRef:
    try:
        profile = load_profile(path).profile
    except SpecErrors as error:
        count = len(error.problems)
        return ProfileRef(name, path, origin, "", f"{count} problem{'s' if count != 1 else ''}")
    except UsageError as error:
        return ProfileRef(name, path, origin, "", error.message)
    return ProfileRef(name, path, origin, profile.description)
