"""Changes to one VM as values: what a person asks for, what it means, and the libvirt calls for it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.host import Host

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
]

LOSES: frozenset[Do] = frozenset({"off", "reboot", "reset", "revert", "delete-snapshot"})
"""What cannot be undone: only done to the state that the person has seen."""
REWINDS: frozenset[Do] = frozenset({"revert", "delete-snapshot"})
"""What takes away what a run stands on: not while one of its steps is in flight."""
FORK_POINT = "fork-"
"""How the names of snapshots begin that are taken to fork a running VM, and dropped again at once."""


class Change(BaseModel):
    """One change. ``name`` and ``description`` are a snapshot's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    do: Do
    name: str = Field("", max_length=1000)
    description: str = Field("", max_length=1000)

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
            case _:
                return self.do


async def carry_out(host: Host, uuid: str, change: Change) -> None:
    """Do it to the VM ``uuid``. Raises LabError; NotFound when VM or snapshot is not there.

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
        case "snapshot":
            await host.create_snapshot(uuid, change.name, change.description)
        case "revert":
            await host.revert(uuid, change.name)
        case "delete-snapshot":
            if not await host.delete_snapshot(uuid, change.name):
                raise NotFound(f"it has no snapshot '{clean_line(change.name, 80)}'")
        case "drop-fork-point":
            if change.name.startswith(FORK_POINT):  # nothing of a run, so no step stands on it
                await host.delete_snapshot(uuid, change.name)
