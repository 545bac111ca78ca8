"""qcow2 files by the thousand: a real one, its backing file's name written over."""

from __future__ import annotations

import struct
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

SIZE = 1 << 30


@cache
def _blank() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "blank.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(SIZE)], check=True)
        return path.read_bytes()


def qcow2(path: Path, backing: str | bytes | None = None, form: str = "qcow2") -> Path:
    """A qcow2 disk on ``backing``, which need not exist."""
    data = bytearray(_blank())
    if backing is not None:
        name = backing.encode() if isinstance(backing, str) else backing
        length = struct.unpack_from(">I", data, 100)[0]
        extension = struct.pack(">II", 0xE2792ACA, len(form)) + form.encode().ljust(8, b"\0")
        data[length : length + len(extension) + 8] = extension + bytes(8)
        struct.pack_into(">QI", data, 8, 2048, len(name))
        data[2048 : 2048 + len(name)] = name
    path.write_bytes(data)
    return path


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


def add_snapshot(disk: Path, name: str, memory: int) -> None:
    """What QEMU writes of a snapshot with memory, but for the memory itself."""
    qemu_img("snapshot", "-c", name, disk)
    whole = bytearray(disk.read_bytes())
    count, at = struct.unpack_from(">IQ", whole, 60)
    for _ in range(count):
        id_len, name_len = struct.unpack_from(">HH", whole, at + 12)
        (extra,) = struct.unpack_from(">I", whole, at + 36)
        name_at = at + 40 + extra + id_len
        if whole[name_at : name_at + name_len] == name.encode():
            struct.pack_into(">I", whole, at + 32, memory)
            struct.pack_into(">Q", whole, at + 40, memory)
        at = -(-(name_at + name_len) // 8) * 8
    disk.write_bytes(whole)
