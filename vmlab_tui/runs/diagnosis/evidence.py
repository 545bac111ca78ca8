"""What can be known of a failure, as one frozen value: rules judge it, a bundle keeps it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.model import Power


class Way(StrEnum):
    """How the guest was looked at."""

    SSH = "SSH"
    AGENT = "guest agent"
    HOST = "host only"


class Ssh(StrEnum):
    """What became of the SSH login."""

    UNTRIED = ""
    IN = "in"
    REFUSED_KEY = "key refused"
    OTHER_KEY = "other host key"
    SILENT = "no answer"
    CLOSED = "closed"
    """The port does not answer as an SSH server."""


@dataclass(frozen=True)
class Step:
    """The step that failed, or that is in flight.

    ``status``: its exit status, None when it did not come to one. ``ended``: whether the guest's part came to
    an end of its own, by a status or a failed check. ``lines``: the last ones it printed, or its failed
    checks; clean, without empty ones and without a shell's trace. ``told``: how its run tells of the end.
    ``text``: its script. ``began``: seconds before the guest was looked at; None when that is not known.
    """

    number: int
    name: str
    kind: str
    status: int | None = None
    ended: bool = False
    lines: tuple[str, ...] = ()
    told: str = ""
    text: str = ""
    user: str = "root"
    began: float | None = None

    @property
    def title(self) -> str:
        return f"step {self.number:02} '{clean_line(self.name, 40)}'"


HOST_STEPS = frozenset({"preflight", "overlay", "seed", "define", "boot"})
"""Kinds of steps that are done on this machine: the guest has no part in them yet."""


@dataclass(frozen=True)
class Evidence:
    """All of it but the name may be missing. Texts are clean; those of the guest are its word, no more.

    ``parts``: what the guest said, by the names in `script.PARTS`. ``late``: those that took too long.
    ``console``: its end, ``silent``: seconds since it grew. ``cpu``: the share of its CPUs' time that its
    QEMU used meanwhile. ``host_time``: seconds since 1970 when the guest told its own.
    """

    vm: str
    step: Step | None = None
    way: Way = Way.HOST
    parts: Mapping[str, str] = field(default_factory=dict)
    late: tuple[str, ...] = ()
    power: Power | None = None
    """None: it has no domain, or libvirt was not asked."""
    reason: str = ""
    gone: bool = False
    """libvirt does not know it (any more)."""
    cpu: float | None = None
    console: str = ""
    silent: float | None = None
    ssh: Ssh = Ssh.UNTRIED
    ssh_said: str = ""
    agent: bool | None = None
    agent_said: str = ""
    network: str = ""
    qemu_log: str = ""
    host_time: float = 0.0

    def part(self, name: str) -> str:
        return self.parts.get(name, "")

    def lines(self, name: str) -> list[str]:
        return [line for line in self.part(name).splitlines() if line.strip()]

    @property
    def answers(self) -> bool:
        """Whether the guest itself told something."""
        return self.way is not Way.HOST

    @property
    def unfinished(self) -> bool:
        """Whether the step broke off in the guest: then the machine under it may be the cause."""
        return self.step is not None and not self.step.ended and self.step.kind not in HOST_STEPS

    @property
    def guest_time(self) -> float | None:
        """Seconds since 1970 as the guest has it."""
        return _number(self.part("time"), 0)

    @property
    def skew(self) -> float | None:
        """Seconds by which the guest's clock is ahead of the host's."""
        there = self.guest_time
        return there - self.host_time if there is not None and self.host_time else None

    @property
    def uptime(self) -> float | None:
        """Seconds since the guest's kernel started."""
        return _number(self.part("time"), 1)

    def file_systems(self, *, inodes: bool = False) -> Iterator[FileSystem]:
        """The local ones that can be written to, counted in KiB or in inodes."""
        mounts = {mount.where: mount for mount in self.mounts()}
        tables = re.split(r"^Filesystem .*$", self.part("df"), flags=re.M)[1:]
        for line in tables[inodes].splitlines() if len(tables) > inodes else ():
            words = line.split(None, 5)
            if len(words) == 6 and words[1].isdigit() and words[3].lstrip("-").isdigit():
                mount = mounts.get(words[5])
                if mount and (mount.read_only or mount.kind in _NEVER_WRITTEN):
                    continue
                yield FileSystem(words[5], int(words[1]), max(0, int(words[3])))

    def mounts(self) -> Iterator[Mount]:
        for line in self.lines("mounts"):
            words = line.split()
            if len(words) >= 4:
                yield Mount(words[1].replace("\\040", " "), words[2], frozenset(words[3].split(",")))


_NEVER_WRITTEN = frozenset({"iso9660", "udf", "squashfs", "erofs", "devtmpfs", "efivarfs", "ramfs"})


@dataclass(frozen=True)
class FileSystem:
    """``size`` and ``free`` in KiB, or in inodes."""

    where: str
    size: int
    free: int


@dataclass(frozen=True)
class Mount:
    where: str
    kind: str
    options: frozenset[str]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options


def _number(text: str, at: int) -> float | None:
    found = re.findall(r"^\d+(?:\.\d+)?", text, re.M)
    return float(found[at]) if len(found) > at else None
