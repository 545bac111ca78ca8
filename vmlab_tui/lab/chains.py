"""Backing chains as the files themselves tell them, read in-process and within bounds.

What a header names is untrusted: it may be missing, lead in circles, be a device or a pipe. Nothing is
opened but plain files of a disk's size, and never the content of a raw disk, which belongs to its guest.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path

from vmlab_tui.base.paths import used_bytes
from vmlab_tui.base.signs import Sign, settled, sign
from vmlab_tui.base.text import clean_line
from vmlab_tui.images.header import BadImage, Header, inspect

MAX_DEPTH = 64
"""Files in one chain; libvirt itself gives up at 200."""


@dataclass(frozen=True)
class DiskNode:
    """One file of a chain. Sizes in bytes, None where unknown; ``used`` is what it takes on the disk."""

    path: Path
    format: str
    virtual: int | None
    used: int | None
    problem: str = ""
    """Why the chain is not known beyond this file; empty at its proper end."""
    saved: tuple[tuple[str, int], ...] = ()
    """The internal snapshots in it, with the bytes of memory that each holds."""


@dataclass(frozen=True)
class _Look:
    node: DiskNode
    ident: tuple[int, int] | None
    backing: str | None
    backing_format: str


class ChainReader:
    """Reads chains; asks for :meth:`begin` before each round and opens only what has changed since.

    Not for two threads at once.
    """

    def __init__(self) -> None:
        pseudo = (Path(name) for name in ("/proc", "/sys", "/dev"))
        self._pseudo = {path.stat().st_dev for path in pseudo if path.exists()}
        self._headers: dict[str, tuple[Sign, Header]] = {}
        self._looks: dict[tuple[str, str], _Look] = {}
        self._seen: set[str] = set()

    def begin(self, *, whole: bool = True) -> None:
        """Start a round: every file is looked at once in it, however many chains it is in.

        ``whole``: of all chains, so that what was in none since the last such round can be forgotten.
        """
        self._seen |= {path for path, _ in self._looks}
        if whole:
            self._headers = {path: held for path, held in self._headers.items() if path in self._seen}
            self._seen = set()
        self._looks = {}

    def chain(self, path: str, form: str) -> tuple[DiskNode, ...]:
        """The files from ``path`` (of the format ``form``, by its domain's XML) down to the base.

        Never raises: what is wrong stands in the last node's ``problem``. Blocks on the file system.
        """
        nodes: list[DiskNode] = []
        been: set[tuple[int, int]] = set()
        at: str | None = path
        while at is not None:
            look = self._looks.get((at, form))
            if look is None:
                look = self._looks[at, form] = self._look(at, form)
            node = look.node
            if look.ident in been:
                node = _with(node, "it stands on itself: the chain goes in a circle")
            elif len(nodes) >= MAX_DEPTH - 1 and look.backing is not None:
                node = _with(node, f"the chain has more than {MAX_DEPTH} files")
            nodes.append(node)
            if node.problem:
                break
            if look.ident:
                been.add(look.ident)
            at, form = look.backing, look.backing_format
        return tuple(nodes)

    def _look(self, path: str, form: str) -> _Look:
        shown = Path(path)
        if not path.startswith("/"):
            return _Look(DiskNode(shown, form, None, None, "not a file's absolute path"), None, None, "")
        try:
            facts = shown.stat()
        except FileNotFoundError:
            return _Look(DiskNode(shown, form, None, None, "the file is missing"), None, None, "")
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            return _Look(DiskNode(shown, form, None, None, f"cannot be read: {why}"), None, None, "")
        ident = facts.st_dev, facts.st_ino
        if stat.S_ISBLK(facts.st_mode):
            return _Look(DiskNode(shown, form or "raw", None, None), ident, None, "")
        used = used_bytes(facts)
        if not stat.S_ISREG(facts.st_mode) or facts.st_dev in self._pseudo:
            return _Look(DiskNode(shown, form, None, None, "not a plain file"), ident, None, "")
        if form in ("raw", "iso", "luks"):
            return _Look(DiskNode(shown, form, facts.st_size, used), ident, None, "")
        if form not in ("qcow2", "probe"):
            return _Look(DiskNode(shown, form, None, used), ident, None, "")
        if facts.st_size < 512:
            return _Look(DiskNode(shown, form, None, used, "too short for a disk"), ident, None, "")
        try:
            header = self._header(path, facts)
        except BadImage as error:
            why = clean_line(error.message.removeprefix(f"{path}: "), 300)
            return _Look(DiskNode(shown, form, None, used, why), ident, None, "")
        problem, backing = "", None
        if form == "qcow2" and header.format != "qcow2":
            problem = f"it should be qcow2 and is {header.format}"
        elif header.backing_name is not None:
            backing = file_named(header.backing_name, path)
            if backing is None:
                problem = f"it stands on something that is not a file: {header.backing}"
        node = DiskNode(shown, header.format, header.virtual_size, used, problem, header.saved)
        return _Look(node, ident, backing, header.backing_format or "probe")

    def _header(self, path: str, facts: os.stat_result) -> Header:
        signed = sign(facts)
        held = self._headers.get(path)
        if held and held[0] == signed:
            return held[1]
        began = time.time_ns()
        header = inspect(Path(path))
        if settled([signed], began):
            self._headers[path] = signed, header
        return header


def _with(node: DiskNode, problem: str) -> DiskNode:
    return replace(node, problem=problem)


def file_named(raw: bytes, above: str) -> str | None:
    """The path that a backing file's name means in the file ``above``; None if it is no file's."""
    name = os.fsdecode(raw)
    if re.match(r"[^:/]*:", name):  # as QEMU tells a protocol from a path
        if not name.startswith("file:"):
            return None
        name = name.removeprefix("file:")
    return os.path.join(os.path.dirname(above), name)  # noqa: PTH118, PTH120  # Path would fold '..'
