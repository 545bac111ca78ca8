"""Knowing by its signature that a file is still what was read of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Sign = tuple[int, int, int, int, int]

SETTLED = 2_000_000_000
"""Nanoseconds after which a file's time tells of every change: clocks of file systems are coarse."""
_LOCAL = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "tmpfs", "overlay", "vfat", "exfat")
)
"""File systems that only this machine changes. Of a share the times may be those of a while ago."""


def sign(facts: os.stat_result) -> Sign:
    """What changes when a file does."""
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def settled(signs: Iterable[Sign], began: int) -> bool:
    """Whether files of these signatures were left alone for so long before ``began`` (nanoseconds since 1970)
    that a change after it gives them another signature. The time of change cannot be set by hand."""
    return all(max(one[3], one[4]) + SETTLED < began for one in signs)


def file_systems() -> dict[int, str]:
    """The kind of file system by device, as this process sees them."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        major, minor = words[2].split(":")
        found[os.makedev(int(major), int(minor))] = words[words.index("-") + 1]
    return found


class Remembered(Generic[T]):
    """What was read of files, by path, as long as their signatures stay. Not for two threads at once."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Sign, T]] = {}
        self._before: dict[str, tuple[Sign, T]] = {}
        self._kinds: dict[int, str] = {}

    def begin(self) -> None:
        """Start a round; what the last one did not ask for is forgotten."""
        self._before, self._held = self._held, {}
        self._kinds = file_systems()

    def get(self, path: str, facts: os.stat_result, read: Callable[[], T]) -> T:
        """``read()``, or what it gave before. ``facts`` are of ``path``, and of now."""
        signed = sign(facts)
        held = self._held.get(path) or self._before.get(path)
        if held is None or held[0] != signed:
            began = time.time_ns()
            held = signed, read()
            if not settled([signed], began) or self._kinds.get(facts.st_dev) not in _LOCAL:
                self._held.pop(path, None)
                return held[1]
        self._held[path] = held
        return held[1]
