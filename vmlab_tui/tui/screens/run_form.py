"""What can be set for a run before it starts: the fields of the form, and what they amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmlab_tui.base.text import clean_line

if TYPE_CHECKING:
    from vmlab_tui.spec.profile import LoadedProfile

_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


@dataclass(frozen=True)
class Field:
    """One line of the form. ``choices``: (shown, value). ``name`` of a variable begins with ``env.``."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    secret: bool = False
    needed: bool = False


@dataclass(frozen=True)
class Form:
    """The fields in groups, made for one profile."""

    loaded: LoadedProfile
    groups: tuple[tuple[str, tuple[Field, ...]], ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(one for _, fields in self.groups for one in fields)


@dataclass(frozen=True)
class Wanted:
    """What was filled in, as the verb ``run`` takes it. ``typed`` holds variables, secrets among them."""

    arguments: dict[str, object]
    typed: dict[str, str] = field(default_factory=dict, repr=False)
    missing: str = ""
    """The first field that is needed and empty."""


def exact(count: int) -> str:
    """A size as it is written in a profile: ``1GiB``, ``192MiB``."""
    for unit, size in _UNITS:
        if count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def make_form(loaded: LoadedProfile, images: Sequence[tuple[str, str]], environ: Mapping[str, str]) -> Form:
    """``images``: (name, what to say of it) of those in the store."""
    profile = loaded.profile
    choices = [(f"{clean_line(name, 40)}  {told}".rstrip(), name) for name, told in images]
    if profile.image not in [name for name, _ in images]:
        choices.insert(0, (f"{profile.image}  (not in the store yet)", profile.image))
    machine = (
        Field("image", "image", profile.image, choices=tuple(choices)),
        Field("memory", "memory", exact(profile.vm.memory), "such as 2GiB"),
        Field("cpus", "CPUs", str(profile.vm.cpus)),
        Field(
            "start",
            "start",
            "warm",
            choices=(("where an earlier run got to, if one did", "warm"), ("from nothing", "cold")),
        ),
        Field("name", "VM name", hint=f"{profile.name}-...: one is made up"),
    )
    keep = ("keep the VM", "keep")
    remove = ("remove the VM", "destroy")
    pause = ("pause with the VM, for a while", "pause")
    after = (
        Field("on_pass", "if it passes", profile.on_pass, choices=(remove, keep)),
        Field("on_fail", "if it fails", profile.on_fail or "pause", choices=(pause, keep, remove)),
    )
    return Form(
        loaded,
        (("machine", machine), ("afterwards", after), ("variables", tuple(_variables(loaded, environ)))),
    )


def _variables(loaded: LoadedProfile, environ: Mapping[str, str]) -> list[Field]:
    from vmlab_tui.spec.env import is_secret

    profile = loaded.profile
    offered = [name for name in profile.secret if name in environ and name not in profile.required]
    found = []
    for name in dict.fromkeys((*profile.required, *profile.secret, *profile.env)):
        needed = name in profile.required
        there = name in environ
        if needed:
            hint = "as in your environment" if there else "needed"
        elif name in offered:
            hint = "as in your environment, named below"
        elif name in profile.secret:
            hint = "not given"
        else:
            hint = "empty"
        secret = is_secret(profile, name) and name not in profile.env
        value = profile.env.get(name, "")
        found.append(Field(f"env.{name}", name, value, hint, secret=secret, needed=needed and not there))
    hint = "names, such as HTTP_PROXY LANG"
    found.append(Field("environment", "from environment", " ".join(offered), hint))
    return found


def read_form(form: Form, values: Mapping[str, str]) -> Wanted:
    """The arguments for what ``values`` (by field name) has; only what differs from the profile is given."""
    arguments: dict[str, object] = {
        "profile": str(form.loaded.path),
        "on_fail": values.get("on_fail", "pause"),
    }
    sets: list[str] = []
    typed: dict[str, str] = {}
    missing = ""
    for one in form.fields:
        value = values.get(one.name, one.value)
        plain = value if one.name.startswith("env.") else value.strip()
        if one.needed and not plain:
            missing = missing or one.name
        if one.name == "environment":
            arguments["env"] = tuple(plain.replace(",", " ").split())
        elif plain == one.value:
            continue
        elif one.name.startswith("env."):
            typed[one.name.removeprefix("env.")] = plain
        elif one.name == "start":
            arguments["cold"] = plain == "cold"
        elif one.name in ("memory", "cpus"):
            if plain:
                sets.append(f"vm.{one.name}={plain}")
        elif plain:
            arguments[one.name] = plain
    arguments["set"] = tuple(sets)
    return Wanted(arguments, typed, missing)
