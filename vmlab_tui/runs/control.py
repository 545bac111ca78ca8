"""The worker's socket: the one way by which others change a run that is being worked on.

One JSON line in, one JSON line out. Requests: ``{"verb": "status"}`` and ``{"verb": "end", "how": "table"|
"destroy"|"keep", "by": WHO, "seq": N}``, ``seq`` being the last event the caller has seen. Replies carry
``ok``, ``seq``, and ``error`` where ``ok`` is false; ``over`` with it when the run's end is settled already.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.errors import LabError
from vmlab_tui.runs.context import RunContext

FILE = "ctl.sock"
_LIMIT = 65536


class Request(BaseModel):
    """What a caller wants of a worker."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verb: str
    how: str = Field("table", pattern="^(table|destroy|keep)$")
    by: str = "someone"
    seq: int = 0


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A path to the socket that fits the 107 bytes of a socket address, however deep the store lies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{FILE}"
    finally:
        os.close(handle)


class ControlServer:
    """Listens in the run's directory (mode 0700: its owner only) while the worker lives."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        (self._run.folder / FILE).unlink(missing_ok=True)
        with _short(self._run.folder) as path:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=_LIMIT)

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        (self._run.folder / FILE).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                line = await reader.readline()
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, object]:
        run = self._run
        try:
            request = Request.model_validate_json(line)
        except ValidationError as error:
            return {
                "ok": False,
                "seq": run.state.seq,
                "error": f"not a request: {error.error_count()} errors",
            }
        if request.seq > run.state.seq:
            return {"ok": False, "seq": run.state.seq, "error": f"this run has no event {request.seq} yet"}
        if request.verb == "end":
            if run.stop.closed:
                return {"ok": False, "seq": run.state.seq, "over": True, "error": "it has just ended"}
            run.stop.ask(request.how, request.by)
        elif request.verb != "status":
            return {"ok": False, "seq": run.state.seq, "error": f"unknown verb {request.verb}"}
        return {"ok": True, "seq": run.state.seq, "state": run.state.state}


class RunIsOver(LabError):
    """The worker takes no more wishes: it is about to exit."""


async def ask(folder: Path, *, timeout: float = 10, **request: object) -> dict[str, object]:
    """Send one request to the worker of the run in ``folder``.

    Raises RunIsOver when the run's end is settled, LabError when the worker does not answer or refuses.
    """
    try:
        async with asyncio.timeout(timeout):
            with _short(folder) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=_LIMIT)
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
        raise LabError(f"run {folder.name}: {reply.get('error')}", hint="look again: vmlab runs show")
    return reply
