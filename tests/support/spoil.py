"""Damages the memory that a snapshot holds in a qcow2, so that nothing can load it."""

from __future__ import annotations

import struct
from pathlib import Path

_PLACE = 0x00FFFFFFFFFFFE00
_MAGIC = b"QEVM"


def spoil_memory(disk: Path, snapshot: str) -> None:
    """Write over the magic number of the memory of ``snapshot``; QEMU may have the disk open."""
    at = _memory_of(disk, snapshot)
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(b"gone")


def cut_memory(disk: Path, snapshot: str) -> None:
    """End the file where the memory of ``snapshot``, the newest one, begins; QEMU may have it open."""
    with disk.open("r+b") as file:
        file.truncate(_memory_of(disk, snapshot))


def _memory_of(disk: Path, snapshot: str) -> int:
    """Where in the file the memory of ``snapshot`` begins."""
    with disk.open("rb") as file:

        def words(at: int, count: int) -> tuple[int, ...]:
            file.seek(at)
            return struct.unpack(f">{count}Q", file.read(8 * count))

        file.seek(0)
        head = file.read(72)
        bits, virtual = struct.unpack(">IQ", head[20:32])
        count, at = struct.unpack(">IQ", head[60:72])
        tables = 1 << (bits - 3)  # entries of a second-level table
        index = -(-virtual // (tables << bits))  # the memory begins where the disk ends
        for _ in range(count):
            file.seek(at)
            l1, _, id_len, name_len, *_, extra = struct.unpack(">QIHHIIQII", file.read(40))
            file.seek(extra + id_len, 1)
            name = file.read(name_len).decode()
            if name == snapshot:
                (l2,) = words(l1 + 8 * index, 1)
                (cluster,) = words(l2 & _PLACE, 1)
                file.seek(cluster & _PLACE)
                assert file.read(4) == _MAGIC
                return cluster & _PLACE
            at += -(-(40 + extra + id_len + name_len) // 8) * 8
    raise AssertionError(f"{disk} has no snapshot {snapshot}")
