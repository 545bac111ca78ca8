"""What a disk file says it is, read by ourselves before any other program opens it.

A disk image from elsewhere may name other files (a backing file, an external data file, VMDK extents), which
QEMU would open with its own rights. So nothing is handed to QEMU that has not been looked at here, and a file
that two formats could claim is nobody's.

Layout of qcow2: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.text import clean_line

QCOW2_MAGIC = b"QFI\xfb"
MAX_VIRTUAL = 1 << 46
"""64 TiB: beyond any lab's disk; a header that claims more is a trap for whoever allocates tables."""

_HEAD = 72 * 1024
"""Bytes read from the start: covers every signature below (the farthest is btrfs at 64 KiB + 64)."""

_TABLE = 1 << 18
"""Bytes of a snapshot table that are read: some 2,000 snapshots."""
_ENTRY = struct.Struct(">QIHHIIQII")

_EXT_BACKING_FORMAT = 0xE2792ACA
_EXT_DATA_FILE = 0x44415441
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2


class BadImage(UsageError):
    """The file is not a disk image that we take."""


@dataclass(frozen=True)
class Header:
    """What the header says. Sizes in bytes; ``backing`` and ``data_file`` are untrusted text, cleaned.

    ``raw`` has only a format and a size. For qcow2, ``file_size`` is what the file has, not what it needs.
    """

    format: str
    virtual_size: int
    file_size: int
    backing: str | None = None
    backing_format: str | None = None
    backing_name: bytes | None = None
    """The backing file's name as it is written there: to follow, never to show."""
    data_file: str | None = None
    data_name: bytes | None = None
    """The external data file's name as it is written there: to follow, never to show."""
    encrypted: bool = False
    snapshots: int = 0
    dirty: bool = False
    corrupt: bool = False
    version: int = 0
    cluster_size: int = 0
    saved: tuple[tuple[str, int], ...] = ()
    """For each internal snapshot its name (untrusted) and the bytes of memory that it holds."""


@dataclass(frozen=True)
class _Look:
    """The parts of a file that signatures are looked for in."""

    head: bytes
    tail: bytes
    size: int

    def at(self, offset: int, magic: bytes) -> bool:
        return self.head[offset : offset + len(magic)] == magic


def _descriptor(look: _Look) -> bool:
    text = look.head[:4096].lower()
    return b"# disk descriptorfile" in text or (b"createtype=" in text and b"extent" in text)


_FORMATS: dict[str, Callable[[_Look], bool]] = {
    "qcow2": lambda look: look.at(0, QCOW2_MAGIC),
    "vmdk": lambda look: look.at(0, b"KDMV") or look.at(0, b"COWD") or _descriptor(look),
    "vdi": lambda look: look.at(0x40, b"\x7f\x10\xda\xbe"),
    "vhdx": lambda look: look.at(0, b"vhdxfile"),
    "vhd": lambda look: look.at(0, b"conectix") or look.tail[-512:].startswith(b"conectix"),
    "qed": lambda look: look.at(0, b"QED\0"),
    "luks": lambda look: look.at(0, b"LUKS\xba\xbe"),
    "parallels": lambda look: look.at(0, b"WithoutFreeSpace") or look.at(0, b"WithouFreSpacExt"),
    "bochs": lambda look: look.at(0, b"Bochs Virtual HD Image"),
    "dmg": lambda look: look.tail[-512:].startswith(b"koly"),
    "iso": lambda look: look.at(32769, b"CD001"),
    "gzip": lambda look: look.at(0, b"\x1f\x8b"),
    "xz": lambda look: look.at(0, b"\xfd7zXZ\0"),
    "zstd": lambda look: look.at(0, b"\x28\xb5\x2f\xfd"),
    "bzip2": lambda look: look.at(0, b"BZh"),
    "zip": lambda look: look.at(0, b"PK\x03\x04"),
    "tar": lambda look: look.at(257, b"ustar"),
    "raw": lambda look: (
        look.at(510, b"\x55\xaa")  # MBR, or a boot sector
        or look.at(512, b"EFI PART")
        or look.at(4096, b"EFI PART")
        or look.at(1080, b"\x53\xef")  # ext2, ext3, ext4
        or look.at(0, b"XFSB")
        or look.at(0x10040, b"_BHRfS_M")
        or look.at(512, b"LABELONE")
    ),
}

_ADVICE = {
    "iso": "it is an installation medium, not a disk",
    **dict.fromkeys(("gzip", "xz", "zstd", "bzip2"), "unpack it first"),
    **dict.fromkeys(("zip", "tar"), "it is an archive; unpack it and add the disk inside"),
    "luks": "an encrypted disk cannot be a base image",
}
_CONVERT = (
    "convert it with: qemu-img convert -f {format} -O qcow2 FILE disk.qcow2, if you trust where it comes from"
)


def inspect(path: Path) -> Header:
    """The header of a qcow2 or raw disk.

    Raises BadImage for anything else: not a plain file, another format (named), none that can be told, two at
    once, or a qcow2 header that is cut off, contradicts itself, or uses features that we do not know.
    """
    with _open(path) as file:
        look = _look(file)
        head, size = look.head, look.size
        found = [name for name, matches in _FORMATS.items() if matches(look)]
        if not found:
            raise BadImage(
                f"{path}: no disk format can be told from its content",
                hint="a blank raw disk is not an image; convert others to qcow2 with qemu-img",
            )
        if len(found) > 1:
            raise BadImage(
                f"{path}: it could be {' or '.join(found)}; what two formats claim is not opened",
                hint="convert it to qcow2 where it was made",
            )
        if found[0] == "qcow2":
            header, snapshots_at = _qcow2(path, head, size)
            return replace(header, saved=_saved(file, header.snapshots, snapshots_at))
    if found[0] != "raw":
        hint = _ADVICE.get(found[0]) or _CONVERT.format(format={"vhd": "vpc"}.get(found[0], found[0]))
        raise BadImage(f"{path}: this is {found[0]}; images are qcow2 or raw", hint=hint)
    if size % 512:
        raise BadImage(f"{path}: {size} bytes are not whole sectors: cut off?", hint="fetch it again")
    return Header("raw", size, size)


def formats_of(path: Path) -> tuple[list[str], bytes]:
    """The formats that a file could be by its content, and its first bytes.

    Raises BadImage for what cannot be opened or is no plain file.
    """
    with _open(path) as file:
        look = _look(file)
        return [name for name, matches in _FORMATS.items() if matches(look)], look.head


def _look(file: BinaryIO) -> _Look:
    head = file.read(_HEAD)
    # asked afterwards: a disk that is in use grows, and its header names what lies at its end
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - 512))
    return _Look(head, file.read(512), size)


def _open(path: Path) -> BinaryIO:
    try:
        # not blocking on a FIFO; what is opened is what is judged
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadImage(f"{path}: {error.strerror}", hint="give the path of a disk image") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadImage(f"{path}: not a plain file", hint="give the path of a disk image")
    return os.fdopen(handle, "rb")


def _qcow2(path: Path, head: bytes, size: int) -> tuple[Header, int]:
    """The header, and where the snapshot table begins."""

    def bad(why: str) -> BadImage:
        return BadImage(f"{path}: qcow2 header: {why}", hint="fetch or make the file again")

    if len(head) < 72:
        raise bad("cut off")
    (
        _,
        version,
        backing_at,
        backing_len,
        cluster_bits,
        virtual,
        crypt,
        l1_size,
        l1_at,
        ref_at,
        ref_clusters,
        snapshots,
        snapshots_at,
    ) = struct.unpack(">4sIQIIQIIQQIIQ", head[:72])
    incompatible, length = 0, 72
    if version == 3:
        if len(head) < 104:
            raise bad("cut off")
        incompatible, _, _, refcount_order, length = struct.unpack(">QQQII", head[72:104])
        if length < 104 or length % 8:
            raise bad(f"length {length}")
        if refcount_order > 6:
            raise bad(f"refcount order {refcount_order}")
    elif version != 2:
        raise bad(f"version {version} is not known (2 and 3 are)")
    if not 9 <= cluster_bits <= 21:
        raise bad(f"cluster bits {cluster_bits}")
    cluster = 1 << cluster_bits
    if length > cluster:
        raise bad(f"length {length} is beyond the first cluster")
    if incompatible & ~_KNOWN:
        raise bad(f"features {incompatible & ~_KNOWN:#x} are not known")
    if virtual > MAX_VIRTUAL:
        raise bad(f"a disk of {virtual} bytes")
    if crypt > 2:
        raise bad(f"encryption method {crypt}")
    _tables(
        bad, size, cluster, extended=bool(incompatible & _EXTENDED_L2), l1=(l1_at, l1_size), virtual=virtual
    )
    if not ref_at or ref_at % cluster or ref_at + ref_clusters * cluster > size or not ref_clusters:
        raise bad("its reference counts are outside the file: cut off?")
    if snapshots and (snapshots_at % cluster or not 0 < snapshots_at < size or snapshots > 65536):
        raise bad("its snapshot table is outside the file")
    backing = _backing(bad, head, backing_at, backing_len, cluster)
    extensions = _extensions(bad, head[: min(cluster, backing_at or cluster)], length)
    data_file = None
    if incompatible & _DATA_FILE or _EXT_DATA_FILE in extensions:
        data_file = clean_line(extensions.get(_EXT_DATA_FILE, b"")) or "(not named)"
    form = extensions.get(_EXT_BACKING_FORMAT)
    header = Header(
        "qcow2",
        virtual,
        size,
        backing=None if backing is None else clean_line(backing) or "(not readable)",
        backing_name=backing,
        backing_format=clean_line(form) if form is not None else None,
        data_file=data_file,
        data_name=extensions.get(_EXT_DATA_FILE) if data_file is not None else None,
        encrypted=bool(crypt),
        snapshots=snapshots,
        dirty=bool(incompatible & _DIRTY),
        corrupt=bool(incompatible & _CORRUPT),
        version=version,
        cluster_size=cluster,
    )
    return header, snapshots_at


def _saved(file: BinaryIO, count: int, at: int) -> tuple[tuple[str, int], ...]:
    """The snapshot table, as far as it makes sense: QEMU may be writing another one."""
    found: list[tuple[str, int]] = []
    if not count:
        return ()
    file.seek(at)
    table = file.read(_TABLE)
    at = 0
    while len(found) < count and at + _ENTRY.size <= len(table):
        _, _, id_len, name_len, _, _, _, state, extra = _ENTRY.unpack_from(table, at)
        more = at + _ENTRY.size
        name_at = more + extra + id_len
        if name_at + name_len > len(table):
            break
        if extra >= 8:
            (state,) = struct.unpack_from(">Q", table, more)
        found.append((table[name_at : name_at + name_len].decode(errors="replace"), state))
        at = -(-(name_at + name_len) // 8) * 8
    return tuple(found)


def _tables(
    bad: Callable[[str], BadImage],
    size: int,
    cluster: int,
    *,
    extended: bool,
    l1: tuple[int, int],
    virtual: int,
) -> None:
    """The first-level table must lie in the file and cover the disk."""
    at, entries = l1
    covers = cluster * (cluster // (16 if extended else 8))
    if entries < -(-virtual // covers):
        raise bad("its first-level table is too short for the disk")
    if entries and (not at or at % cluster or at + entries * 8 > size):
        raise bad("its first-level table is outside the file: cut off?")


def _backing(bad: Callable[[str], BadImage], head: bytes, at: int, length: int, cluster: int) -> bytes | None:
    if not at and not length:
        return None
    if not at or not 0 < length <= 1023 or at + length > min(cluster, len(head)):
        raise bad("its backing file's name is outside the header")
    return head[at : at + length]


def _extensions(bad: Callable[[str], BadImage], area: bytes, at: int) -> dict[int, bytes]:
    """Header extensions by type; they end with type 0 or where the area ends."""
    found: dict[int, bytes] = {}
    while at + 8 <= len(area):
        kind, length = struct.unpack(">II", area[at : at + 8])
        if kind == 0:
            break
        if at + 8 + length > len(area):
            raise bad("an extension reaches beyond the header")
        if kind in found:
            raise bad(f"extension {kind:#x} comes twice")
        found[kind] = area[at + 8 : at + 8 + length]
        at += 8 + -(-length // 8) * 8
    return found


def check_importable(path: Path, header: Header) -> None:
    """Raise BadImage unless the disk stands alone and is whole: no file elsewhere, no encryption."""
    if header.backing is not None:
        raise BadImage(
            f"{path}: it stands on another file, '{header.backing}'",
            hint=f"make one file of both, if you trust both: qemu-img convert -O qcow2 {path} whole.qcow2",
        )
    if header.data_file is not None:
        raise BadImage(
            f"{path}: its data lie in another file, '{header.data_file}'",
            hint=f"make one file of both, if you trust both: qemu-img convert -O qcow2 {path} whole.qcow2",
        )
    if header.encrypted:
        raise BadImage(f"{path}: it is encrypted", hint="an encrypted disk cannot be a base image")
    if header.dirty or header.corrupt:
        what = "marked as corrupt" if header.corrupt else "not closed properly (or in use)"
        raise BadImage(f"{path}: it is {what}", hint=f"look at it with: qemu-img check {path}")
    if not header.virtual_size:
        raise BadImage(f"{path}: a disk of no size", hint="fetch it again")
