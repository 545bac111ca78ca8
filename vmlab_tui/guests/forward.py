"""A port of a guest on this machine's loopback, through SSH."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from vmlab_tui.base.errors import LabError
from vmlab_tui.guests.ssh import Guest

_CHUNK = 1 << 16


class _Reader(Protocol):
    async def read(self, n: int) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes) -> object: ...
    def write_eof(self) -> object: ...
    async def drain(self) -> object: ...


@asynccontextmanager
async def forward(
    guest: Guest, port: int, local: int = 0, on_problem: Callable[[LabError], None] = lambda error: None
) -> AsyncIterator[int]:
    """Lead connections to a port on 127.0.0.1 (``local``, or a free one) to ``port`` on the guest's loopback.

    Yields the local port. Each connection has a channel of its own, so that they outlive a reboot of the
    guest as a listener; ``on_problem`` hears why one could not be led on. Raises LabError when the local port
    is taken.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with guest.connection_to(port) as (there, back):
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        except LabError as error:
            on_problem(error)
        except OSError:
            pass  # one of the two has gone
        finally:
            writer.close()

    working: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        working.add(task)
        task.add_done_callback(working.discard)

    try:
        server = await asyncio.start_server(begin, "127.0.0.1", local)
    except OSError as error:
        raise LabError(
            f"port {local} on 127.0.0.1 cannot be used: {error.strerror}",
            hint="choose another, or leave it out for a free one",
        ) from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


async def _pump(reader: _Reader, writer: _Writer) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
