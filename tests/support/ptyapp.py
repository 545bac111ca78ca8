"""A Textual app at a real terminal of 80x24, and what it may send there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path
from types import TracebackType

from tests.support.hostile import BIDI, PAYLOAD

ROOT = Path(__file__).parents[2]


class PtyApp:
    """``code``: Python that runs an app, in a process of its own. Use as a context manager."""

    def __init__(self, code: str, *, columns: int = 80, lines: int = 24, env: dict[str, str] | None = None):
        self.output = b""
        self.quiet = 0.3
        """Seconds without output after which a key has done what it does."""
        self._status: int | None = None
        size = struct.pack("HHHH", lines, columns, 0, 0)
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)  # before the app asks
            os.chdir(ROOT)
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", **(env or {}))
            os.execv(sys.executable, [sys.executable, "-c", code])

    def __enter__(self) -> PtyApp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is None and os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        """Take what there is within ``seconds``; False when nothing came."""
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the other side is closed
            return False
        self.output += data
        return bool(data)

    def until(self, wanted: bytes, seconds: float = 30, *, since: int = 0) -> None:
        """Wait for ``wanted`` in the output from byte ``since`` on."""
        limit = time.monotonic() + seconds
        while wanted not in self.output[since:]:
            self._read(0.1)
            assert time.monotonic() < limit, f"no {wanted!r} in {self.output[-2000:]!r}"

    def settle(self, quiet: float | None = None, seconds: float = 30) -> None:
        """Wait until nothing has come for ``quiet`` seconds (default: :attr:`quiet`)."""
        limit = time.monotonic() + seconds
        while self._read(quiet or self.quiet):
            assert time.monotonic() < limit, "it never stops drawing"

    def press(self, *keys: bytes) -> None:
        """Send keys as a terminal does, one after the other, and wait for what they do."""
        for key in keys:
            os.write(self._master, key)
            # after an escape alone, Textual waits whether a sequence follows
            self.settle(max(self.quiet, 0.2) if key == b"\x1b" else None)

    def status(self, seconds: float = 30) -> int:
        """Its exit status, negative for a signal."""
        limit = time.monotonic() + seconds
        while self._status is None:
            self._read(0.05)
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
                while self._read(0.05):
                    pass
            assert self._status is not None or time.monotonic() < limit, "it does not end"
        return self._status


_OURS = re.compile(
    r"""
    \x1b\[ [12]?\d{1,2} ; [12]?\d{1,2} H                   # the cursor goes somewhere on the screen
    | \x1b\[ [\d;]{0,80} m                                 # colours
    | \x1b\[ \? (?:25|1000|1002|1003|1004|1006|1015|1016|1049|2004|2026|2048|7) [hl]
    | \x1b\[ \? (?:2026|2048) \$p                          # which of these the terminal knows
    | \x1b\[ (?: >\d{0,2} | < | = ) u                      # how keys are told
    | \x1b\]22;[a-z-]{0,20}\x07                             # the shape of the mouse pointer
    | \r?\n
    """,
    re.VERBOSE,
)
_FORBIDDEN = re.compile(f"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u2060\ufeff{BIDI}]")


def assert_only_ours(output: bytes) -> None:
    """Whether the terminal got well-formed text and only sequences that Textual itself sends.

    Raises AssertionError with the place otherwise.
    """
    text = output.decode("utf-8")  # raises for anything that is not UTF-8
    plain = _OURS.sub("", text)
    if found := _FORBIDDEN.search(plain):
        around = plain[max(0, found.start() - 60) : found.start() + 60]
        raise AssertionError(f"{found[0]!r} reached the terminal, in {around!r}")
    sequences = "".join(found[0] for found in _OURS.finditer(text))
    assert PAYLOAD not in sequences
    assert max(text.count("\x1b[?1049h"), text.count("\x1b[?1049l")) <= 1, "left the screen and came back"
