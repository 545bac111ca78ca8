"""What this machine has that a test might leave behind: taken before and after the suite."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.paths import Store
from vmlab_tui.lab import ports

URI = "qemu:///system"
MARK = "VMLAB_TEST_SESSION"
"""Set for the session, so that every process a test starts, however detached, can be known by it."""


@dataclass(frozen=True)
class World:
    """Everything that must be the same after the suite; each set holds lines for a person."""

    domains: frozenset[str]
    processes: frozenset[str]
    listening: frozenset[str]
    mounts: frozenset[str]
    loops: frozenset[str]
    files: frozenset[str]

    def more_than(self, before: World) -> list[str]:
        """What is here and was not ``before``."""
        return [
            f"{kind}: {thing}"
            for kind, here in vars(self).items()
            for thing in sorted(here - getattr(before, kind))
        ]


def _domains() -> Iterator[str]:
    listed = subprocess.run(
        ["virsh", "-q", "-c", URI, "list", "--all", "--uuid", "--name"], capture_output=True, text=True
    )
    yield from (line.strip() for line in listed.stdout.splitlines() if line.strip())


def own_processes() -> list[str]:
    """Living processes, however detached, that a test of this session started."""
    return sorted(line for line, ours in _processes(f"{MARK}={os.environ.get(MARK, '-')}") if ours)


def end_workers(store: Store) -> list[str]:
    """Kill what works on ``store`` and has not ended within ten seconds: a failed test leaves runs going."""
    mark = f"VMLAB_STORE={store.root}"
    for _ in range(50):
        left = sorted(line for line, ours in _processes(mark) if ours)
        if not left:
            return []
        time.sleep(0.2)
    for line in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
    return left


def _processes(mark: str) -> Iterator[tuple[str, bool]]:
    """What lives, as a line, and whether ``mark`` is in its environment; without only QEMU and dnsmasq."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            ours = f"{mark}\0".encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        if words and (ours or re.match(r"\S*(qemu-system|dnsmasq)", words)):
            yield f"{folder.name} {words[:160].strip()}", ours


def _listening() -> Iterator[str]:
    """TCP ports of the registry's range on which a process that can be seen from here listens."""
    own = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            own.add(str(link.readlink()))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        port = int(fields[1].rpartition(":")[2], 16)
        if fields[3] == "0A" and ports.FIRST <= port <= ports.LAST and f"socket:[{fields[9]}]" in own:
            yield str(port)


def _loops() -> Iterator[str]:
    """Loop devices whose file can be seen from here."""
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            file = path.read_text().strip()
            if Path(file.removesuffix(" (deleted)")).exists() or file.endswith(" (deleted)"):
                yield f"{path.parts[3]} {file}"


def _files() -> Iterator[str]:
    """Entries of the temporary folder for disks, and of a store outside it should a test stray there."""
    roots = [Path("/var/tmp")]
    for place in (Path("/var/lib/vmlab"), Path.home() / ".local/share/vmlab"):
        store = Store(place)
        roots += [store.images, store.vms, store.runs, store.trash]
    for root in roots:
        if root.is_dir():
            yield from (str(path) for path in root.iterdir() if not path.name.startswith("systemd-private"))


def look() -> World:
    """The machine as it is now."""
    return World(
        domains=frozenset(_domains()),
        processes=frozenset(line for line, _ in _processes(f"{MARK}={os.environ.get(MARK, '-')}")),
        listening=frozenset(_listening()),
        mounts=frozenset(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        loops=frozenset(_loops()),
        files=frozenset(_files()),
    )


def main(file: Path) -> int:
    """Keep what is here in ``file``; when that is there, say what has come since: 1 if anything has."""
    if not file.exists():
        file.write_bytes(pickle.dumps(look()))
        return 0
    before: World = pickle.loads(file.read_bytes())  # our own, of a moment ago
    for _ in range(50):
        left = look().more_than(before)
        if not left:
            return 0
        time.sleep(0.2)  # a process that was told to end is given ten seconds
    print("left behind by the tests:\n  " + "\n  ".join(left))
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
