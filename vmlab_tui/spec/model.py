"""Profiles as data, in the complete form that plan and engine get; `written` has the file's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vmlab_tui.checks.fields import (
    Bytes,
    EnvName,
    EnvText,
    GuestPath,
    Line,
    Matching,
    Name,
    One,
    Port,
    Seconds,
)
from vmlab_tui.checks.registry import CheckSpec

GIB = 1024**3
PortName = Annotated[
    str,
    Matching(
        r"(?!ssh$)[a-z][a-z0-9_-]{0,31}",
        "a name for the port: lower-case letters, digits, '_', '-', not ssh (which is always there)",
    ),
]
Network = Annotated[
    str, Matching(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}", "isolated, user or the name of a libvirt network")
]
OURS = (
    "users",
    "user",
    "ssh_keys",
    "ssh_authorized_keys",
    "disable_root",
    "ssh_deletekeys",
    "ssh_genkeytypes",
)
CloudKey = Annotated[
    str,
    Matching(
        rf"(?!(?:{'|'.join(OURS)})$)[A-Za-z0-9_.-]{{1,64}}",
        f"a cloud-config key that vmlab does not set itself (it sets {', '.join(OURS)})",
    ),
]


class Strict(BaseModel):
    """Base of everything a person writes: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Vm(Strict):
    """The virtual machine. ``memory`` and ``disk`` in bytes."""

    cpus: Annotated[int, Field(ge=1, le=256)] = Field(2, description="virtual CPUs")
    memory: Bytes = Field(GIB, description="memory, such as 1GiB")
    disk: Bytes = Field(8 * GIB, description="size of the disk, such as 8GiB; at least the image's")
    accel: Literal["auto", "kvm", "tcg"] = Field("auto", description="auto: KVM where it is really faster")
    network: Network = Field(
        "isolated",
        description="isolated: no way out but the forwarded ports; user: outbound too; or a libvirt network",
    )
    firmware: Literal["bios", "uefi"] = Field("bios", description="bios or uefi")


class Common(Strict):
    """What a profile has in both its forms. Durations in seconds."""

    schema_: One = Field(alias="schema", description="version of this file format")
    name: Name = Field(description="the profile's name; its VMs and runs are called after it")
    description: Line = Field("", description="one line for lists")
    image: Name = Field(description="the image in the store that the VM starts from")
    vm: Vm = Vm()
    ports: dict[PortName, Port] = Field(
        default={}, description="guest ports to reach from this machine, name: port; forwarded from 127.0.0.1"
    )
    env: dict[EnvName, EnvText] = Field(default={}, description="variables of every script")
    required: tuple[EnvName, ...] = Field((), description="variables that the caller's environment must give")
    secret: tuple[EnvName, ...] = Field(
        (),
        description="variables whose values are kept out of logs and files; they come from the caller only",
    )
    cloud_init: dict[CloudKey, JsonValue] = Field(default={}, description="added to cloud-init's user-data")
    boot_timeout: Seconds = Field(600.0, description="how long the guest may take to boot and answer")
    checkpoints: Literal["auto", "named", "none"] = Field(
        "auto",
        description="auto: after steps marked with checkpoint, and where going back would save more than "
        "the snapshot costs; named: after marked steps only; none: neither. After the clean boot and at the "
        "end there is always one",
    )
    artifacts: tuple[GuestPath, ...] = Field(
        (), description="files to fetch at the end: absolute paths or globs"
    )
    on_pass: Literal["destroy", "keep"] = Field(
        "destroy", description="what becomes of the VM when all passed"
    )
    on_fail: Literal["pause", "keep", "destroy"] | None = Field(
        None, description="what becomes of it when something failed; left out: as the terminal or CI suggests"
    )
    ttl: Seconds = Field(86400.0, description="how long a kept VM is kept")
    max_duration: Seconds = Field(10800.0, description="time limit of the whole run, pauses not counted")
    pause_limit: Seconds = Field(3600.0, description="how long a paused run waits before it counts as kept")
    allow_outside: bool = Field(False, description="whether files outside the profile's folder may be used")


class _Step(BaseModel):
    """What every step has. ``timeout`` in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    timeout: float = Field(gt=0)
    component: str | None = None
    checkpoint: bool = False


class CopyStep(_Step):
    """Copy ``src`` (absolute, on this machine) to ``to`` in the guest."""

    kind: Literal["copy"] = "copy"
    src: Path
    to: str
    exclude: tuple[str, ...] = ()
    delete: bool = False
    owner: str | None = None


class RunStep(_Step):
    """Run ``script``; ``script_file`` is where it was read from, if not inline."""

    kind: Literal["run"] = "run"
    script: str
    script_file: Path | None = None
    user: str = "root"
    env: dict[str, str] = {}


class RebootStep(_Step):
    """Restart the guest."""

    kind: Literal["reboot"] = "reboot"


class WaitStep(_Step):
    """Wait for exactly one of: a time (``seconds``), a TCP port of the guest, a command, a unit."""

    kind: Literal["wait"] = "wait"
    seconds: float | None = None
    port: int | None = None
    command: str | None = None
    service: str | None = None


Step = Annotated[CopyStep | RunStep | RebootStep | WaitStep, Field(discriminator="kind")]

DEFAULT_TIMEOUTS = {"copy": 600.0, "run": 1800.0, "reboot": 300.0, "wait": 300.0}
"""Seconds a step may take when the profile does not say."""


class Profile(Common):
    """A profile ready to be planned. Survives ``model_dump_json(by_alias=True)`` and back unchanged."""

    steps: tuple[Step, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
