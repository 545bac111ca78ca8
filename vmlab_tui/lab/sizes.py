"""How many bytes really come back when files go: holes, further names and shared blocks are not counted."""

from __future__ import annotations

import array
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vmlab_tui.base.paths import used_bytes
from vmlab_tui.base.signs import file_systems

_FIEMAP = 0xC020660B
_SHARED, _LAST = 0x2000, 0x1
_EXTENTS = 256
_SHARING: dict[int, bool] = {}
"""By device: whether files there can share blocks at all."""


@dataclass(frozen=True)
class Shared:
    """A file that is not one thing's alone: it has names elsewhere, or blocks that other files use as well.

    ``names``: its paths in the thing, of ``links`` in all; ``own``: bytes that its last name takes along, 0
    where they come back with the thing in any case; ``extents``: its shared blocks as (first byte, bytes) on
    the device.
    """

    ident: tuple[int, int]
    names: frozenset[str]
    links: int
    own: int = 0
    extents: tuple[tuple[int, int], ...] = ()


def weigh(files: Mapping[str, os.stat_result]) -> tuple[int, tuple[Shared, ...]]:
    """Bytes on the disk that nobody else uses, and those of ``files`` that are shared."""
    by_inode: dict[tuple[int, int], list[str]] = {}
    facts: dict[tuple[int, int], os.stat_result] = {}
    for path, one in files.items():
        if os.path.islink(path):  # noqa: PTH114
            continue
        by_inode.setdefault((one.st_dev, one.st_ino), []).append(path)
        facts[one.st_dev, one.st_ino] = one
    total = 0
    found = []
    for ident, paths in by_inode.items():
        one = facts[ident]
        extents = shared_extents(paths[0]) if _can_share(one.st_dev) else ()
        own = max(0, used_bytes(one) - sum(length for _, length in extents))
        elsewhere = one.st_nlink > len(paths)
        if not elsewhere:
            total += own
        if elsewhere or extents:
            found.append(Shared(ident, frozenset(paths), one.st_nlink, own if elsewhere else 0, extents))
    return total, tuple(found)


def together(going: Iterable[Shared], staying: Iterable[Shared] = ()) -> int:
    """Bytes that come back because all of ``going`` go at once, beyond what each brings back alone.

    A block comes back when at least two that go use it and none that is known to stay: how many use it no
    file system tells, so one that only a single one of them uses has a user that is not known.
    """
    names: dict[tuple[int, int], set[str]] = {}
    files: dict[tuple[int, int], Shared] = {}
    for one in going:
        names.setdefault(one.ident, set()).update(one.names)
        files[one.ident] = one
    gone = {ident for ident, one in files.items() if len(names[ident]) >= one.links}
    kept = {ident: one for ident, one in files.items() if ident not in gone}
    kept |= {one.ident: one for one in staying if one.ident not in gone}
    # by device, where a user of blocks begins or ends: (byte, change of those that go, of those that stay)
    edges: dict[int, list[tuple[int, int, int]]] = {}
    for one in (files[ident] for ident in gone):
        for start, length in one.extents:
            edges.setdefault(one.ident[0], []).extend([(start, 1, 0), (start + length, -1, 0)])
    for one in kept.values():
        for start, length in one.extents:
            edges.setdefault(one.ident[0], []).extend([(start, 0, 1), (start + length, 0, -1)])
    total = sum(files[ident].own for ident in gone)
    for places in edges.values():
        go = stay = last = 0
        for at, more, others in sorted(places):
            if go > 1 and not stay:
                total += at - last
            go, stay, last = go + more, stay + others, at
    return total


def comes_back(files: Mapping[str, os.stat_result]) -> int:
    """Bytes on the disk that are free once all of ``files`` are gone.

    A file that has another name beside these frees nothing; blocks shared with other files are not counted.
    """
    alone, shared = weigh(files)
    return alone + together(shared)


def _can_share(device: int) -> bool:
    if device not in _SHARING:
        # a file system that is not known to be without it is asked
        _SHARING[device] = file_systems().get(device) not in ("ext4", "ext3", "ext2", "tmpfs")
    return _SHARING[device]


def shared_extents(path: str) -> tuple[tuple[int, int], ...]:
    """A file's blocks that other files use as well, as (first byte, bytes) on the device.

    Empty where the file system cannot tell.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        return tuple(_shared(handle))
    except OSError:
        return ()
    finally:
        os.close(handle)


def _shared(handle: int) -> Iterator[tuple[int, int]]:
    start = 0
    while True:
        head = struct.pack("=QQIIII", start, 2**64 - 1 - start, 0, 0, _EXTENTS, 0)
        data = array.array("B", head + bytes(56 * _EXTENTS))
        fcntl.ioctl(handle, _FIEMAP, data)
        count = struct.unpack_from("=I", data, 20)[0]
        if not count:
            return
        flags = 0
        for at in range(count):
            logical, physical, length, _, _, flags = struct.unpack_from("=QQQQQI", data, 32 + 56 * at)
            if flags & _SHARED:
                yield physical, length
            start = logical + length
        if flags & _LAST:
            return
