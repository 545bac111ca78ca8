"""The commands that a run's worker really ran, in the run's directory: ``commands.log``, JSON lines.

{"schema":1,"time":"2026-01-02T13:14:15.123+00:00","command":"virsh ...","outcome":"ok","seconds":0.41}
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vmlab_tui.base.commands import Record, subscribe
from vmlab_tui.base.text import clean_line

FILE = "commands.log"
SCHEMA = 1


@contextlib.contextmanager
def keep_commands(folder: Path, mask: Callable[[str], str] = str) -> Iterator[None]:
    """Append every command of this process to the log in ``folder`` while inside; ``mask`` hides secrets."""
    path = folder / FILE

    def write(one: Record) -> None:
        line = {
            "schema": SCHEMA,
            "time": one.at,
            "command": mask(one.command),
            "outcome": one.outcome,
            "seconds": one.seconds,
        }
        # a full disk must not fail the command itself; one write of a whole line needs no lock
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, json.dumps(line, separators=(",", ":")).encode() + b"\n")
            finally:
                os.close(handle)

    stop = subscribe(write)
    try:
        yield
    finally:
        stop()


def as_text(line: str) -> str:
    """One line of the log for people; a line that is none of ours (torn, newer) as it stands, cleaned."""
    try:
        found = json.loads(line)
        took = f"{float(found['seconds']):.1f} s"
        return f"{found['time'][11:19]} {found['outcome']:<6} {took:>8}  {clean_line(found['command'], 2000)}"
    except (ValueError, KeyError, TypeError):
        return clean_line(line, 2000)
