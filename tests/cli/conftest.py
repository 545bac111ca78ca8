"""A run directory made by hand: real plan, real journal, real lock, no VM and no worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import pytest

from tests.runs.samples import plan
from vmlab_tui.journal.log import Journal
from vmlab_tui.runs.plan import write_plan


class MadeRun:
    """A run that the test itself plays the worker of."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.plan = plan(store)
        self.id = self.plan.run_id
        self.folder = store / "runs" / self.id
        (self.folder / "steps").mkdir(parents=True)
        write_plan(self.folder, self.plan)
        self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        flock(self.lock, LOCK_EX | LOCK_NB)
        self.journal = Journal.append(self.folder / "journal.jsonl")
        self.write("run_created", run_id=self.id, profile="sample", plan_sha="0")
        self.write("worker_started", pid=os.getpid(), boot_id="b", start_ticks=1, resumed=False)

    def write(self, kind: str, **data: object) -> None:
        self.journal.write(kind, **data)

    def step(self, number: int, state: str = "ok", detail: str = "", log: bytes = b"") -> None:
        """One step from its start to its end."""
        self.write("step_started", number=number, attempt=1)
        if log:
            (self.folder / "steps" / self.plan.step(number).log_name(1)).write_bytes(log)
        self.write("step_finished", number=number, attempt=1, state=state, seconds=1.5, detail=detail)

    def end(
        self, state: str = "passed", code: int = 0, disposition: str = "destroyed", until: str | None = None
    ) -> None:
        self.write("ended", state=state, exit=code, disposition=disposition, seconds=12.5, until=until)
        self.die()

    def die(self) -> None:
        """The worker is gone."""
        if self.lock >= 0:
            self.journal.close()
            os.close(self.lock)
            self.lock = -1


@pytest.fixture
def made_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeRun]:
    monkeypatch.setenv("VMLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    run = MadeRun(tmp_path / "store")
    yield run
    run.die()


@pytest.fixture
def vmlab() -> list[str]:
    """How the program is started."""
    return [sys.executable, "-m", "vmlab_tui"]
