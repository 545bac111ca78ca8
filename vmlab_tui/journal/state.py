"""What a run's journal adds up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vmlab_tui.journal.events import (
    Altered,
    CheckEnd,
    Checkpoint,
    CheckpointDropped,
    CheckResult,
    Continued,
    Done,
    Ended,
    EndRequested,
    Event,
    GoingBack,
    Intent,
    JournalError,
    Note,
    Paused,
    PauseWhy,
    Payload,
    Progress,
    Removed,
    RunCreated,
    Stage,
    StepAmended,
    StepFinished,
    StepStarted,
    Waited,
    WentBack,
    WorkerStarted,
    moment,
)

Thing = tuple[str, str]
"""Something a run made or is about to make: (what, id)."""

RunPhase = Literal["starting", "running", "paused", "passed", "failed", "error", "ended", "interrupted"]
StepPhase = Literal["running", "ok", "failed", "skipped", "reused", "unknown"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class StepState(_Value):
    """The last attempt of one step. ``started`` is ISO UTC; ``seconds`` is 0 until it has finished."""

    number: int
    attempt: int = 1
    state: StepPhase = "running"
    stage: str = ""
    stage_detail: str = ""
    started: str = ""
    seconds: float = 0.0
    detail: str = ""
    exit_status: int | None = None
    progress: Progress | None = None
    amended: str = ""
    """Hash of the step's text as amended; empty when it runs as planned."""


class Future(_Value):
    """What was done after a checkpoint before the run went back to it. ``steps``: attempt by step number."""

    time: str
    back_to: str
    after: int
    steps: dict[int, int]


class CheckState(_Value):
    """The last result of one check of step ``number``."""

    number: int
    check: str
    component: str | None = None
    state: CheckEnd
    seconds: float = 0.0
    detail: str = ""
    evidence: str = ""


class Past(_Value):
    """The present as it was when a checkpoint was taken. ``line``: names, the checkpoint's own the last."""

    steps: dict[int, StepState]
    checks: tuple[CheckState, ...]
    line: tuple[str, ...]


class NoteState(_Value):
    time: str
    text: str
    level: Literal["info", "warn"] = "info"


class RunState(_Value):
    """A run as its journal tells it.

    Whether a run that has not ended is *interrupted* is not told here: it is when nobody holds its lock.
    """

    run_id: str = ""
    profile: str = ""
    plan_sha: str = ""
    state: RunPhase = "starting"
    seq: int = 0
    pid: int | None = None
    boot_id: str = ""
    start_ticks: int = 0
    workers: int = 0
    """How many workers have worked on it: more than one means it was resumed."""
    steps: dict[int, StepState] = {}
    checks: tuple[CheckState, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    """Those that were not dropped again, oldest first; some may be of an abandoned future."""
    lost: tuple[str, ...] = ()
    """The names of checkpoints that the present does not descend from."""
    pasts: dict[str, Past] = {}
    """What to come back to with each checkpoint, by its name."""
    futures: tuple[Future, ...] = ()
    """What was abandoned by going back, oldest first."""
    attempts: dict[int, int] = {}
    """The number of the last attempt of each step, abandoned ones included."""
    amended: dict[int, int] = {}
    """The attempt whose text a step has had since somebody edited it, by step number."""
    altered: str = ""
    """What has made the guest something else than the plan does; empty where nothing has."""
    going_back: str = ""
    """The checkpoint to which the VM is being reverted right now."""
    owns: tuple[Thing, ...] = ()
    """Every intent that was not removed again, oldest first, done or not."""
    pending: tuple[Thing, ...] = ()
    """The intents of which nobody knows whether they came to be."""
    waited: dict[str, float] = {}
    """Seconds by what was waited for: time that is not vmlab's own."""
    notes: tuple[NoteState, ...] = ()
    pause_reason: str = ""
    pause_why: PauseWhy | None = None
    pause_at: int | None = None
    """The step at which a person is asked."""
    end_requested: EndRequested | None = None
    ended: Ended | None = None
    started: str = ""
    updated: str = ""
    """Time of the last event."""
    finished: str = ""
    until: str | None = None
    """When a pause ends by itself, or what was kept expires."""
    active: float = 0.0
    """Seconds not paused and with a worker, from the events' times; what ``max_duration`` limits."""

    @property
    def over(self) -> bool:
        return self.ended is not None

    @property
    def line(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that the present descends from, oldest first."""
        return tuple(one for one in self.checkpoints if one.name not in self.lost)

    def way_back(self, name: str, before: int) -> Checkpoint | None:
        """The checkpoint to go back to from step ``before``; ``name`` empty: the newest of the line.

        By its name also one of an abandoned future, which then is the present again, wherever it had got to.
        """
        line = [one for one in self.line if one.after < before and name in ("", one.name)]
        lost = [one for one in self.checkpoints if one.name == name in self.lost and name in self.pasts]
        return next(iter([*reversed(line), *lost]), None)

    @property
    def current(self) -> StepState | None:
        """The step in flight, or whose outcome is unknown; None between steps."""
        open_ = [step for step in self.steps.values() if step.state in ("running", "unknown")]
        return max(open_, key=lambda step: step.number, default=None)

    def apply(self, event: Event) -> RunState:
        """The state after one more event; unknown kinds only count. Raises JournalError out of sequence."""
        if event.seq != self.seq + 1:
            raise JournalError(f"journal event {event.seq} cannot follow {self.seq}")
        payload = event.payload()
        change: dict[str, Any] = {} if payload is None else _change(self, payload, event.time)
        change |= {"seq": event.seq, "updated": event.time, "started": self.started or event.time}
        if self.updated and self.state != "paused" and not isinstance(payload, WorkerStarted):
            passed = max(0.0, moment(event.time) - moment(self.updated))
            change["active"] = self.active + passed
        return self.model_copy(update=change)


def fold(events: Iterable[Event], start: RunState | None = None) -> RunState:
    """The state after ``events``, from the empty state or from ``start``."""
    state = start or RunState()
    for event in events:
        state = state.apply(event)
    return state


def _change(run: RunState, payload: Payload, time: str) -> dict[str, Any]:
    """The fields of ``run`` that ``payload`` changes."""
    match payload:
        case RunCreated():
            return {"run_id": payload.run_id, "profile": payload.profile, "plan_sha": payload.plan_sha}
        case WorkerStarted():
            return _worker(run, payload)
        case StepStarted() | Stage() | Progress() | StepFinished() | StepAmended():
            return _step_change(run, payload, time)
        case Waited():
            seconds = run.waited.get(payload.on, 0.0) + payload.seconds
            return {"waited": {**run.waited, payload.on: seconds}}
        case Intent():
            thing = (payload.what, payload.id)
            # an intent written again (after a resume) makes its outcome open again
            return {"owns": _with(run.owns, thing), "pending": _with(run.pending, thing)}
        case Done():
            thing = (payload.what, payload.id)
            return {"owns": _with(run.owns, thing), "pending": _without(run.pending, thing)}
        case Removed():
            thing = (payload.what, payload.id)
            name = payload.id.rpartition("/")[2] if payload.what == "snapshot" else ""
            return {
                "owns": _without(run.owns, thing),
                "pending": _without(run.pending, thing),
                "checkpoints": _others(run.checkpoints, name),
            }
        case CheckResult():
            result = CheckState(**payload.model_dump())
            return {"checks": (*run.checks, result)}
        case Checkpoint():
            checkpoints = (*_others(run.checkpoints, payload.name), payload)
            line = tuple(one.name for one in checkpoints if one.name not in run.lost)
            past = Past(steps=run.steps, checks=run.checks, line=line)
            return {"checkpoints": checkpoints, "pasts": {**run.pasts, payload.name: past}}
        case CheckpointDropped():
            return {"checkpoints": _others(run.checkpoints, payload.name)}
        case GoingBack():
            return {"going_back": payload.name}
        case WentBack():
            return _back(run, payload, time)
        case Altered():
            return {"altered": run.altered or payload.reason}
        case Paused():
            return {
                "state": "paused",
                "pause_reason": payload.reason,
                "pause_why": payload.why,
                "pause_at": payload.number,
                "until": payload.until,
                "going_back": "",  # whoever asks knows where the VM is
            }
        case Continued():
            return {**_NO_PAUSE, "state": "running", "until": None}
        case EndRequested():
            return {"end_requested": payload}
        case Ended():
            return {
                "state": payload.state,
                "ended": payload,
                "finished": time,
                "until": payload.until,
                **_NO_PAUSE,
            }
        case Note():
            note = NoteState(time=time, text=payload.text, level=payload.level)
            return {"notes": (*run.notes, note)}
    return {}


_NO_PAUSE: dict[str, Any] = {"pause_reason": "", "pause_why": None, "pause_at": None}


def _back(run: RunState, payload: WentBack, time: str) -> dict[str, Any]:
    names = [one.name for one in run.line]
    steps, checks = run.steps, run.checks
    line = names[: names.index(payload.name) + 1] if payload.name in names else []
    if not line and (past := run.pasts.get(payload.name)):  # an abandoned future
        steps, checks, line = past.steps, past.checks, list(past.line)
    done = {number: _over(step) for number, step in steps.items() if number <= payload.after}
    gone = {
        number: step.attempt
        for number, step in run.steps.items()
        if number not in done or done[number].attempt != step.attempt
    }
    true = any(one.name == payload.name and one.key for one in run.checkpoints)
    future = Future(time=time, back_to=payload.name, after=payload.after, steps=gone)
    return {
        "going_back": "",
        "altered": "" if true else run.altered,
        "steps": done,
        "checks": tuple(check for check in checks if check.number <= payload.after),
        "lost": tuple(one.name for one in run.checkpoints if one.name not in line),
        "futures": (*run.futures, future),
    }


def _over(step: StepState) -> StepState:
    """A step before a checkpoint: one that took it was at work then, and had nothing else to do."""
    return step.model_copy(update={"state": "ok"}) if step.state in ("running", "unknown") else step


def _worker(run: RunState, payload: WorkerStarted) -> dict[str, Any]:
    steps = {
        number: step.model_copy(update={"state": "unknown"}) if step.state == "running" else step
        for number, step in run.steps.items()
    }  # nobody watched them for a while
    # a pause is over with the worker that stood still: the next one says so when it takes answers
    pause = {**_NO_PAUSE, "until": None} if run.state == "paused" else {}
    return pause | {
        "pid": payload.pid,
        "boot_id": payload.boot_id,
        "start_ticks": payload.start_ticks,
        "workers": run.workers + 1,
        "state": "running",
        "steps": steps,
    }


def _step_change(
    run: RunState, payload: StepStarted | Stage | Progress | StepFinished | StepAmended, time: str
) -> dict[str, Any]:
    number = payload.number
    step = run.steps.get(number) or StepState(number=number, started=time)
    change: dict[str, Any]
    match payload:
        case StepStarted():
            same = number in run.steps and step.attempt == payload.attempt
            # the same attempt again: a resumed worker picks it up where it is
            step = StepState(
                number=number,
                attempt=payload.attempt,
                started=step.started if same else time,
                amended=step.amended,
            )
            checks = tuple(check for check in run.checks if check.number != number)
            attempts = {**run.attempts, number: max(payload.attempt, run.attempts.get(number, 0))}
            return {"steps": {**run.steps, number: step}, "checks": checks, "attempts": attempts}
        case Stage():
            change = {"stage": payload.stage, "stage_detail": payload.detail, "attempt": payload.attempt}
        case Progress():
            change = {"progress": payload}
        case StepFinished():
            change = payload.model_dump(exclude={"number"})
        case StepAmended():
            change = {"amended": payload.sha}
            amended = {**run.amended, number: payload.attempt}
            steps = {**run.steps, number: step.model_copy(update=change)}
            return {"steps": steps, "amended": amended}
    return {"steps": {**run.steps, number: step.model_copy(update=change)}}


def _others(checkpoints: tuple[Checkpoint, ...], name: str) -> tuple[Checkpoint, ...]:
    return tuple(one for one in checkpoints if one.name != name)


def _with(things: tuple[Thing, ...], thing: Thing) -> tuple[Thing, ...]:
    return things if thing in things else (*things, thing)


def _without(things: tuple[Thing, ...], thing: Thing) -> tuple[Thing, ...]:
    return tuple(other for other in things if other != thing)
