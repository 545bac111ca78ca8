"""Back to before a failed step and on: from `b` to the step's first output, beside a cold run to the same.

The guest is the shipped Debian, in a store of the bench's own; each round has the same step of a paused run
fail once more. The seconds begin before the command's interpreter does and end with the first byte in the log
of the step's new attempt, the cold run's with that of the same step. Where they go is read from the journal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figures import Figure, condition, show
from tests.support import lab as support
from tests.support.bench import debian_store, moment, openssh
from vmlab_tui.base.paths import Store

PROFILE = """\
schema: 1
name: debugging
image: debian-12
vm: {{cpus: 2, memory: {memory}, disk: 8GiB}}
on_fail: pause
steps:
  - {{name: before, run: "true", checkpoint: true}}
  - {{name: failing, run: "echo begun; exit 7"}}
"""
FAILING = 11
_LONG = 600.0


def command(store: Store, *words: str | Path) -> subprocess.Popen[bytes]:
    """A vmlab command on the bench's store, begun."""
    return subprocess.Popen(
        [sys.executable, "-m", "vmlab_tui", "--store", store.root, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "CI": ""},
    )


def vmlab(store: Store, *words: str | Path) -> None:
    """The same, done."""
    if status := command(store, *words).wait(_LONG):
        sys.exit(f"vmlab {' '.join(map(str, words))}: exit {status}")


def until_there(path: Path) -> None:
    """Until something has been written to ``path``."""
    deadline = time.monotonic() + _LONG
    while not (path.exists() and path.stat().st_size):
        if time.monotonic() > deadline:
            sys.exit(f"{path} has stayed empty")
        time.sleep(0.002)


def journal(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def until_paused(folder: Path) -> None:
    deadline = time.monotonic() + _LONG
    while journal(folder)[-1]["kind"] != "paused":
        if time.monotonic() > deadline:
            sys.exit(f"{folder} does not pause")
        time.sleep(0.05)


class Paused:
    """A run that stands still at its failed step."""

    def __init__(self, store: Store, profile: Path) -> None:
        self.store = store
        vmlab(store, "run", profile, "--cold", "--detach")
        (self.folder,) = store.runs.iterdir()
        self.run = self.folder.name
        until_paused(self.folder)
        self.attempt = 1
        plan = json.loads((self.folder / "plan.json").read_text())
        self.uuid = plan["vm"]["uuid"]
        self._ssh = openssh(store, self.uuid, store.root / "bench.hosts", "sudo sh -c 'echo begun'")

    def back(self) -> dict[str, float]:
        """Seconds of each part of going back and trying again, and of ``all``."""
        seen = len(journal(self.folder))
        self.attempt += 1
        begun = time.time()
        going = command(self.store, "runs", "back", self.run, "--yes")
        until_there(self.folder / f"steps/{FAILING}-failing.{self.attempt}.log")
        ended = time.time()
        going.wait(_LONG)
        until_paused(self.folder)
        at = {str(one["kind"]): moment(one) for one in journal(self.folder)[seen:] if one["kind"] in _MARKS}
        asked, went, started = (at[kind] for kind in ("continued", "went_back", "step_started"))
        return {
            "the command, until the run has heard it": asked - begun,
            "safety snapshot, load, clock": went - asked,
            "connecting, the step's first output": ended - started,
            "all": ended - begun,
        }

    def virsh(self) -> float:
        """The same by hand: no safety snapshot, no clock, no script that is run just once."""
        begun = time.monotonic()
        name = f"after-{FAILING - 1}-before"
        back = ["virsh", "-q", "-c", support.URI, "snapshot-revert", self.uuid, name]
        subprocess.run(back, check=True, capture_output=True)
        for _ in range(100):
            if not subprocess.run(self._ssh, capture_output=True, check=False).returncode:
                return time.monotonic() - begun
            time.sleep(0.05)
        sys.exit("the guest does not answer")


_MARKS = ("continued", "went_back", "step_started")


def cold(store: Store, profile: Path) -> float:
    """Seconds of a run from nothing to the first output of the same step."""
    before = set(store.runs.iterdir())
    begun = time.monotonic()
    going = command(store, "run", profile, "--cold", "--on-fail", "destroy", "--json")
    while not (made := set(store.runs.iterdir()) - before):
        time.sleep(0.002)
    until_there(made.pop() / f"steps/{FAILING}-failing.1.log")
    seconds = time.monotonic() - begun
    going.wait(_LONG)
    return seconds


def measure(store: Store, rounds: int, memory: str) -> list[Figure]:
    profile = store.root / "bench.yaml"
    profile.write_text(PROFILE.format(memory=memory))
    paused = Paused(store, profile)
    backs, bare, runs = [], [], []
    try:
        paused.back()  # what is read once
        for _ in range(rounds):
            backs.append(paused.back())
            bare.append(paused.virsh())
            runs.append(cold(store, profile))
    finally:
        vmlab(store, "runs", "end", paused.run, "--yes")
    by_part = {part: tuple(one[part] for one in backs) for part in backs[0]}
    whole = by_part.pop("all")
    return [
        Figure("back to the step's first output", whole, "s", goal=3.0, beside="alternating with the others"),
        *(Figure(f"  {part}", values, "s") for part, values in by_part.items()),
        Figure("virsh snapshot-revert + ssh", tuple(bare), "s"),
        Figure("a cold run to the same output", tuple(runs), "s"),
        Figure(
            "cold run over going back",
            tuple(long / short for long, short in zip(runs, whole, strict=True)),
            "x",
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench debug", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (default 3)")
    parser.add_argument("--memory", default="1GiB", help="of the guest (default 1GiB)")
    options = parser.parse_args()
    with debian_store() as store:
        figures = measure(store, options.rounds, options.memory)
    return show("debug", condition(), figures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
