"""A console at real terminals, several at once, on a real guest that echoes with the case swapped."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import AtTerminal
from tests.hosts.conftest import URI, bench
from vmlab_tui.base.terminal import RESET
from vmlab_tui.hosts.model import VmSpec

__all__ = ["bench"]
pytestmark = pytest.mark.guest
MODES = "stty -g; {}; echo exit $?.; stty -g"


@pytest.fixture
def terminals() -> Iterator[list[AtTerminal]]:
    opened: list[AtTerminal] = []
    yield opened
    for one in opened:
        one.close()


class Seen:
    """A console in a terminal, under a shell that tells the terminal's modes before and after."""

    def __init__(self, terminals: list[AtTerminal], spec: VmSpec, *more: str, folder: bool = True) -> None:
        words = [sys.executable, "-m", "vmlab_tui.lab.console", *more, "--", URI, spec.uuid, spec.name]
        words += [str(spec.console_log.parent)] if folder else []
        self.term = AtTerminal(["/bin/sh", "-c", MODES.format(" ".join(words))])
        terminals.append(self.term)

    async def sees(self, text: str) -> str:
        return await asyncio.to_thread(self.term.read_until, text)

    async def types(self, keys: bytes) -> None:
        self.term.press(keys)

    @property
    def pid(self) -> int:
        """The process below the shell."""
        return int(Path(f"/proc/{self.term.pid}/task/{self.term.pid}/children").read_text().split()[0])

    async def ends(self, status: int = 0) -> None:
        """With that status, the terminal as it was."""
        assert await asyncio.to_thread(self.term.status) == 0
        lines = self.term.text.split("\r\n")
        assert f"exit {status}." in self.term.text, self.term.text
        assert lines[0] == lines[-2] and ":" in lines[0]


async def test_several_at_one_console(bench: Any, terminals: list[AtTerminal]) -> None:
    spec = bench.spec(bench.echo())
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    await bench.until(lambda: spec.console_log.exists() and b">" in spec.console_log.read_bytes())
    first = Seen(terminals, spec)
    before = await first.sees("Ctrl-] leaves --")
    assert f"\r\n>\r\n-- console of {spec.name}" in before
    await first.types(b"hello")
    await first.sees("HELLO")
    fcntl.ioctl(first.term.master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    second = Seen(terminals, spec)
    assert ">HELLO" in await second.sees("Ctrl-] leaves --")
    await second.types(b"both")
    await first.sees("BOTH")
    await second.sees("BOTH")
    assert not first.term.text.endswith("\r\n")

    # what a console has no business with stays out: a question, the clipboard
    await second.types(b";{\x16N;}\x15\x12\x1b\x43\x1b\x61\x27;{\x13\x11MRED")
    shown = (await first.sees("red")).partition("BOTH")[2]
    assert shown == "\x1b[31mred"

    # the one that holds it leaves, is killed, is told to go: the others do not notice
    await first.types(b"\x1d")
    await first.ends()
    assert RESET in first.term.text
    await second.types(b"later")
    await second.sees("LATER")
    third = Seen(terminals, spec)
    await third.sees("Ctrl-] leaves --")
    os.kill(second.pid, signal.SIGKILL)
    await third.types(b"still")
    await third.sees("STILL")
    fourth = Seen(terminals, spec)
    await fourth.sees("STILL")
    await fourth.sees("Ctrl-] leaves --")

    # going back ends the QEMU that the console belonged to: both are at the new one's
    await bench.host.create_snapshot(spec.uuid, "one")
    socket = spec.console_log.parent / "console.sock"
    served = socket.stat().st_ctime_ns
    assert await bench.host.revert(spec.uuid, "one") is False
    await bench.until(lambda: socket.exists() and socket.stat().st_ctime_ns != served)
    await third.types(b"back")
    await third.sees("BACK")
    await fourth.sees("BACK")
    await fourth.types(b"again")
    await fourth.sees("AGAIN")
    await third.sees("AGAIN")

    os.kill(third.pid, signal.SIGTERM)
    await third.ends()
    await fourth.types(b"end")
    await fourth.sees("END")
    raw = b">HELLOBOTH\x1b[6n\x1b]52;c;A\x07\x1b[31mredLATERSTILLBACKAGAINEND"
    assert spec.console_log.read_bytes() == raw

    await bench.host.destroy(spec.uuid)
    await fourth.sees(f"{spec.name} is off")
    await fourth.ends()
    late = Seen(terminals, spec)
    await late.sees("error: ")
    await late.ends(4)


async def test_another_program_at_it(bench: Any, terminals: list[AtTerminal]) -> None:
    spec = bench.spec(bench.echo())
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    async with await bench.host.open_console(spec.uuid):
        refused = Seen(terminals, spec)
        assert spec.name in await refused.sees("error: ")
        await refused.ends(4)
        forced = Seen(terminals, spec, "--force")
        await forced.sees("Ctrl-] leaves --")
        await forced.types(b"mine")
        await forced.sees("MINE")
        await forced.types(b"\x1d")
        await forced.ends()
    # without a folder of ours: from the stream
    foreign = Seen(terminals, spec, folder=False)
    await foreign.sees("Ctrl-] leaves --")
    await foreign.types(b"foreign")
    await foreign.sees("FOREIGN")
    await foreign.types(b"\x1d")
    await foreign.ends()
