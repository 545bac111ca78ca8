"""Going back in time: reverts, forks, warm starts and checkpoints, beside libvirt's own ways.

The guest is the shipped Debian, in a store of the bench's own, on the shipped domain. Figures of vmlab's are
taken from outside: the wall time of a command, interpreter start included, or the times of a run's events.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import time_fork
from tests.bench.figures import Figure, condition, show
from tests.support import lab as support
from tests.support.bench import debian_store, moment
from vmlab_tui.base.paths import Store
from vmlab_tui.guests.terminal import ssh_argv, write_known_hosts
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.endpoint import endpoint_of
from vmlab_tui.lab.rewind import go_back

_REST = 2.0
"""Seconds that a guest is left alone before each way: what still ends in it is not the next one's time."""
PROFILE = """\
schema: 1
name: bench
image: debian-12
vm: {{cpus: 2, memory: {memory}, disk: 8GiB}}
steps:
  - {{name: nothing, run: "true"}}
on_pass: keep
"""


def vmlab(store: Store, *words: str | Path, fine: bool = True) -> str:
    """Standard output of a vmlab command on the bench's store."""
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "--store", store.root, *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "CI": ""},
        timeout=1200,
        check=False,
    )
    if fine and done.returncode:
        sys.exit(f"vmlab {' '.join(map(str, words))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def timed(work: object, *words: object) -> float:
    started = time.monotonic()
    work(*words)  # type: ignore[operator]
    return time.monotonic() - started


def events(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def first_output(out: str, began: float) -> float:
    """Seconds from ``began`` (since 1970) to the first word of the profile's first step, a copy."""
    for event in events(out):
        if event["kind"] == "progress":
            return moment(event) - began
    sys.exit("the run's first step said nothing")


def warm_starts(store: Store, rounds: int) -> list[Figure]:
    """Quickstart from a template, beside the same from nothing."""
    cold, warm = [], []

    def start(*words: str) -> float:
        began = time.time()
        return first_output(vmlab(store, "run", "quickstart", "--json", *words), began)

    start("--cold")  # leaves the template, and what is read once in the page cache
    for _ in range(rounds):
        cold.append(start("--cold"))
        warm.append(start())
    ratio = [long / short for long, short in zip(cold, warm, strict=True)]
    return [
        Figure("quickstart, template: to its first output", tuple(warm), "s", goal=4.0),
        Figure("quickstart, cold: to its first output", tuple(cold), "s", beside="alternating"),
        Figure("cold start over warm start", tuple(ratio), "x", goal=8.0, at_least=True),
    ]


class Kept:
    """A VM that a run has left running, and how one gets into it without vmlab."""

    def __init__(self, store: Store, memory: str) -> None:
        self.store = store
        profile = store.root / f"{memory}.yaml"
        profile.write_text(PROFILE.format(memory=memory))
        out = vmlab(store, "run", profile, "--json", "--cold")
        self.run = str(events(out)[0]["data"]["run_id"])  # type: ignore[index]
        plan = json.loads((store.run(self.run) / "plan.json").read_text())
        self.uuid, self.name = plan["vm"]["uuid"], plan["vm"]["name"]
        endpoint, hosts = endpoint_of(Lab(support.URI, store), self.uuid), store.root / f"{memory}.hosts"
        write_known_hosts(endpoint, hosts)
        self._ssh = ssh_argv(endpoint, ["true"], hosts)

    def ssh(self) -> None:
        """One command in the guest by OpenSSH's client, called as ``vmlab ssh`` does, once it answers."""
        for _ in range(100):
            if not subprocess.run(self._ssh, capture_output=True, check=False).returncode:
                return
            time.sleep(0.05)
        sys.exit(f"{self.name} does not answer")

    def revert(self, *words: str) -> None:
        vmlab(self.store, "snapshot", "revert", self.run, "clean-boot", "--yes", *words)
        self.ssh()

    async def revert_from_within(self) -> float:
        """Seconds of the same for who is there already, as the TUI and a run's worker are."""
        async with Host.open(support.URI) as host:
            began = time.monotonic()
            await go_back(host, self.uuid, "clean-boot", keep_present=False)
            await asyncio.to_thread(self.ssh)
            return time.monotonic() - began

    def virsh(self) -> None:
        command = ["virsh", "-q", "-c", support.URI, "snapshot-revert", self.uuid, "clean-boot"]
        subprocess.run(command, check=True, capture_output=True)
        self.ssh()

    def checkpoint(self, name: str) -> float:
        seconds = timed(vmlab, self.store, "snapshot", "create", self.run, name)
        vmlab(self.store, "snapshot", "delete", self.run, name, "--yes")
        return seconds

    def end(self) -> None:
        vmlab(self.store, "runs", "end", self.run, "--yes")


def reverts(store: Store, rounds: int, memory: str) -> list[Figure]:
    """Back to the clean boot, from the command to the first SSH command in the guest."""
    vm = Kept(store, memory)
    fast: list[float] = []
    within: list[float] = []
    safe: list[float] = []
    bare: list[float] = []
    cost: list[float] = []
    try:
        vm.ssh()
        ways: tuple[tuple[list[float], Callable[[], float]], ...] = (
            (fast, lambda: timed(vm.revert, "--no-safety")),
            (within, lambda: asyncio.run(vm.revert_from_within())),
            (safe, lambda: timed(vm.revert)),
            (bare, lambda: timed(vm.virsh)),
            (cost, lambda: vm.checkpoint(f"bench-{len(cost)}")),
        )
        for _ in range(rounds):
            for seconds, way in ways:
                time.sleep(_REST)
                seconds.append(way())
    finally:
        vm.end()
    beside = "virsh snapshot-revert + ssh, alternating"
    return [
        Figure(f"revert to the first SSH command, {memory}", tuple(fast), "s", goal=2.0, beside=beside),
        Figure(f"  from a process that is there, as the TUI, {memory}", tuple(within), "s", goal=2.0),
        Figure(f"  with a safety snapshot first, {memory}", tuple(safe), "s"),
        Figure(f"  virsh snapshot-revert + ssh, {memory}", tuple(bare), "s"),
        Figure(f"checkpoint (vmlab snapshot create), {memory}", tuple(cost), "s"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench time", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (default 3)")
    parser.add_argument("--only", choices=("warm", "revert", "fork"), help="one part")
    options = parser.parse_args()
    figures: list[Figure] = []
    with debian_store() as store:
        if options.only in (None, "warm"):
            figures += warm_starts(store, options.rounds)
        if options.only in (None, "revert"):
            for memory in ("1GiB", "4GiB"):
                figures += reverts(store, options.rounds, memory)
        if options.only in (None, "fork"):
            figures += time_fork.measure(Lab(support.URI, store), options.rounds)
    return show("time", condition(), figures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
