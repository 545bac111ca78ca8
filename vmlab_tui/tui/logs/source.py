"""Where the lines of a log come from."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vmlab_tui.tui.logs.files import FileSource
from vmlab_tui.tui.logs.tidy import COLUMNS, Line, lines_of, unstyled

if TYPE_CHECKING:
    from vmlab_tui.runs.plan import Plan

__all__ = ["FileSource", "JournalSource", "Line", "LinesSource", "LogSource"]

_BLOCK = 2000


class LogSource(Protocol):
    """Lines by number, from 0. All but the properties is called in a thread and may wait for a disk."""

    @property
    def key(self) -> Hashable:
        """The same for two sources that show the same thing: a view keeps its place by it."""

    @property
    def path(self) -> Path | None:
        """The file, where there is one that a person can read."""

    @property
    def count(self) -> int:
        """The lines there are, one that is not finished included."""

    @property
    def stable(self) -> int:
        """The first of these lines will not change any more."""

    @property
    def version(self) -> int:
        """Another number after every change."""

    @property
    def generation(self) -> int:
        """Another number after everything began anew."""

    def poll(self) -> bool:
        """Take in what is new, a bounded piece of it. True when there is more to take."""

    def read(self, first: int, count: int) -> list[Line]:
        """These lines, or as many as there are."""

    def scan(self, first: int) -> Iterator[tuple[int, str]]:
        """All lines from ``first`` on without colours, in blocks: the first one's number, the text."""


class LinesSource:
    """Lines that the program itself has, such as the output of an image being built. Thread-safe."""

    path: Path | None = None

    def __init__(self, key: Hashable = None) -> None:
        self._lines: list[Line] = []
        self._key = key
        self._lock = threading.Lock()

    @property
    def key(self) -> Hashable:
        return self if self._key is None else self._key

    @property
    def count(self) -> int:
        return len(self._lines)

    stable = version = count

    @property
    def generation(self) -> int:
        return 0

    def append(self, line: str) -> None:
        """Add a line (or several, parted by newlines); whatever is in it becomes harmless."""
        raw = line.removesuffix("\n").encode("utf-8", "replace")
        with self._lock:
            self._lines += lines_of(
                [(one[: COLUMNS * 16], max(0, len(one) - COLUMNS * 16)) for one in raw.split(b"\n")]
            )

    def poll(self) -> bool:
        return False

    def read(self, first: int, count: int) -> list[Line]:
        return self._lines[first : first + count]

    def scan(self, first: int) -> Iterator[tuple[int, str]]:
        while block := self._lines[first : first + _BLOCK]:
            yield first, "\n".join([unstyled(line.text) for line in block])
            first += len(block)


class JournalSource(LinesSource):
    """A run's journal as lines for people, each with the time since the run began."""

    def __init__(self, path: Path, plan: Plan) -> None:
        from vmlab_tui.journal.log import Follower

        super().__init__(("journal", path))
        self.path = path
        self._plan = plan
        self._follower = Follower(path)
        self._began: float | None = None
        self._broken = False

    def poll(self) -> bool:
        from vmlab_tui.journal.events import JournalError, moment
        from vmlab_tui.verbs.telling import line_of

        if self._broken:
            return False
        try:
            events = self._follower.new()
        except JournalError as error:
            self._broken = True
            events = list(error.good) if not self.count else []
            problem = f"! {error.message}" + (f" ({error.hint})" if error.hint else "")
        else:
            problem = ""
        told = []
        for event in events:
            at = moment(event.time)
            self._began = at if self._began is None else self._began
            try:
                text = line_of(event, self._plan)
            except JournalError as error:
                text = f"! {error.message}"
            if text:
                told.append(f"{elapsed(at - self._began):>9}  {text}")
        told += [problem] if problem else []
        for text in told:
            self.append(text)
        return False


def elapsed(seconds: float) -> str:
    """``0:33.9``, ``2:03:04.5``."""
    tenths = max(0, round(seconds * 10))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02}.{rest % 10}"
