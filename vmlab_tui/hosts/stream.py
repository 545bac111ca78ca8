"""A VM's serial console as an asynchronous byte stream."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import libvirt

from vmlab_tui.base.commands import recording
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.connection import shown
from vmlab_tui.hosts.failures import explain
from vmlab_tui.hosts.lane import Lane
from vmlab_tui.hosts.loop import ensure_event_loop

_CHUNK = 65536
_AHEAD = 64  # chunks read ahead of the consumer; then the guest has to wait


class ConsoleStream:
    """Bytes from and to a console; an async iterator of chunks and an async context manager.

    Has a connection of its own, so that a console that floods or hangs slows down nothing else.
    """

    def __init__(self, connection: Any, stream: Any, label: str) -> None:
        self.label = label
        self._connection = connection
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._lane = Lane("console", threads=1)
        self._closed = False
        self._ended = False
        threading.Thread(target=self._read, name="vmlab-console-read", daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._closed or not (chunk := self._stream.recv(_CHUNK)):
                    break
                self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
        except (libvirt.libvirtError, RuntimeError):  # aborted by close(), the VM ended, or the loop closed
            pass
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, b"")

    async def read(self) -> bytes:
        """The next bytes as they came; empty at the end (VM off, taken over, closed)."""
        if self._ended:
            return b""
        chunk = await self._chunks.get()
        self._room.release()
        self._ended = not chunk
        return chunk

    async def write(self, data: bytes, *, timeout: float = 10) -> None:
        """Send all of ``data``. Raises LabError when the console is gone, DeadlineError if it is stuck."""

        def work() -> None:
            rest = data
            try:
                while rest:
                    rest = rest[self._stream.send(rest) :]
            except libvirt.libvirtError as error:
                raise explain(error, f"console of {self.label}") from error

        if self._closed:
            raise LabError(f"console of {self.label} is closed")
        await self._lane.call(work, timeout=timeout, what=f"console of {self.label}")

    def __aiter__(self) -> ConsoleStream:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.read():
            return chunk
        raise StopAsyncIteration

    async def close(self) -> None:
        """Give the console back. Never raises."""
        if self._closed:
            return
        self._closed = True
        self._room.release()

        def work() -> None:
            with contextlib.suppress(libvirt.libvirtError):
                self._stream.abort()
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()

        closer = Lane("console-close", threads=1)
        with contextlib.suppress(LabError):
            await closer.call(work, timeout=5, what="close")
        closer.close()
        self._lane.close()

    async def __aenter__(self) -> ConsoleStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def open_stream(uri: str, uuid: str, *, force: bool, timeout: float) -> ConsoleStream:
    """See Host.open_console."""
    flags = libvirt.VIR_DOMAIN_CONSOLE_FORCE if force else libvirt.VIR_DOMAIN_CONSOLE_SAFE

    def work() -> tuple[Any, Any, str]:
        ensure_event_loop()
        connection, label = None, uuid
        try:
            connection = libvirt.open(uri)
            domain = connection.lookupByUUIDString(uuid)
            label = clean_line(domain.name(), 80)
            stream = connection.newStream()
            words = ("virsh", "-c", uri, "console", shown(domain), *(["--force"] if force else []))
            with recording(words):
                domain.openConsole(None, stream, flags)
        except libvirt.libvirtError as error:
            if connection is not None:
                connection.close()
            raise explain(error, f"console of {label}") from error
        return connection, stream, label

    lane = Lane("console-open", threads=1)
    try:
        return ConsoleStream(*await lane.call(work, timeout=timeout, what=f"console of {uuid}"))
    finally:
        lane.close()
