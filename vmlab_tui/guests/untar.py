"""Unpacking a tar stream that a guest made: nothing in it is trusted.

An own reader of the few header fields needed: only regular files and directories come out, strictly under
one folder, within limits on size, number and length of names. Everything else is skipped and told.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line

_BLOCK = 512
_NAME_LIMIT = 4096
_EXTRA_LIMIT = 65536
MAX_FILES = 20_000


class BadArchive(LabError):
    """The stream is not a tar archive, or one made to do harm."""


def _number(raw: bytes) -> int:
    if raw[0] & 0x80:
        return int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
    text = raw.strip(b" \0")
    if not all(48 <= byte <= 55 for byte in text):
        raise BadArchive("damaged tar header: a number is not octal")
    return int(text or b"0", 8)


def safe_name(raw: bytes) -> str | None:
    """A relative path below the target folder, odd characters as %XX; None when it leads elsewhere."""
    text = raw.decode(errors="surrogateescape")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or not parts or len(raw) > _NAME_LIMIT:
        return None

    def escape(char: str) -> str:
        if char.isprintable() and char not in "%\\":
            return char
        return "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogateescape"))

    safe = ["".join(map(escape, part)) for part in parts]
    return "/".join(safe) if all(len(part.encode()) <= 255 for part in safe) else None


class Untar:
    """Feed it the stream; it writes files under ``folder`` (which must exist and be ours).

    ``limit`` in bytes of file content. ``strip``: as many folders are taken off the beginning of each name;
    what is no deeper than that is left out. ``done`` is true after the end mark; ``cut`` when a limit was hit
    and the rest need not even be read. ``problems`` holds what was left out and why. Files get mode 0600
    (0700 when executable), folders 0700.
    """

    def __init__(
        self, folder: Path, limit: int, on_progress: Callable[[int, str], None], *, strip: int = 0
    ) -> None:
        self.folder = folder.resolve()
        self.limit = limit
        self.strip = strip
        self.on_progress = on_progress
        self.files: list[str] = []
        self.bytes = 0
        self.done = False
        self.cut = False
        self.problems: list[str] = []
        self._buffer = bytearray()
        self._left = 0  # bytes of the present member still to come
        self._padding = 0
        self._out: BinaryIO | None = None
        self._extra: bytearray | None = None
        self._extra_kind = b""
        self._name: bytes | None = None
        self._size: int | None = None
        self._entries = 0

    def feed(self, data: bytes) -> None:
        """Raises BadArchive and OSError."""
        if self.done:
            return  # padding after the end mark
        self._buffer += data
        while not self.done and self._step():
            pass

    def close(self) -> None:
        """After the last byte; raises BadArchive when the stream ended in the middle of a member."""
        self.abandon()
        if not self.done and (self._left or self._buffer):
            raise BadArchive("the archive ends in the middle of a file")

    def abandon(self) -> None:
        """Close what is open, without judging."""
        if self._out is not None:
            self._out.close()
            self._out = None

    def _skip(self, name: bytes, why: str) -> None:
        if len(self.problems) < 100:
            self.problems.append(f"{clean_line(name, 120)}: {why}")

    def _step(self) -> bool:
        if self._left:
            take = bytes(self._buffer[: self._left])
            if not take:
                return False
            del self._buffer[: len(take)]
            self._left -= len(take)
            self._content(take)
            return True
        if self._padding:
            take_pad = min(self._padding, len(self._buffer))
            del self._buffer[:take_pad]
            self._padding -= take_pad
            if self._padding:
                return False
        if self._out is not None:
            self._out.close()
            self._out = None
        if self._extra is not None:
            self._finish_extra()
        if len(self._buffer) < _BLOCK:
            return False
        header = bytes(self._buffer[:_BLOCK])
        del self._buffer[:_BLOCK]
        self._header(header)
        return True

    def _content(self, data: bytes) -> None:
        if self._extra is not None:
            self._extra += data
        elif self._out is not None:
            self._out.write(data)
            self.bytes += len(data)
            self.on_progress(self.bytes, self.files[-1])

    def _header(self, header: bytes) -> None:
        if not any(header):
            self.done = True
            return
        total = sum(header[:148]) + 8 * 32 + sum(header[156:])
        if _number(header[148:156]) != total:
            raise BadArchive("damaged tar header: wrong checksum")
        size, kind = _number(header[124:136]), header[156:157]
        name = header[:100].split(b"\0")[0]
        if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0")[0]):
            name = prefix + b"/" + name
        if kind in (b"L", b"K", b"x", b"g"):
            if size > _EXTRA_LIMIT:
                raise BadArchive("an extended tar header is too large")
            self._extra, self._extra_kind = bytearray(), kind
            self._expect(size)
            return
        name = self._name if self._name is not None else name
        size = self._size if self._size is not None else size
        self._name = self._size = None
        self._entries += 1
        if self._entries > MAX_FILES:
            self._skip(name, f"more than {MAX_FILES} entries")
            self.done = self.cut = True
            return
        self._member(name, kind, size, _number(header[100:108]))

    def _expect(self, size: int) -> None:
        self._left, self._padding = size, -size % _BLOCK

    def _finish_extra(self) -> None:
        assert self._extra is not None
        data, self._extra = bytes(self._extra), None
        if self._extra_kind == b"L":
            self._name = data.rstrip(b"\0")
        elif self._extra_kind == b"x":
            while data:
                length, _, rest = data.partition(b" ")
                if not length.isdigit() or not rest or not 0 < int(length[:9]) <= len(data):
                    raise BadArchive("damaged extended tar header")
                record, data = data[len(length) + 1 : int(length)], data[int(length) :]
                key, _, value = record.removesuffix(b"\n").partition(b"=")
                if key == b"path":
                    self._name = value
                elif key == b"size" and value.isdigit() and len(value) < 20:
                    self._size = int(value)
                elif key.startswith(b"GNU.sparse"):
                    raise BadArchive("the archive holds a sparse file")

    def _member(self, raw: bytes, kind: bytes, size: int, mode: int) -> None:
        # only these carry content; a size on anything else is a lie that would shift what follows
        content = kind in (b"0", b"\0", b"7", b"S")
        self._expect(size if content else 0)
        name = safe_name(raw)
        if name is None:
            if raw not in (b".", b"./"):
                self._skip(raw, "leads out of the folder")
            return
        name = "/".join(name.split("/")[self.strip :])
        if not name:
            return
        if kind == b"5" or (kind in (b"0", b"\0") and raw.endswith(b"/")):
            self._folder(name)
        elif kind not in (b"0", b"\0", b"7"):
            what = {b"1": "hard link", b"2": "symbolic link", b"S": "sparse file"}.get(kind, "device or pipe")
            self._skip(raw, f"{what}, left out")
        elif self.bytes + size > self.limit:
            self._skip(raw, "over the size limit; this and all that follows is left out")
            self.done = self.cut = True
        else:
            self._file(raw, name, mode)

    def _folder(self, name: str) -> Path | None:
        path = self.folder
        for part in name.split("/"):
            path = path / part
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                return None
            path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _file(self, raw: bytes, name: str, mode: int) -> None:
        above, _, last = name.rpartition("/")
        parent = self._folder(above) if above else self.folder
        if parent is None or (parent / last).is_dir():
            self._skip(raw, "a file and a folder have the same name")
            return
        (parent / last).unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._out = os.fdopen(os.open(parent / last, flags, 0o700 if mode & 0o100 else 0o600), "wb")
        self.files.append(name)
