"""A program at a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time


class AtTerminal:
    """``argv`` at a terminal of 80x24; kill it with :meth:`close` whatever happens."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(argv[0], argv)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.text = ""
        self._status: int | None = None

    def _read(self) -> bool:
        """Whether more may come."""
        if not select.select([self.master], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def read_until(self, wanted: str, seconds: float = 30) -> str:
        """Everything shown so far, which has ``wanted`` in it."""
        limit = time.monotonic() + seconds
        while wanted not in self.text:
            more = self._read()
            waiting = more and time.monotonic() < limit
            assert wanted in self.text or waiting, f"no {wanted!r} in {self.text!r}"
        return self.text

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def status(self, seconds: float = 30) -> int:
        """Its exit status, negative for a signal."""
        limit = time.monotonic() + seconds
        while self._status is None:
            more = self._read() if self.master >= 0 else False
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
                while self.master >= 0 and self._read() and select.select([self.master], [], [], 0)[0]:
                    pass
                break
            assert time.monotonic() < limit, f"it does not end: {self.text!r}"
            if not more:
                time.sleep(0.05)
        assert self._status is not None
        return self._status

    def hang_up(self) -> None:
        """Close the terminal under it."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        """Kill it if it still lives."""
        if self._status is None and os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.master >= 0:
            self.hang_up()
