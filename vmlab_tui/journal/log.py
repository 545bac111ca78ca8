"""Appending to a journal, reading it, following it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from errno import ENOSPC
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import TracebackType
from typing import Any

from vmlab_tui.base import faults
from vmlab_tui.base.paths import Locked, fsync_dir
from vmlab_tui.journal.events import KINDS, PROSE, Event, JournalError, make, parse

FILE = "journal.jsonl"
"""Its name in a run's directory."""
RESERVE = 1 << 17
"""Bytes that are held for a journal while it is written."""

for _kind in KINDS:
    faults.declare(f"journal.{_kind}", f"the first {_kind} event is on the disk")


def _no_mask(text: str) -> str:
    return text


class Journal:
    """The one writer of a journal. Open it with :meth:`append`.

    Each :meth:`write` is one ``write`` and one ``fdatasync`` on one descriptor. The file is locked, so a
    second writer is refused. It blocks for as long as the disk takes; it is not thread-safe.
    """

    def __init__(self, path: Path, handle: int, seq: int, size: int, mask: Callable[[str], str]) -> None:
        self.path = path
        self.seq = seq
        """Sequence number of the last event in the file; 0 in an empty one."""
        self._handle = handle
        self._size = size
        self._mask = mask
        self._broken = ""
        self._reserve = path.with_name(f".{path.name}.reserve")
        """Room for the last words on a full disk: who has to free some must know what happened."""
        with suppress(OSError), self._reserve.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE)

    @classmethod
    def append(cls, path: Path, *, mask: Callable[[str], str] = _no_mask) -> Journal:
        """Open ``path`` for appending, creating it (0600), and cut a torn tail off.

        ``mask`` gets every free text (:data:`PROSE`) before it is stored, ids never. Raises Locked when
        another writer has it, and JournalError, without having changed a byte, when it is damaged or newer.
        """
        try:
            fresh = not path.exists()
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            try:
                flock(handle, LOCK_EX | LOCK_NB)
            except BlockingIOError as error:
                raise Locked(
                    f"{path} is being written by another process", hint="ask the run's worker instead"
                ) from error
            raw = _read_from(handle, 0)
            events, size = _scan(raw, path, 0, 0)
            if size < len(raw):
                os.ftruncate(handle, size)
                os.fsync(handle)
            if fresh:
                fsync_dir(path.parent)
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle, events[-1].seq if events else 0, size, mask)

    def write(self, kind: str, **data: Any) -> Event:
        """Append one event; it is on the disk when this returns.

        Raises ValueError for an unknown kind or data that does not fit it (a mistake in the program), and
        JournalError when the disk refuses. After a full disk the journal is as before and usable again;
        after a failed sync it is not, since nobody knows what the disk holds.
        """
        if self._broken:
            raise JournalError(self._broken, hint="end this worker and resume the run")
        event, line = make(self.seq + 1, kind, _masked(data, self._mask))
        try:
            try:
                self._put(line)
            except OSError as error:
                self._undo()
                if error.errno != ENOSPC or not self._reserve.exists():
                    raise
                self._reserve.unlink()
                self._put(line)
        except OSError as error:
            self._undo()
            raise JournalError(
                f"{self.path} cannot be written: {error.strerror}", hint="free some space on that disk"
            ) from error
        try:
            os.fdatasync(self._handle)
        except OSError as error:
            self._broken = f"{self.path}: the disk failed to store an event ({error.strerror})"
            raise JournalError(self._broken, hint="look at the kernel's log for that disk") from error
        self._size += len(line)
        self.seq = event.seq
        faults.point(f"journal.{kind}")
        return event

    def _put(self, line: bytes) -> None:
        written = os.write(self._handle, line)
        if written < len(line):  # the disk filled up in the middle; the next call says why
            written += os.write(self._handle, line[written:])
            if written < len(line):
                raise OSError(0, "short write")

    def _undo(self) -> None:
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as error:
            self._broken = f"{self.path}: half an event could not be taken back ({error.strerror})"

    def close(self) -> None:
        """Release the file; does nothing the second time."""
        if self._handle >= 0:
            with suppress(OSError):
                self._reserve.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1
            self._broken = f"{self.path} is closed"

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Follower:
    """Reads what has been added to a journal since the last look. A missing file counts as empty.

    ``offset`` and ``seq`` start it in the middle: the end of a line and that line's sequence number.
    """

    def __init__(self, path: Path, *, offset: int = 0, seq: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.seq = seq

    def new(self) -> list[Event]:
        """The events added since the last call; a line still being written waits for the next.

        Costs one ``stat`` when there is nothing new. Raises JournalError when the file is damaged, newer
        or shorter than before; :attr:`offset` then stays where it was.
        """
        try:
            size = self.path.stat().st_size
            if size == self.offset:
                return []
            if size < self.offset:
                raise JournalError(f"{self.path} has become shorter", hint="open the run again")
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            raw = _read_from(handle, self.offset)
        finally:
            os.close(handle)
        events, used = _scan(raw, self.path, self.seq, self.offset)
        self.offset += used
        if events:
            self.seq = events[-1].seq
        return events


def read(path: Path) -> list[Event]:
    """All events; a torn tail is left out. Raises JournalError when the file is missing, damaged or newer."""
    if not path.exists():
        raise JournalError(f"{path} does not exist", hint="the run was never started")
    return Follower(path).new()


async def follow(
    path: Path,
    until_ended: bool = True,
    poll: float = 0.05,
    *,
    alive: Callable[[], bool] | None = None,
) -> AsyncIterator[Event]:
    """Yield events from the first one on, as they come; ``poll`` in seconds.

    Stops after ``ended`` (unless ``until_ended`` is False) or, with ``alive``, once that says no and
    nothing is left to read: the writer is gone without an ``ended``. Raises like :meth:`Follower.new`.
    """
    follower = Follower(path)
    while True:
        living = alive is None or alive()  # asked before reading, so that its last words are not missed
        events = follower.new()
        for event in events:
            yield event
            if until_ended and event.kind == "ended":
                return
        if not events:
            if not living:
                return
            await asyncio.sleep(poll)


def _masked(data: dict[str, Any], mask: Callable[[str], str]) -> dict[str, Any]:
    # prose only: a masked id or path would no longer lead to the thing it names
    return {
        key: mask(value) if key in PROSE and isinstance(value, str) else value for key, value in data.items()
    }


def _read_from(handle: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while part := os.pread(handle, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _scan(raw: bytes, path: Path, seq: int, base: int) -> tuple[list[Event], int]:
    """The events of whole lines in ``raw`` and how many bytes they take.

    Torn, and so left out: a last line without its newline, or one with zero bytes in it, which is what a
    file system leaves where a sector never reached the disk. Lines of ours never contain them. Anything
    else that does not verify is damage.
    """
    events: list[Event] = []
    start = 0
    while (end := raw.find(b"\n", start)) >= 0:
        line = raw[start:end]
        try:
            event = parse(line)
            if event.seq != seq + 1:
                raise ValueError(f"sequence {event.seq} after {seq}")
        except ValueError as error:
            if b"\0" in line and end + 1 == len(raw):
                break
            raise JournalError(
                f"{path} is damaged at event {seq + 1}, byte {base + start}: {_reason(error)}",
                hint="nothing was written into it; the events before that are still good",
                good=tuple(events),
            ) from error
        except JournalError as error:
            raise JournalError(f"{path}: {error.message}", hint=error.hint, good=tuple(events)) from error
        events.append(event)
        seq = event.seq
        start = end + 1
    return events, start


def _reason(error: ValueError) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
