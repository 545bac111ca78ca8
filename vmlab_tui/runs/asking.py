"""One request to a run's worker, over its socket; what can be asked stands in `runs.control`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.paths import short_path

FILE = "ctl.sock"
LIMIT = 65536
"""Bytes of a line."""


class RunIsOver(LabError):
    """The worker takes no more wishes: it is about to exit."""


async def ask(folder: Path, *, timeout: float = 10, **request: object) -> dict[str, object]:
    """Send one request to the worker of the run in ``folder``.

    Raises RunIsOver when the run's end is settled, Refused when nothing was touched, LabError when the
    worker does not answer or it failed.
    """
    try:
        async with asyncio.timeout(timeout):
            with short_path(folder, FILE) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=LIMIT)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                await writer.drain()
                reply: dict[str, object] = json.loads(await reader.readline())
            finally:
                writer.close()
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise LabError(f"the worker of run {folder.name} does not answer", hint="try again") from error
    if reply.get("over"):
        raise RunIsOver(f"run {folder.name}: {reply.get('error')}")
    if not reply.get("ok"):
        kind = Refused if reply.get("refused") else LabError
        hint = reply.get("hint") or f"look again: vmlab runs show {folder.name}"
        raise kind(f"run {folder.name}: {reply.get('error')}", hint=str(hint))
    return reply
