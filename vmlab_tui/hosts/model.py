"""What goes into libvirt and what comes out of it, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Accel(StrEnum):
    KVM = "kvm"
    TCG = "tcg"


class Power(StrEnum):
    """A VM's state in the words of the screen."""

    ON = "on"
    OFF = "off"
    PAUSED = "paused"
    CRASHED = "crashed"
    SLEEPING = "sleeping"
    STOPPING = "stopping"
    UNKNOWN = "unknown"


class Then(StrEnum):
    """How a VM shall be once it has gone back to a snapshot."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"


@dataclass(frozen=True)
class Forward:
    """A TCP port on 127.0.0.1 of this machine that leads to a port of the guest."""

    name: str
    host_port: int
    guest_port: int


@dataclass(frozen=True)
class Mark:
    """What the domain's metadata says of its origin: only what never changes."""

    version: str
    run_id: str
    store: str


@dataclass(frozen=True)
class VmSpec:
    """All that a domain's XML is made of. ``network``: ``isolated``, ``user`` or a libvirt network's name.

    ``memory`` in bytes. ``chain`` is the backing chain of ``disk``, nearest first, as (path, format).
    """

    uuid: str
    name: str
    cpus: int
    memory: int
    accel: Accel
    disk: Path
    disk_format: str
    chain: tuple[tuple[Path, str], ...]
    seed: Path | None
    console_log: Path
    mac: str
    network: str = "isolated"
    forwards: tuple[Forward, ...] = ()
    firmware: str = "bios"
    description: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Snapshot:
    """A libvirt domain snapshot; ``created`` in seconds since 1970.

    ``files``: those of its own that an external one lies in. ``size``: bytes that its memory takes in the
    VM's disk, where somebody has looked.
    """

    name: str
    parent: str | None
    description: str
    created: int
    power: Power
    memory: bool
    external: bool
    current: bool
    files: tuple[Path, ...] = ()
    size: int | None = None


@dataclass(frozen=True)
class Domain:
    """One domain of a host, own or foreign."""

    uuid: str
    name: str
    power: Power
    persistent: bool
    memory: int
    cpus: int
    mark: Mark | None
    disks: tuple[Path, ...]
    files: tuple[Path, ...] = ()
    """Every file its live and its stored XML name: disks, backing chain, seed, console log, nvram.

    If snapshots were asked for, those that its snapshots name as well.
    """
    snapshots: tuple[Snapshot, ...] = field(default=())
    formats: tuple[str, ...] = ()
    """The driver type of each of ``disks``."""
    firmware: str = "bios"
    problem: str = ""
    """Why its XML could not be read; then ``files`` is unknown, not empty."""


@dataclass(frozen=True)
class Display:
    """Where a running VM's screen can be had by VNC, seen from its host. ``password``: empty for none."""

    host: str
    port: int
    password: str = field(default="", repr=False)

    @property
    def uri(self) -> str:
        return f"vnc://{self.host}:{self.port}"


@dataclass(frozen=True)
class HostFacts:
    """What a host is and can do; ``libvirt`` and ``qemu`` as (major, minor, micro)."""

    uri: str
    libvirt: tuple[int, int, int]
    qemu: tuple[int, int, int]
    qemu_uid: int
    qemu_gid: int
    cpus: int
    memory_total: int
    memory_free: int
    dac: bool = False
    """Whether libvirt hands files to the QEMU user when a VM starts."""
