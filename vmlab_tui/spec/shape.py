"""Steps and checks in the form people write them, which is also the form of the JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Field, Tag, create_model

from vmlab_tui.checks.fields import (
    EnvName,
    EnvText,
    GuestPath,
    Label,
    Matching,
    Port,
    Script,
    Seconds,
    Unit,
    UnixName,
    Yes,
)
from vmlab_tui.checks.params import form
from vmlab_tui.checks.registry import KINDS, Kind
from vmlab_tui.spec.model import Strict

HostPath = Annotated[str, Matching(r"[^\u0000-\u001f\u007f]+", "a path such as ./site")]
Glob = Annotated[str, Matching(r"[^\u0000-\u001f\u007f]+", "a pattern such as '*.log'")]
Owner = Annotated[
    str, Matching(r"[a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?", "user or user:group such as lab:lab")
]


def one_of(names: tuple[str, ...], what: str, *, short: bool = False) -> Discriminator:
    """Tell the members of a union apart by which of ``names`` a mapping has (or that it is no mapping)."""

    def which(value: Any) -> str | None:
        if isinstance(value, Mapping):
            return next((name for name in names if name in value), None)
        return "short" if short else None

    return Discriminator(
        which,
        custom_error_type="one_of",
        custom_error_message="one of",
        custom_error_context={"names": ",".join(names), "allowed": f"{what} with {_list(names)}"},
    )


def _list(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


class StepForm(Strict):
    """What every step may have."""

    name: Label | None = Field(None, description="what the step is called in logs and reports")
    component: Label | None = Field(
        None, description="the part of the system that it belongs to, for reports"
    )
    timeout: Seconds | None = Field(None, description="time limit, such as 2m")
    checkpoint: bool = Field(False, description="take a snapshot after this step, to go back to")


class CopyArguments(Strict):
    """What is copied, and where to."""

    source: HostPath = Field(alias="from", description="file or folder, relative to the profile's folder")
    to: GuestPath = Field(description="absolute path in the guest that it becomes")
    exclude: tuple[Glob, ...] = Field((), description="patterns of names or relative paths to leave out")
    delete: bool = Field(False, description="remove what is in the target folder but not in the source")
    owner: Owner | None = Field(None, description="who owns the copy: user or user:group (root if left out)")


class CopyForm(StepForm):
    """Copy files into the guest; only what changed is sent again."""

    copy_: CopyArguments = Field(alias="copy")


class ScriptFile(Strict):
    """A script in a file."""

    file: HostPath = Field(description="relative to the profile's folder")


class RunForm(StepForm):
    """Run a shell script in the guest; the step fails when the script ends with a status other than 0."""

    run: Annotated[
        Annotated[Script, Tag("short")] | Annotated[ScriptFile, Tag("full")], Discriminator(form)
    ] = Field(description="the script itself, or {file: ...}; without a #! line bash -e runs it, or sh -e")
    user: UnixName = Field("root", description="who runs it")
    env: dict[EnvName, EnvText] = Field(
        default={}, description="variables for this step, added to the profile's"
    )


class RebootForm(StepForm):
    """Restart the guest and wait until it answers again."""

    reboot: Yes


class WaitSeconds(Strict):
    seconds: Seconds = Field(description="how long to wait, such as 5s")


class WaitPort(Strict):
    port: Port = Field(description="wait until something in the guest listens on this TCP port")


class WaitCommand(Strict):
    command: Script = Field(description="wait until this command ends with status 0")


class WaitService(Strict):
    service: Unit = Field(description="wait until this systemd unit is running")


class WaitForm(StepForm):
    """Wait for a time, or until something is true in the guest."""

    wait: Annotated[
        Annotated[Seconds, Tag("short")]
        | Annotated[WaitSeconds, Tag("seconds")]
        | Annotated[WaitPort, Tag("port")]
        | Annotated[WaitCommand, Tag("command")]
        | Annotated[WaitService, Tag("service")],
        one_of(("seconds", "port", "command", "service"), "a duration or a mapping", short=True),
    ]


StepEntry: TypeAlias = Annotated[
    Annotated[CopyForm, Tag("copy")]
    | Annotated[RunForm, Tag("run")]
    | Annotated[RebootForm, Tag("reboot")]
    | Annotated[WaitForm, Tag("wait")],
    one_of(("copy", "run", "reboot", "wait"), "a step: a mapping"),
]


class CheckForm(Strict):
    """What every check may have."""

    name: Label | None = Field(None, description="what the check is called in reports")
    component: Label | None = Field(
        None, description="the part of the system that it belongs to, for reports"
    )
    within: Seconds | None = Field(
        None, description="how long it may take to become true; looked at once if left out"
    )


def _annotation(kind: Kind, name: str) -> Any:
    info = kind.params.model_fields[name]
    extras = tuple(info.metadata)
    return Annotated[(info.annotation, *extras)] if extras else info.annotation


def _union(members: Mapping[str, Any], told_apart: Discriminator) -> Any:
    """A union of types made at run time, each under its tag."""
    annotated: Any = Annotated
    tagged = [annotated[member, Tag(tag)] for tag, member in members.items()]
    return annotated[reduce(or_, tagged), told_apart]


def _check_form(kind: Kind) -> type[CheckForm]:
    """The model of ``- kind: ...`` from the kind's parameters."""
    short = _annotation(kind, kind.short)
    fields: dict[str, Any] = {}
    if kind.flat:
        fields[kind.name] = (short, Field(description=kind.params.__doc__))
        for name in kind.flat:
            info = kind.params.model_fields[name]
            fields[name] = (_annotation(kind, name), Field(info.default, description=info.description))
    else:
        either = _union({"short": short, "full": kind.params}, Discriminator(form))
        fields[kind.name] = (either, Field(description=kind.params.__doc__))
    make: Callable[..., type[CheckForm]] = create_model
    return make(
        f"{kind.name.capitalize()}Check",
        __base__=CheckForm,
        __doc__=f"Check: {kind.params.__doc__}",
        **fields,
    )


CHECK_FORMS: dict[str, type[CheckForm]] = {name: _check_form(kind) for name, kind in KINDS.items()}

CheckEntry: Any = _union(CHECK_FORMS, one_of(tuple(KINDS), "a check: a mapping"))
