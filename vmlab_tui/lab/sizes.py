"""How many bytes really come back when files go: holes, further names and shared blocks are not counted."""

from __future__ import annotations

import array
import fcntl
import os
import struct
from collections.abc import Mapping

from vmlab_tui.base.paths import used_bytes

_FIEMAP = 0xC020660B
_SHARED, _LAST = 0x2000, 0x1
_EXTENTS = 256
_SHARING: dict[int, bool] = {}
"""By device: whether files there can share blocks at all."""


def comes_back(files: Mapping[str, os.stat_result]) -> int:
    """Bytes on the disk that are free once all of ``files`` are gone.

    A file that has another name beside these frees nothing; blocks shared with other files are not counted.
    """
    by_inode: dict[tuple[int, int], list[str]] = {}
    facts: dict[tuple[int, int], os.stat_result] = {}
    for path, one in files.items():
        if os.path.islink(path):  # noqa: PTH114
            continue
        by_inode.setdefault((one.st_dev, one.st_ino), []).append(path)
        facts[one.st_dev, one.st_ino] = one
    total = 0
    for ident, paths in by_inode.items():
        one = facts[ident]
        if one.st_nlink <= len(paths):
            total += max(0, used_bytes(one) - (shared_bytes(paths[0]) if _can_share(one.st_dev) else 0))
    return total


def _can_share(device: int) -> bool:
    if device not in _SHARING:
        kind = ""
        with open("/proc/self/mountinfo") as lines:  # noqa: PTH123
            for line in lines:
                words = line.split()
                major, minor = words[2].split(":")
                if os.makedev(int(major), int(minor)) == device:
                    kind = words[words.index("-") + 1]
        # a file system that is not known to be without it is asked
        _SHARING[device] = kind not in ("ext4", "ext3", "ext2", "tmpfs")
    return _SHARING[device]


def shared_bytes(path: str) -> int:
    """Bytes of a file's blocks that other files use as well; 0 where the file system cannot tell."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _shared(handle)
    except OSError:
        return 0
    finally:
        os.close(handle)


def _shared(handle: int) -> int:
    total, start = 0, 0
    while True:
        head = struct.pack("=QQIIII", start, 2**64 - 1 - start, 0, 0, _EXTENTS, 0)
        data = array.array("B", head + bytes(56 * _EXTENTS))
        fcntl.ioctl(handle, _FIEMAP, data)
        count = struct.unpack_from("=I", data, 20)[0]
        if not count:
            return total
        flags = 0
        for at in range(count):
            logical, _, length, _, _, flags = struct.unpack_from("=QQQQQI", data, 32 + 56 * at)
            total += length if flags & _SHARED else 0
            start = logical + length
        if flags & _LAST:
            return total
