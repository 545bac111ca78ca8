"""What every step of a run can reach, and the two ways to say how it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.base.text import Masker
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.events import Event
from vmlab_tui.journal.log import Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.vmdir import VmDir, vm_dir
from vmlab_tui.runs.decision import Pause
from vmlab_tui.runs.plan import Plan, PlannedStep


@dataclass(frozen=True)
class Result:
    """How a step went, when nothing was raised. ``state``: ok or skipped."""

    state: str = "ok"
    detail: str = ""
    exit_status: int | None = None


@dataclass
class StopRequest:
    """A wish to end the run, set from the control socket, a signal or the time limit."""

    how: str = ""
    by: str = ""
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False
    """Whether the VM is being kept for good, so that a wish would change nothing any more."""

    def ask(self, how: str, by: str) -> None:
        """``how``: table, destroy or keep. A later, stronger wish replaces an earlier one."""
        self.how, self.by = how, by
        self.wanted.set()

    def close(self) -> str:
        """Take no more wishes; returns the last one (``""``: none)."""
        self.closed = True
        return self.how


class RunContext:
    """The run as its one writer sees it: the worker builds it, engine and steps use it."""

    def __init__(
        self, plan: Plan, folder: Path, journal: Journal, state: RunState, host: Host, secrets: dict[str, str]
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.journal = journal
        self.state = state
        self.host = host
        self.secrets = secrets
        self.masker = Masker(secrets.values())
        self.stop = StopRequest()
        self.pause = Pause()
        self.endpoint: Endpoint | None = None
        self.stuck = False
        """Whether QEMU has stopped the VM since its disk could not be written, when last looked at."""
        self.generation = ""
        """The VM's generation id (libvirt's ``<genid>``) as far as this run knows of it; empty: not yet."""
        self._guest: Guest | None = None
        self._current: tuple[int, int] = (0, 1)

    @property
    def store(self) -> Store:
        return Store(self.plan.store)

    @property
    def vm(self) -> VmDir:
        return vm_dir(self.store, self.plan.vm.uuid)

    @property
    def guest(self) -> Guest:
        """The connection to the guest; raises LabError before there is one."""
        if self._guest is None:
            raise LabError(f"no connection to {self.plan.vm.name} yet")
        return self._guest

    @guest.setter
    def guest(self, guest: Guest | None) -> None:
        self._guest = guest

    @property
    def connected(self) -> bool:
        return self._guest is not None

    def write(self, kind: str, **data: JsonValue) -> Event:
        """Append an event and fold it into :attr:`state`."""
        event = self.journal.write(kind, **data)
        self.state = self.state.apply(event)
        return event

    def attempt(self, step: PlannedStep) -> int:
        """The number of the attempt that is being made, or was made last."""
        known = self.state.steps.get(step.number)
        return known.attempt if known else 1

    def log(self, step: PlannedStep) -> Path:
        """The log file of the current attempt of a step."""
        return self.folder / "steps" / step.log_name(self.attempt(step))

    def enter(self, step: PlannedStep, attempt: int) -> None:
        """Make ``step`` the one that stages and waits are recorded for."""
        self._current = (step.number, attempt)

    def stage(self, stage: str, detail: str = "") -> None:
        """Say where the current step stands."""
        number, attempt = self._current
        known = self.state.steps.get(number)
        if known is None or known.stage != stage or detail:
            self.write("stage", number=number, attempt=attempt, stage=stage, detail=detail)

    def progress(self, done: int, total: int, unit: str, detail: str = "") -> None:
        self.write("progress", number=self._current[0], done=done, total=total, unit=unit, detail=detail)

    def note(self, text: str, level: str = "info") -> None:
        self.write("note", text=text, level=level)

    @contextmanager
    def wait(self, on: str) -> Iterator[None]:
        """Journal the time inside as spent waiting for something that is not vmlab: libvirt, boot, ssh ..."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = round(time.monotonic() - started, 4)
            self.write("waited", number=self._current[0], on=on, seconds=seconds)

    @contextmanager
    def making(self, what: str, ident: str, detail: str = "") -> Iterator[None]:
        """Intent before the side effect, done after it; nothing when this run did it before."""
        known = (what, ident)
        if known not in self.state.owns:
            self.write("intent", what=what, id=ident, detail=detail)
        yield
        if known in self.state.pending or known not in self.state.owns:
            self.write("done", what=what, id=ident)
