"""Programs in a guest by its QEMU agent: the way in when the network is not one, or is slower."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts.host import Host

JUST_BACK = 0.2
"""Seconds in which libvirt may still say that there is no agent, of a guest that has just gone back or woken
up: QEMU tells of the open port some 10 ms after that (libvirt 9.0; too late after one revert in twenty)."""
_SOON, _LATER = 0.03, 0.2
"""Seconds between two questions whether it has ended, at first and at most: each costs the guest time."""
_ANSWER = 10.0
"""Seconds the agent may take for one answer."""


@dataclass(frozen=True)
class Ran:
    """How a program ended. ``status``: its exit status, None where a signal ended it."""

    status: int | None
    out: bytes
    err: bytes


async def agent_exec(
    host: Host, uuid: str, argv: Sequence[str], deadline: Deadline, *, data: bytes = b"", patience: float = 0
) -> Ran:
    """Run a program, looked up in the agent's ``PATH``, as its user (root), with ``data`` on its stdin.

    The agent tells what it printed only once it has ended. ``patience``: as for Host.agent. Raises
    LabError without an agent, DeadlineError when it has not ended by then; it may go on in the guest.
    """
    began = await host.agent(
        uuid,
        "guest-exec",
        timeout=deadline.part(_ANSWER),
        patience=patience,
        path=argv[0],
        arg=list(argv[1:]),
        input_data=base64.b64encode(data).decode(),
        capture_output=True,
    )
    if not isinstance(began, dict) or not isinstance(pid := began.get("pid"), int):
        raise LabError(f"agent guest-exec of {uuid}: the answer makes no sense")
    wait = _SOON
    while True:
        now = await host.agent(uuid, "guest-exec-status", timeout=max(1.0, deadline.part(_ANSWER)), pid=pid)
        if isinstance(now, dict) and now.get("exited"):
            status = now.get("exitcode")
            return Ran(
                status if isinstance(status, int) else None,
                _decoded(now.get("out-data")),
                _decoded(now.get("err-data")),
            )
        deadline.check(f"a program by the guest agent of {uuid}")
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, _LATER)


async def run_by_agent(host: Host, uuid: str, script: str, deadline: Deadline) -> bytes:
    """What ``script`` printed, run by ``/bin/sh``; error output is left out. Raises as :func:`agent_exec`."""
    return (await agent_exec(host, uuid, ["/bin/sh"], deadline, data=script.encode())).out


def _decoded(data: JsonValue) -> bytes:
    try:
        return base64.b64decode(str(data or ""))
    except ValueError:  # a guest may say anything
        return b""
