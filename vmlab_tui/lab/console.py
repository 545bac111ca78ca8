"""A VM's serial console at a person's terminal: ``python -m vmlab_tui.lab.console URI UUID LABEL [FOLDER]``.

libvirt admits one client to a console. The first process that comes is that client and lets later ones in
over a socket in the VM's folder; when it leaves, one of them takes its place. They only write to it, and it
answers with as many bytes as it has typed, so that nothing is lost that was on its way when it left: what the
guest says they all read from the console's log, so that nobody misses anything at such a change. A VM without
a folder of ours has no such log: it is read from the stream, by one process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator
from pathlib import Path

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import Exit, LabError
from vmlab_tui.base.paths import short_path
from vmlab_tui.base.terminal import RESET, TerminalFilter
from vmlab_tui.base.text import clean
from vmlab_tui.hosts.console import ConsoleTail
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power
from vmlab_tui.hosts.stream import ConsoleStream, open_stream

SOCKET = "console.sock"
LOCK = "console.lock"
LOG = "console.log"
LEAVE = b"\x1d"
"""Ctrl-], as with virsh and telnet."""
_CHUNK = 1 << 16
_SOON, _LATER = 0.02, 0.1
"""Seconds between two looks into the log: while something happens, and else."""
_GOING_BACK = 10.0
"""Seconds within which a VM that went off is on again, if that was going back to a snapshot."""


class Wire:
    """The way to the console: held by this process, or through the one that holds it."""

    def __init__(self, uri: str, uuid: str, folder: Path | None, *, force: bool = False) -> None:
        self._uri, self._uuid, self._folder, self._force = uri, uuid, folder, force
        self.stream: ConsoleStream | None = None
        self.lost = asyncio.Event()
        """The way is gone: the VM is off, or the process that held the console has left."""
        self._lock: int | None = None
        self._server: asyncio.Server | None = None
        self._guests: set[asyncio.StreamWriter] = set()
        self._holder: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pending = bytearray()
        """Typed and not yet known to have reached the console; the first ``_sent`` bytes are on their way."""
        self._sent = 0
        self._typing = asyncio.Lock()

    async def attach(self) -> None:
        """Find a way. Raises Busy when a program that is not ours has the console, or what libvirt says."""
        self.lost.clear()
        self._sent = 0
        if self._folder is None:
            self.stream = await open_stream(self._uri, self._uuid, force=self._force, timeout=15)
            return
        for _ in range(200):
            if self._hold():
                await self._serve()
                await self._send()
                return
            with contextlib.suppress(OSError), short_path(self._folder, SOCKET) as path:
                reader, self._holder = await asyncio.open_unix_connection(path)
                self._tasks.append(asyncio.create_task(self._until_gone(reader)))
                await self._send()
                return
            await asyncio.sleep(0.05)
        raise LabError(
            "the process that holds this console does not answer", hint="leave it there with Ctrl-]"
        )

    def _hold(self) -> bool:
        """Whether this process is the one that may open the console."""
        assert self._folder is not None
        handle = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    async def _serve(self) -> None:
        assert self._folder is not None
        try:
            self.stream = await open_stream(self._uri, self._uuid, force=self._force, timeout=15)
            self._force = False  # to take it from somebody once is enough
            (self._folder / SOCKET).unlink(missing_ok=True)
            with short_path(self._folder, SOCKET) as path:
                self._server = await asyncio.start_unix_server(self._let_in, path)
        except BaseException:
            await self.detach()
            raise
        self._tasks.append(asyncio.create_task(self._drain(self.stream)))

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guests.add(writer)
        try:
            while (data := await reader.read(_CHUNK)) and self.stream is not None:
                await self.stream.write(data)
                writer.write(bytes(len(data)))
                await writer.drain()
        except (LabError, OSError):
            pass
        finally:
            self._guests.discard(writer)
            writer.close()

    async def _drain(self, stream: ConsoleStream) -> None:
        """The log has it all; but what nobody reads would hold up the guest."""
        while await stream.read():
            pass
        self.lost.set()

    async def _until_gone(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while typed := await reader.read(_CHUNK):
                del self._pending[: len(typed)]
                self._sent -= len(typed)
        self.lost.set()

    async def write(self, data: bytes) -> None:
        """Type ``data``; what a way that is just being lost does not take is typed by the next one."""
        self._pending += data
        if not self.lost.is_set():
            await self._send()

    async def _send(self) -> None:
        async with self._typing:
            data = bytes(self._pending[self._sent :])
            try:
                if self.stream is not None:
                    await self.stream.write(data)
                    del self._pending[: len(data)]
                elif self._holder is not None:
                    self._sent += len(data)
                    self._holder.write(data)
                    await self._holder.drain()
            except (LabError, OSError):
                self.lost.set()

    async def detach(self) -> None:
        """Leave it to others."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self.stream is not None:
            await self.stream.close()
            self.stream = None
        if self._server is not None and self._folder is not None:
            (self._folder / SOCKET).unlink(missing_ok=True)
            self._server.close()
            self._server = None
        for writer in [*self._guests, *([self._holder] if self._holder else [])]:
            writer.close()
        self._holder = None
        if self._lock is not None:  # last: whoever gets it now finds the console free
            os.close(self._lock)
            self._lock = None


class Viewer:
    """One terminal that shows the console, in raw mode from :meth:`run` to its end whatever happens."""

    def __init__(self, wire: Wire, uri: str, uuid: str, label: str, folder: Path | None) -> None:
        self._wire, self._uri, self._uuid, self._label = wire, uri, uuid, label
        self._tail = ConsoleTail(folder / LOG) if folder else None
        self._stop = asyncio.Event()
        self._keys: asyncio.Queue[bytes] = asyncio.Queue()
        self._typed = asyncio.Event()

    async def run(self) -> None:
        """Until the person leaves or the VM goes off. Raises LabError when the console cannot be had."""
        await self._wire.attach()
        try:
            await self._raw()
        finally:
            await self._wire.detach()
            if self._tail:
                self._tail.close()

    async def _raw(self) -> None:
        loop = asyncio.get_running_loop()
        before = termios.tcgetattr(0)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead counts
        loop.add_reader(0, self._read_keys)
        work = [
            asyncio.create_task(one) for one in (self._show(), self._type(), self._stay(), self._stopped())
        ]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for one in work:
                if one.done():
                    one.result()
        finally:
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            loop.remove_reader(0)
            with contextlib.suppress(OSError):
                _write(RESET.encode() + b"\r\n")
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, before)

    async def _stopped(self) -> None:
        await self._stop.wait()

    def _read_keys(self) -> None:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        head, left, _ = data.partition(LEAVE)
        if head:
            self._keys.put_nowait(head)
            self._typed.set()
        if left or not data:
            self._stop.set()

    async def _type(self) -> None:
        while True:
            await self._wire.write(await self._keys.get())

    async def _show(self) -> None:
        if self._tail:
            before = clean(await asyncio.to_thread(self._tail.read_new), sgr=True)
            _write(before.replace("\n", "\r\n").encode())
        _write(f"\r\n-- console of {self._label}; Ctrl-] leaves --\r\n".encode())
        passed = TerminalFilter()
        async for chunk in self._output():
            _write(passed.feed(chunk))

    async def _output(self) -> AsyncIterator[bytes]:
        if self._tail is None:
            while self._wire.stream and (chunk := await self._wire.stream.read()):
                yield chunk
            return
        quiet = 0.0
        while True:
            chunk = await asyncio.to_thread(self._tail.read_new)
            if chunk:
                yield chunk
            quiet = 0.0 if chunk or self._typed.is_set() else quiet + _SOON
            self._typed.clear()
            if quiet < 1:
                await asyncio.sleep(_SOON)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._typed.wait(), _LATER)

    async def _stay(self) -> None:
        """Take another way when one is lost, for as long as the VM is on."""
        while True:
            await self._wire.lost.wait()
            await self._wire.detach()
            if not await self._on():
                if self._tail:  # its last words
                    await asyncio.sleep(_LATER * 3)
                _write(f"\r\n-- {self._label} is off --".encode())
                return
            await self._again()

    async def _again(self) -> None:
        """Attach once more; a QEMU that is just being started has no console yet. Raises as attach does."""
        deadline = Deadline(_GOING_BACK)
        while True:
            try:
                return await self._wire.attach()
            except LabError:
                if deadline.expired or not await self._on():
                    raise
            await asyncio.sleep(0.2)

    async def _on(self) -> bool:
        async with Host.open(self._uri, readonly=True) as host:
            for _ in range(int(_GOING_BACK / 0.5)):
                domain = await host.domain(self._uuid)
                if domain is None or domain.power in (Power.ON, Power.PAUSED):
                    return domain is not None
                await asyncio.sleep(0.5)
        return False


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    """Entry point of the process that a terminal is handed to."""
    parser = argparse.ArgumentParser(prog="vmlab console")
    for word in ("uri", "uuid", "label"):
        parser.add_argument(word)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--force", action="store_true")
    given = parser.parse_args()
    os.umask(0o077)

    async def work() -> None:
        wire = Wire(given.uri, given.uuid, given.folder, force=given.force)
        await Viewer(wire, given.uri, given.uuid, given.label, given.folder).run()

    try:
        asyncio.run(work())
    except LabError as error:
        print(f"error: {clean(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"  -> {clean(error.hint)}", file=sys.stderr)
        sys.exit(int(Exit.LAB))


if __name__ == "__main__":
    main()
