"""What a check may ask of the machine it checks. Implemented over SSH in ``guests``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Output:
    """A finished command: exit status (255 and up: killed or lost), and its streams as raw bytes."""

    status: int
    out: bytes
    err: bytes


class Target(Protocol):
    """A machine that runs commands as root."""

    async def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = 60, user: str = "root"
    ) -> Output:
        """Run ``command`` by ``/bin/sh -c`` as ``user``; ``data`` goes to its standard input.

        Raises DeadlineError past ``timeout`` seconds and LabError when the connection fails.
        """
        ...
