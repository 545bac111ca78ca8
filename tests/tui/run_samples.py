"""A run directory made by hand, of which the test is the worker: real plan, journal and lock, no VM."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from tests.runs.samples import plan
from vmlab_tui.journal.log import Journal
from vmlab_tui.runs.plan import write_plan

UNTIL = "2099-01-01T00:00:00+00:00"


class MadeRun:
    """``more``: fields of the profile that differ from the sample's."""

    def __init__(self, store: Path, secret_names: tuple[str, ...] = (), **more: Any) -> None:
        self.store = store
        self.plan = plan(store, **more).model_copy(update={"secret_names": secret_names})
        self.id = self.plan.run_id
        self.folder = store / "runs" / self.id
        (self.folder / "steps").mkdir(parents=True)
        write_plan(self.folder, self.plan)
        self.lock = -1
        self.work()
        self.write("run_created", run_id=self.id, profile="sample", plan_sha="0")
        self.write("worker_started", pid=os.getpid(), boot_id="b", start_ticks=1, resumed=False)

    def work(self) -> None:
        """Be the run's worker (again)."""
        self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        flock(self.lock, LOCK_EX | LOCK_NB)
        self.journal = Journal.append(self.folder / "journal.jsonl")

    def write(self, kind: str, **data: object) -> None:
        self.journal.write(kind, **data)

    def begin(self, number: int, attempt: int = 1, log: bytes = b"") -> None:
        self.write("step_started", number=number, attempt=attempt)
        if log:
            self.log(number, attempt).write_bytes(log)

    def log(self, number: int, attempt: int = 1) -> Path:
        return self.folder / "steps" / self.plan.step(number).log_name(attempt)

    def finish(self, number: int, state: str = "ok", detail: str = "", attempt: int = 1) -> None:
        self.write("step_finished", number=number, attempt=attempt, state=state, seconds=1.5, detail=detail)

    def steps(self, first: int, last: int) -> None:
        """All of these went well."""
        for number in range(first, last + 1):
            self.begin(number)
            self.finish(number)

    def check(self, name: str, state: str = "passed", detail: str = "", evidence: str = "") -> None:
        number = self.plan.phase("checks").number
        self.write(
            "check_result",
            number=number,
            check=name,
            state=state,
            seconds=0.2,
            detail=detail,
            evidence=evidence,
        )

    def failed(self) -> None:
        """Failed at step 10, its VM kept."""
        (self.folder / "console.log").write_bytes(b"boot\r\nlogin: \x1b[2J\x1b]0;evil\x07\r\n")
        self.steps(1, 9)
        self.begin(10, log=b"+ apt-get\n\x1b[31mE: no package xrdp\x1b[0m\n")
        self.finish(10, "failed", "exit status 100")
        self.end("failed", 1, "kept", UNTIL)

    def end(self, state: str = "passed", code: int = 0, left: str = "destroyed", until: str = "") -> None:
        self.write(
            "ended", state=state, exit=code, disposition=left, seconds=12.5, until=until or None, detail=""
        )
        self.die()

    def die(self) -> None:
        """The worker is gone."""
        if self.lock >= 0:
            self.journal.close()
            os.close(self.lock)
            self.lock = -1
