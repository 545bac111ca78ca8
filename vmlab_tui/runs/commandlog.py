"""The commands that a run's worker really ran, in the run's directory: ``commands.log``, JSON lines.

{"schema":1,"time":"2026-01-02T13:14:15.123+00:00","command":"virsh ...","outcome":"ok","seconds":0.41}
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vmlab_tui.base import commands
from vmlab_tui.base.commands import Record, subscribe
from vmlab_tui.base.text import clean_line
from vmlab_tui.lab.context import Lab

FILE = "commands.log"
SCHEMA = 1
_RUNS = 10
_TAIL = 1 << 17
"""Bytes of a log that :func:`recent` reads: a few hundred commands."""


@dataclass(frozen=True)
class Command:
    """A command that was really run. ``at``: ISO 8601, UTC; ``run``: whose worker ran it, empty for us."""

    at: str
    command: str
    outcome: str
    seconds: float
    run: str = ""


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


def recent(lab: Lab, limit: int = 500) -> list[Command]:
    """The last ``limit`` commands of this process and of the newest runs' workers, oldest first.

    Blocks on the file system. Lines that cannot be read are left out.
    """
    found = [Command(one.at, one.command, one.outcome, one.seconds) for one in commands.recent()]
    for folder in _newest(lab.store.runs):
        found += (one for line in _last_lines(folder / FILE) if (one := _parsed(line, folder.name)))
    return sorted(heapq.nlargest(limit, found, key=_when), key=_when)


def _when(one: Command) -> tuple[datetime, str, str]:
    return datetime.fromisoformat(one.at), one.run, one.command


def _newest(runs: Path) -> list[Path]:
    """The runs whose logs were written last."""
    times: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for folder in runs.iterdir():
            with contextlib.suppress(OSError):
                times.append(((folder / FILE).stat().st_mtime, folder))
    return [folder for _, folder in heapq.nlargest(_RUNS, times)]


def _last_lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
            file.seek(start)
            lines = file.read(_TAIL).splitlines()
    except OSError:
        return []
    return lines[1:] if start else lines  # the first one is cut


def _parsed(line: bytes, run: str) -> Command | None:
    try:
        found = json.loads(line)
        at = datetime.fromisoformat(found["time"])
        if int(found["schema"]) > SCHEMA or at.tzinfo is None:
            return None
        return Command(
            at.astimezone(UTC).isoformat(timespec="milliseconds"),
            clean_line(str(found["command"]), 2000),
            clean_line(str(found["outcome"]), 20),
            float(found["seconds"]),
            clean_line(run, 80),
        )
    except (ValueError, KeyError, TypeError):
        return None
