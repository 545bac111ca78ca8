"""A log file that grows: its lines by number, without holding it in memory."""

from __future__ import annotations

import os
import threading
from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterator
from pathlib import Path

from vmlab_tui.tui.logs.tidy import HEAD, Line, lines_of, tidy

BLOCK = 1 << 15
"""Bytes between two entries of the index."""
_TAKE = 1 << 20  # bytes that one poll takes in
_SCAN = 1 << 18
_TAIL = 64


class FileSource:
    """Lines of ``path``, which need not exist yet.

    The index has the number of newlines before every 32nd KiB, since counting is ten times as fast as
    keeping every line's place, and 10 GB need 2.5 MB. A line is found by looking through one block.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._file = path
        self._lock = threading.Lock()  # polls of two readers at once
        self._generation = 0
        self._version = 0
        self._begin()

    def _begin(self) -> None:
        self._marks = array("Q", [0])
        self._size = 0
        self._newlines = 0
        self._ends = 0  # where the last newline ends
        self._count = 0
        self._tail = b""
        self._inode: tuple[int, int] | None = None

    @property
    def key(self) -> Hashable:
        return self._file

    @property
    def count(self) -> int:
        return self._count

    @property
    def stable(self) -> int:
        return self._newlines

    @property
    def version(self) -> int:
        return self._version

    @property
    def generation(self) -> int:
        return self._generation

    # -- taking in -------------------------------------------------------------------------------

    def poll(self) -> bool:
        with self._lock:
            return self._poll()

    def _poll(self) -> bool:
        try:
            status = os.stat(self._file)  # noqa: PTH116  # a third of Path.stat's time, 15 times a second
        except OSError:  # not there yet, or gone
            return False
        inode = status.st_dev, status.st_ino
        if inode == self._inode and status.st_size == self._size:
            return False
        try:
            handle = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            if inode != self._inode or status.st_size < self._size or not self._same(handle):
                self._anew(inode)
            data = os.pread(handle, _TAKE, self._size)
        except OSError:
            return False
        finally:
            os.close(handle)
        self._take(data)
        return len(data) == _TAKE

    def _same(self, handle: int) -> bool:
        """Whether what was read last is still there: a file may be cut and grow again between two looks."""
        return os.pread(handle, len(self._tail), self._size - len(self._tail)) == self._tail

    def _anew(self, inode: tuple[int, int]) -> None:
        if self._size:
            self._generation += 1
            self._version += 1
        self._begin()
        self._inode = inode

    def _take(self, data: bytes) -> None:
        if not data:
            return
        at, size, newlines = 0, self._size, self._newlines
        marks = []
        while at < len(data):
            step = min(BLOCK - (size + at) % BLOCK, len(data) - at)
            newlines += data.count(b"\n", at, at + step)
            at += step
            if (size + at) % BLOCK == 0:
                marks.append(newlines)
        last = data.rfind(b"\n")
        if last >= 0:
            self._ends = size + last + 1
        self._marks.extend(marks)
        self._tail = (self._tail + data[-_TAIL:])[-_TAIL:]
        self._size = size + len(data)
        self._newlines = newlines
        self._count = newlines + (self._size > self._ends)
        self._version += 1

    # -- giving out ------------------------------------------------------------------------------

    def _start(self, handle: int, number: int) -> int:
        """Where a line begins: after the newline with its number, counted from 1."""
        if number <= 0:
            return 0
        marks = self._marks
        block = bisect_left(marks, number) - 1
        data = os.pread(handle, BLOCK, block * BLOCK)
        at = -1
        for _ in range(number - marks[block]):
            at = data.find(b"\n", at + 1)
            if at < 0:  # the file is not what it was; the next poll begins anew
                return self._size
        return block * BLOCK + at + 1

    def read(self, first: int, count: int) -> list[Line]:
        first = max(0, first)
        count = min(count, self._count - first)
        if count <= 0:
            return []
        try:
            handle = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return []
        try:
            return lines_of(self._raw(handle, first, count))
        except OSError:
            return []
        finally:
            os.close(handle)

    def _raw(self, handle: int, first: int, count: int) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        size = self._size
        at = self._start(handle, first)
        while len(found) < count and at < size:
            data = os.pread(handle, min(HEAD, size - at), at)
            if not data:
                break
            if data.count(b"\n") == 0:
                end = min(size, self._end(handle, first + len(found)))
                found.append(self._long(handle, data, at, end))
                at = end + 1
                continue
            whole, _, rest = data.rpartition(b"\n")
            lines = whole.split(b"\n")
            if at + len(data) >= size and rest:
                lines.append(rest)
                rest = b""
            found += [(line, 0) for line in lines]
            at += len(data) - len(rest)
        return found[:count]

    def _end(self, handle: int, number: int) -> int:
        """Where a line's newline is."""
        return self._start(handle, number + 1) - 1 if number < self._newlines else self._size

    @staticmethod
    def _long(handle: int, head: bytes, start: int, end: int) -> tuple[bytes, int]:
        """A line that is longer than what is read of it; of a progress line its last state."""
        if end - start <= len(head):
            return head[: end - start], 0
        tail = os.pread(handle, 4096, max(start + len(head), end - 4096)).rstrip(b"\r")
        _, overwritten, last = tail.rpartition(b"\r")
        return (last, 0) if overwritten else (head, end - start - len(head))

    def scan(self, first: int) -> Iterator[tuple[int, str]]:
        try:
            handle = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        try:
            size, at, number = self._size, self._start(handle, first), first
            while at < size:
                data = os.pread(handle, min(_SCAN, size - at), at)
                if not data:
                    return
                whole, newline, rest = data.rpartition(b"\n")
                if newline:
                    at += len(data) - len(rest)
                else:  # a line longer than that: its beginning, as it is shown
                    end = min(size, self._end(handle, number))
                    whole, _ = self._long(handle, data[:HEAD], at, end)
                    at = end + 1
                yield number, tidy(whole)
                number += whole.count(b"\n") + 1
        except OSError:
            return
        finally:
            os.close(handle)
