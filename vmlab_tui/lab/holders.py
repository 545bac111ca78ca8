"""Who has a file open or locked right now: processes, loop devices, locks. Asks /proc and /sys."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import stat
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Ident = tuple[int, int]
"""Device and inode."""

_UUID = re.compile(rb"\0-uuid\0([0-9a-f-]{36})\0")


@dataclass(frozen=True)
class Holder:
    """One file held. ``who`` in words; ``vm``: uuid of the VM whose QEMU it is; ``log``: libvirt's logger."""

    ident: Ident
    who: str
    vm: str = ""
    log: bool = False


@dataclass(frozen=True)
class Holders:
    """``hidden``: how many processes there are whose files we may not see."""

    found: tuple[Holder, ...]
    hidden: int = 0


def who_holds(wanted: Container[Ident]) -> Holders:
    """Everybody who has one of the ``wanted`` files open or locked; this process itself left out."""
    found: dict[Holder, None] = {}
    hidden = 0
    for name in os.listdir("/proc"):  # noqa: PTH208  # names
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            idents = {one for one in _open_files(name) if one in wanted}
        except PermissionError:
            # a container's first process may be closed even to root; an init holds no disks. What has just
            # ended is closed as well
            hidden += name != "1" and _lives(name)
            continue
        except OSError:
            continue  # gone meanwhile
        if idents:
            who, vm, log = _about(name)
            found |= dict.fromkeys(Holder(ident, who, vm, log) for ident in idents)
    held = {holder.ident for holder in found}
    for ident in set(_locks()) - held:
        if ident in wanted:
            found[Holder(ident, "a process that locks it")] = None
    for device, ident in _loops():
        if ident in wanted:
            found[Holder(ident, f"the loop device {device}")] = None
    return Holders(tuple(found), hidden)


@dataclass(frozen=True)
class Word:
    """What the kernel says of some files: ``busy`` are in use; it vouches for the others if ``sure``."""

    busy: frozenset[Ident] = frozenset()
    sure: bool = True

    @property
    def free(self) -> bool:
        return self.sure and not self.busy


def ask_kernel(files: Mapping[str, os.stat_result]) -> Word:
    """Whether these plain files are in use; much cheaper than :func:`who_holds` for a few, and no names.

    It gives a write lease only on a file that is open nowhere else (fcntl(2), F_SETLEASE): by no process, of
    whatever user, no mapping and no loop device. It is not sure where it gives none: not ours, or a share.
    """
    busy: set[Ident] = set()
    sure = True
    for path, facts in files.items():
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            sure = False
            continue
        try:
            now = os.fstat(handle)
            if (now.st_dev, now.st_ino) != (facts.st_dev, facts.st_ino) or not stat.S_ISREG(now.st_mode):
                sure = False
                continue
            # whoever opens it in this instant waits until it is given back; of the signal that would tell us
            # so nothing is wanted, and this one does nothing
            fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            busy.add((facts.st_dev, facts.st_ino))
        except OSError:
            sure = False
        finally:
            os.close(handle)
    if busy:
        busy -= set(_open_files("self"))  # as when the same program shows a log
    return Word(frozenset(busy), sure)


def _open_files(pid: str) -> Iterator[Ident]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):  # noqa: PTH208
        with suppress(FileNotFoundError, ProcessLookupError):
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
            if target.startswith(("socket:", "pipe:", "anon_inode:", "/dev/")):
                continue
            facts = os.stat(f"{folder}/{name}")  # noqa: PTH116  # thousands of them
            if stat.S_ISREG(facts.st_mode):
                yield facts.st_dev, facts.st_ino


def _lives(pid: str) -> bool:
    """Whether it is still there, and no zombie; see proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _about(pid: str) -> tuple[str, str, bool]:
    name, line = "?", b""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    uuid = _UUID.search(line)
    return f"{name} (pid {pid})", uuid[1].decode() if uuid else "", name in ("virtlogd", "libvirtd")


def _locks() -> Iterator[Ident]:
    """Files with a POSIX, OFD or flock lock; of OFD locks the kernel does not say whose they are."""
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            if found := re.search(r" ([0-9a-f]+):([0-9a-f]+):([0-9]+) ", line):
                yield os.makedev(int(found[1], 16), int(found[2], 16)), int(found[3])


def _loops() -> Iterator[tuple[str, Ident]]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            facts = Path(path.read_text().rstrip("\n")).stat()
            yield path.parent.parent.name, (facts.st_dev, facts.st_ino)
