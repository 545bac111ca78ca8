"""Which files a disk file names by itself: backing file, external data file, extents. Reads headers only."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.signs import Remembered, settled, sign
from vmlab_tui.base.text import clean_line
from vmlab_tui.images.header import BadImage, formats_of, inspect
from vmlab_tui.lab.chains import file_named

_ALONE = frozenset({"raw", "iso", "luks", "vdi", "dmg", "bochs", "gzip", "xz", "zstd", "bzip2", "zip", "tar"})
"""Formats whose files name no others."""
_AGAIN = (0.05, 0.1, 0.2, 0.4)
"""Seconds after which a header that makes no sense is read once more, while the file is young."""
_QUOTED = re.compile(rb'"([^"\r\n\0]{1,1000})"')


@dataclass(frozen=True)
class Named:
    """``refs``: (how, path as QEMU would open it). ``problem``: it may name others that are not known."""

    refs: tuple[tuple[str, str], ...] = ()
    problem: str = ""


class Headers:
    """Reads what files name, and reads again only what has changed. Not for two threads at once."""

    def __init__(self) -> None:
        self._known: Remembered[Named] = Remembered()

    def begin(self) -> None:
        """Start a round."""
        self._known.begin()

    def named(self, path: str, facts: os.stat_result) -> Named:
        """What the plain file ``path`` names. Never raises."""
        return self._known.get(path, facts, lambda: _read_patiently(path, facts.st_dev))


def _read_patiently(path: str, device: int) -> Named:
    """Others make files and remove them: what is gone names nothing, what is in the making is waited for."""
    for rest in (*_AGAIN, 0.0):
        found = _read(path)
        if not found.problem:
            break
        try:
            made = sign(os.stat(path))  # noqa: PTH116  # names may be longer than a Path bears
        except FileNotFoundError:
            # unless the share went on which it lies
            return Named() if _device_above(path) == device else found
        except (OSError, ValueError):
            break
        if settled([made], time.time_ns()):
            break
        time.sleep(rest)
    return found


def _device_above(path: str) -> int | None:
    """Of the nearest folder that is there: whole directories go too."""
    while len(path) > 1:
        path = path.rpartition("/")[0] or "/"
        try:
            return os.stat(path).st_dev  # noqa: PTH116
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            break
    return None


def _read(path: str) -> Named:
    try:
        formats, head = formats_of(Path(path))
    except BadImage as error:
        return Named(problem=clean_line(error.message.removeprefix(f"{path}: "), 200))
    if not set(formats) - _ALONE:
        return Named()
    if "vmdk" in formats and b"# disk descriptorfile" in head.lower():
        refs = [("extent", os.fsdecode(name)) for name in _QUOTED.findall(head)]
        return Named(tuple((how, full) for how, name in refs for full in _places(path, name)))
    if "qcow2" not in formats:
        return Named(problem=f"it is {' or '.join(formats)}, which may name other files")
    try:
        header = inspect(Path(path))
    except BadImage as error:
        return Named(problem=clean_line(error.message.removeprefix(f"{path}: "), 200))
    refs = []
    for how, raw in (("backing file", header.backing_name), ("data file", header.data_name)):
        if raw is not None:
            refs += [(how, full) for name in names_in(raw) for full in _places(path, name)]
    return Named(tuple(dict.fromkeys(refs)))


def names_in(raw: bytes) -> Iterator[str]:
    """The file names in a reference as QEMU writes them: a path, ``file:...``, or a ``json:`` description."""
    if raw.startswith(b"json:"):
        try:
            yield from _strings(json.loads(raw[5:]))
        except (ValueError, RecursionError):
            yield from (os.fsdecode(name) for name in _QUOTED.findall(raw))
        return
    name = os.fsdecode(raw)
    for prefix in ("file://", "file:"):
        if name.startswith(prefix):
            yield name.removeprefix(prefix)
            return
    yield name


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str) and value:
        yield value


def _places(path: str, name: str) -> Iterator[str]:
    """Where ``name`` in ``path`` leads: QEMU starts from the name it was given, libvirt resolves first."""
    for above in dict.fromkeys((path, os.path.realpath(path))):
        if (full := file_named(os.fsencode(name), above)) is not None:
            yield full
