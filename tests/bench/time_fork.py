"""Forks to their first SSH command, one and several at once, against the same by hand (fork.sh).

A fork of vmlab's is counted when it has its identity, lets the lab's key in and has run a command; one by
hand when ``ssh true`` has ended. What is forked is a Debian with 1 GiB, off, at its snapshot 'provisioned'.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure, condition, show
from vmlab_tui.guests.terminal import ssh_argv, write_known_hosts
from vmlab_tui.lab.context import Lab, open_lab
from vmlab_tui.lab.endpoint import endpoint_of
from vmlab_tui.lab.leases import read_lease
from vmlab_tui.lab.ports import release, reserve

HERE = Path(__file__).parent
COUNTS = (1, 2, 4, 8)
SNAPSHOT = "provisioned"
OVER_BARE = 1.1
"""What several forks may take, times the bare technique in the same run."""
_PROFILE = """\
schema: 1
name: bench-fork
image: debian-12
vm: {cpus: 2, memory: 1GiB, disk: 8GiB, network: isolated}
on_pass: keep
on_fail: destroy
"""


@dataclass(frozen=True)
class Times:
    """Seconds from the beginning to the first fork's first command, and to the last one's."""

    first: float
    last: float


def _vmlab(lab: Lab, *words: str | Path) -> list[str | Path]:
    where: list[str | Path] = ["--connect", lab.uri, "--store", lab.store.root]
    return [sys.executable, "-m", "vmlab_tui", *where, *words]


@contextmanager
def source(lab: Lab) -> Iterator[str]:
    """A VM to fork, off; its uuid. Deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile.yaml")
        profile.write_text(_PROFILE)
        known = set(lab.store.vms.iterdir()) if lab.store.vms.is_dir() else set()
        subprocess.run(_vmlab(lab, "run", profile), check=True, stdout=sys.stderr, timeout=900)
    (made,) = set(lab.store.vms.iterdir()) - known
    try:
        subprocess.run(_vmlab(lab, "off", made.name, "--yes"), check=True, stdout=sys.stderr)
        yield made.name
    finally:
        subprocess.run(_vmlab(lab, "delete", made.name, "--yes"), check=True, stdout=sys.stderr)


def by_hand(lab: Lab, uuid: str, count: int) -> Times:
    """One round of fork.sh."""
    lease = read_lease(lab.store.vm(uuid))
    forwards = reserve(lab.store, "bench", {f"p{at}": 22 for at in range(count)})
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vmlab-bench-") as work:
        Path(work).chmod(0o755)
        words: list[str | Path] = [
            HERE / "fork.sh",
            lab.uri,
            uuid,
            SNAPSHOT,
            lab.store.keys / "id_ed25519",
            lease.user,
        ]
        ports = [str(one.host_port) for one in forwards]
        try:
            done = subprocess.run(
                [*words, str(lease.port("ssh")), work, *ports], capture_output=True, text=True, timeout=600
            )
        finally:
            release(lab.store, "bench")
    seconds = sorted(float(line) for line in done.stdout.split())
    if len(seconds) != count:
        sys.exit(f"fork.sh: {len(seconds)} of {count} forks\n{done.stderr[-2000:]}")
    return Times(seconds[0], seconds[-1])


def by_vmlab(lab: Lab, uuid: str, count: int) -> tuple[Times, float]:
    """One round of ``vmlab fork``, the interpreter's start included; the seconds of a new ``ssh true``."""
    known = set(lab.store.vms.iterdir())
    started = time.monotonic()
    seconds: list[float] = []
    words = _vmlab(lab, "fork", f"{uuid}@{SNAPSHOT}", "--count", str(count))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " is ready after " in line:
                seconds.append(time.monotonic() - started)
    made = [path.name for path in set(lab.store.vms.iterdir()) - known]
    try:
        if process.returncode or len(seconds) != count:
            sys.exit(f"vmlab fork: exit {process.returncode}, {len(seconds)} of {count} forks")
        return Times(seconds[0], seconds[-1]), _ssh_true(lab, made[0])
    finally:
        subprocess.run(_vmlab(lab, "delete", *made, "--yes"), check=True, capture_output=True, timeout=300)


def _ssh_true(lab: Lab, uuid: str) -> float:
    endpoint, known_hosts = endpoint_of(lab, uuid), lab.store.vm(uuid) / "known_hosts"
    write_known_hosts(endpoint, known_hosts)
    started = time.monotonic()
    subprocess.run(ssh_argv(endpoint, ["true"], known_hosts), check=True, timeout=60)
    return time.monotonic() - started


def measure(lab: Lab, rounds: int, counts: tuple[int, ...] = COUNTS) -> list[Figure]:
    """Forks by vmlab and by hand in turn; needs the image debian-12 in the lab's store."""
    ours: dict[int, list[Times]] = {count: [] for count in counts}
    bare: dict[int, list[Times]] = {count: [] for count in counts}
    ssh: list[float] = []
    with source(lab) as uuid:
        for _ in range(rounds):
            for count in counts:
                bare[count].append(by_hand(lab, uuid, count))
                times, again = by_vmlab(lab, uuid, count)
                ours[count].append(times)
                if count == 1:
                    ssh.append(again)
    figures: list[Figure] = []
    for count in counts:
        many = "1 fork" if count == 1 else f"{count} forks"
        hand = Figure(f"{many} by hand", tuple(one.last for one in bare[count]), "s")
        goal = 2.5 if count == 1 else OVER_BARE * hand.median
        figures.append(Figure(f"{many} to the first command of each", _last(ours[count]), "s", goal=goal))
        figures.append(hand)
        if count > 1:
            figures.append(Figure("  the first of them", tuple(one.first for one in ours[count]), "s"))
            figures.append(Figure("  by hand", tuple(one.first for one in bare[count]), "s"))
    if ssh:
        figures.append(Figure("ssh true in a fork, by a new process", tuple(ssh), "s"))
    return figures


def _last(times: list[Times]) -> tuple[float, ...]:
    return tuple(one.last for one in times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench time_fork", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (default 3)")
    parser.add_argument("--counts", type=json.loads, default=list(COUNTS), help="as a JSON list")
    options = parser.parse_args()
    figures = measure(open_lab(), options.rounds, tuple(options.counts))
    return show("fork", condition(), figures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
