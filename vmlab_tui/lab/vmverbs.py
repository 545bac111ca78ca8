"""Changes to one VM as values: what a person asks for, what it means, and the libvirt calls for it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vmlab_tui.base.text import clean_line
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Then
from vmlab_tui.lab import rewind

Do = Literal[
    "start",
    "shutdown",
    "off",
    "reboot",
    "reset",
    "pause",
    "unpause",
    "snapshot",
    "revert",
    "delete-snapshot",
    "drop-fork-point",
    "describe-snapshot",
]

LOSES: frozenset[Do] = frozenset({"off", "reboot", "reset", "revert", "delete-snapshot"})
"""What cannot be undone: only done to the state that the person has seen."""
REWINDS: frozenset[Do] = frozenset({"revert", "delete-snapshot"})
"""What takes away what a run stands on: not while one of its steps is in flight."""
ALTERS: frozenset[Do] = frozenset({"start", "shutdown", "off", "reboot", "reset", "revert"})
"""After which a guest is not where its run's steps left it."""
FORK_POINT = "fork-"
"""How the names of snapshots begin that are taken to fork a running VM, and dropped again at once."""


class Change(BaseModel):
    """One change. ``name`` and ``description`` are a snapshot's.

    For ``revert``: how the VM shall be ``then`` (None: as it was), and whether its present is kept first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    do: Do
    name: str = Field("", max_length=1000)
    description: str = Field("", max_length=1000)
    then: Then | None = None
    safety: bool = True

    @property
    def text(self) -> str:
        """In words, for a journal: ``off``, ``revert to 'clean-boot'``."""
        name = f"'{clean_line(self.name, 80)}'"
        match self.do:
            case "snapshot":
                return f"snapshot {name}"
            case "revert":
                return f"revert to {name}"
            case "delete-snapshot":
                return f"delete snapshot {name}"
            case "drop-fork-point":
                return f"drop snapshot {name} again"
            case "describe-snapshot":
                return f"describe snapshot {name}"
            case _:
                return self.do


class Result(BaseModel):
    """What came of a change: lines for people, values for programs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    lines: tuple[str, ...] = ()
    data: dict[str, JsonValue] = {}


async def carry_out(host: Host, uuid: str, change: Change, endpoint: Endpoint | None = None) -> Result:
    """Do it to the VM ``uuid``, whose SSH answers at ``endpoint`` if it is ours and has been booted.

    Raises LabError; NotFound when VM or snapshot is not there, Refused when nothing was touched.
    A ``shutdown`` or ``reboot`` has been asked of the guest when this returns, no more.
    """
    match change.do:
        case "start":
            await host.start(uuid)
        case "shutdown":
            await host.shutdown(uuid)
        case "off":
            await host.destroy(uuid)
        case "reboot":
            await host.reboot(uuid)
        case "reset":
            await host.reset(uuid)
        case "pause":
            await host.suspend(uuid)
        case "unpause":
            await host.resume(uuid)
            if endpoint is not None:  # it may have come here from the past, and nobody else looks after it
                clock = await rewind.set_clock(host, uuid, endpoint)
                return Result(
                    lines=(f"! its clock is behind: {clock}",) if clock else (), data={"clock": clock or None}
                )
        case "snapshot":
            await host.create_snapshot(uuid, change.name, change.description)
        case "describe-snapshot":
            await host.describe_snapshot(uuid, change.name, change.description)
        case "revert":
            went = await rewind.go_back(
                host, uuid, change.name, then=change.then, keep_present=change.safety, endpoint=endpoint
            )
            return Result(lines=went.lines, data=went.data)
        case "delete-snapshot":
            freed, lines = await rewind.delete(host, uuid, change.name)
            return Result(lines=lines, data={"freed": freed})
        case "drop-fork-point":
            if change.name.startswith(FORK_POINT):  # nothing of a run, so no step stands on it
                await host.delete_snapshot(uuid, change.name)
    return Result()
