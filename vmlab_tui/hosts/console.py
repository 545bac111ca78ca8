"""Reading a serial console's log while virtlogd writes and rotates it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from vmlab_tui.base.errors import LabError

_BACKUPS = 3  # virtlogd's default max_backups: LOG.0 is the youngest, LOG.2 the oldest
_HEAD = 256


class ConsoleTail:
    """What is new in a console log, across rotation (virtlogd: at 2 MiB, three old files kept).

    It holds the file it is in, so what was written there is not lost even when virtlogd deletes it.
    Blocks for file access only. The bytes are the guest's own: untrusted.
    """

    def __init__(self, log_path: Path) -> None:
        self.path = log_path
        self.gaps = 0
        """How often output may have been lost: more was written between two reads than virtlogd keeps."""
        self._handle: int | None = None
        self._inode = 0
        self._offset = 0
        self._head = hashlib.sha256().hexdigest()

    def read_new(self) -> bytes:
        """All bytes written since the last call; empty while there is no log.

        Raises LabError if the log may not be read.
        """
        # listed first: a file that is not the youngest in this list is complete by now
        files = self._open_all()
        try:
            inodes = [os.fstat(handle).st_ino for handle in files]
            parts = []
            place = self._find(files, inodes)
            if self._handle is not None:
                parts.append(self._read(self._handle))
            if place is None:
                if self._inode and files:
                    self.gaps += 1
                place = len(files)
            for handle in reversed(files[:place]):
                self._enter(os.dup(handle))
                parts.append(self._read(handle))
            return b"".join(parts)
        finally:
            for handle in files:
                os.close(handle)

    def position(self) -> dict[str, JsonValue]:
        """Where it stands, as JSON: for `restore` in another process."""
        return {"inode": self._inode, "offset": self._offset, "head": self._head}

    def restore(self, position: Mapping[str, JsonValue]) -> None:
        """Go on from a `position`; a place that no longer exists means: all there is, is new."""
        self.close()
        self._inode = int(str(position.get("inode", 0)))
        self._offset = int(str(position.get("offset", 0)))
        self._head = str(position.get("head", ""))

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _open_all(self) -> list[int]:
        """The log and its old files, youngest first, none twice.

        In this order a rotation in between shows a file twice, never hides one.
        """
        files: list[int] = []
        seen: set[int] = set()
        try:
            for name in (self.path, *(Path(f"{self.path}.{number}") for number in range(_BACKUPS))):
                with contextlib.suppress(FileNotFoundError):
                    handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    files.append(handle)
                    if (inode := os.fstat(handle).st_ino) in seen:
                        os.close(files.pop())
                    seen.add(inode)
        except OSError as error:
            for handle in files:
                os.close(handle)
            raise LabError(
                f"{self.path}: {error.strerror}",
                hint="with qemu:///system the console log belongs to root: run as root, or use qemu:///session",
            ) from error
        return files

    def _find(self, files: list[int], inodes: list[int]) -> int | None:
        """The index of the file it is in; takes up the file again after `restore`."""
        if self._inode not in inodes:
            return None
        place = inodes.index(self._inode)
        if self._handle is None:
            if _head(files[place], self._offset) != self._head:
                return None  # the number was given to another file meanwhile
            self._handle = os.dup(files[place])
        return place

    def _enter(self, handle: int) -> None:
        self.close()
        self._handle, self._inode, self._offset = handle, os.fstat(handle).st_ino, 0

    def _read(self, handle: int) -> bytes:
        if os.fstat(handle).st_size < self._offset:  # cut off: a log without append, or by hand
            self._offset = 0
        parts = []
        while chunk := os.pread(handle, 1 << 20, self._offset):
            parts.append(chunk)
            self._offset += len(chunk)
        self._head = _head(handle, self._offset)
        return b"".join(parts)


def _head(handle: int, offset: int) -> str:
    return hashlib.sha256(os.pread(handle, min(offset, _HEAD), 0)).hexdigest()
