"""A running SSH server to test against, and small helpers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.guests.endpoint import Endpoint


@dataclass(frozen=True)
class Bed:
    """A running server: ``root`` is where its file system begins on this machine."""

    endpoint: Endpoint
    root: Path
    pid: int

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def sessions(self) -> list[int]:
        """Processes that serve its connections."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True)
        return [int(word) for word in found.stdout.split()]

    def cut(self) -> None:
        """Drop every connection as a dead network would; when this returns, none of them is served."""
        killed = []
        for pid in self.sessions():
            below = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
            for each in [pid, *(int(word) for word in below.stdout.split())]:
                name = Path(f"/proc/{each}/comm")
                if name.exists() and name.read_text().startswith("sshd"):
                    with contextlib.suppress(ProcessLookupError):
                        killed.append(os.pidfd_open(each))
                        signal.pidfd_send_signal(killed[-1], signal.SIGKILL)
        for one in killed:  # readable once its process has gone, and with it the connection
            assert select.select([one], [], [], 30)[0]
            os.close(one)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.02)
