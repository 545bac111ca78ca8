"""A shell script in a guest by its QEMU agent: the way in when the network is not one."""

from __future__ import annotations

import asyncio
import base64

from pydantic import JsonValue

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts.host import Host

_POLL = 0.1
_ANSWER = 10.0
"""Seconds the agent may take for one answer."""


async def run_by_agent(host: Host, uuid: str, script: str, deadline: Deadline) -> bytes:
    """What ``script`` printed, run by ``/bin/sh`` as the agent's user (root); error output is left out.

    The agent tells it only once the script has ended. Raises LabError without an agent, DeadlineError when
    the script has not ended by then; it may go on in the guest.
    """
    began = await host.agent(
        uuid,
        "guest-exec",
        timeout=deadline.part(_ANSWER),
        path="/bin/sh",
        input_data=base64.b64encode(script.encode()).decode(),
        capture_output=True,
    )
    if not isinstance(began, dict) or not isinstance(pid := began.get("pid"), int):
        raise LabError(f"agent guest-exec of {uuid}: the answer makes no sense")
    while True:
        now = await host.agent(uuid, "guest-exec-status", timeout=max(1.0, deadline.part(_ANSWER)), pid=pid)
        if isinstance(now, dict) and now.get("exited"):
            return _decoded(now.get("out-data"))
        deadline.check(f"a script by the guest agent of {uuid}")
        await asyncio.sleep(_POLL)


def _decoded(data: JsonValue) -> bytes:
    try:
        return base64.b64decode(str(data or ""))
    except ValueError:  # a guest may say anything
        return b""
