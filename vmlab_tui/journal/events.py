"""What a journal line is, and which data each kind of event carries.

A line is one JSON object, pure printable ASCII, ending in a newline::

    {"schema":1,"seq":1,"time":"2026-01-02T13:14:15.123Z","kind":"note","data":{...},"sum":"..."}

``sum`` is the first 16 hex digits of the SHA-256 of the line without its ``sum`` member and newline.
Fields may be added to a kind later if they have defaults; a change of meaning raises :data:`SCHEMA`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean

SCHEMA = 1
TEXT_LIMIT = 4000
"""Characters of any one text in an event; the rest is in the step's log."""

PROSE = frozenset({"detail", "evidence", "text", "reason", "check", "component", "stage"})
"""Fields with free text, in which a secret could turn up."""


class JournalError(LabError):
    """A journal is damaged, from a newer vmlab, or cannot be written.

    ``good`` holds the events before the damage, so that what the run owns can still be found.
    """

    def __init__(self, message: str, *, hint: str = "", good: tuple[Event, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.good = good


def _words(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


Words = Annotated[str, BeforeValidator(_words)]
"""Text that may come from a guest: cleaned, and cut to TEXT_LIMIT characters."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0)]
StepEnd = Literal["ok", "failed", "skipped", "reused", "unknown"]
CheckEnd = Literal["passed", "failed", "error", "skipped"]
RunEnd = Literal["passed", "failed", "error", "ended", "interrupted"]
How = Literal["table", "destroy", "keep"]
PauseWhy = Literal["failed", "unknown", "before", "after", "asked"]
Disposition = Literal["destroyed", "kept", "none"]


class Payload(BaseModel):
    """The data of one kind of event."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class RunCreated(Payload):
    run_id: str
    profile: Words
    plan_sha: str


class WorkerStarted(Payload):
    """``start_ticks``: field 22 of /proc/PID/stat; with ``boot_id`` it makes the pid unique."""

    pid: int
    boot_id: str
    start_ticks: int
    resumed: bool = False


class StepStarted(Payload):
    number: Number
    attempt: Number = 1


class Stage(Payload):
    number: Number
    attempt: Number = 1
    stage: Words
    detail: Words = ""


class Waited(Payload):
    """Time spent in something that is not vmlab: libvirt, boot, ssh, command, transfer, qemu-img ..."""

    number: Number | None = None
    on: Words
    seconds: Seconds


class Progress(Payload):
    """``total`` None: not known."""

    number: Number
    done: int | Seconds
    total: int | Seconds | None = None
    unit: Words = ""
    detail: Words = ""


class StepFinished(Payload):
    number: Number
    attempt: Number = 1
    state: StepEnd
    seconds: Seconds
    detail: Words = ""
    exit_status: int | None = None


class StepAmended(Payload):
    number: Number
    attempt: Number
    sha: str


class Intent(Payload):
    """Written before the side effect, with the name it will have."""

    what: Words
    id: str
    detail: Words = ""


class Done(Payload):
    what: Words
    id: str


class Removed(Payload):
    """The run does not own it any more: it is gone, or ``detail`` says whose it is now."""

    what: Words
    id: str
    detail: Words = ""


class CheckResult(Payload):
    number: Number
    check: Words
    component: Words | None = None
    state: CheckEnd
    seconds: Seconds = 0.0
    detail: Words = ""
    evidence: Words = ""


class Checkpoint(Payload):
    """A snapshot was taken after step ``after``; ``key`` stands for all that led there, empty: not known.

    ``created``: libvirt's time of it, seconds since 1970. ``size``: bytes of its memory. ``why``: the policy
    that wanted it.
    """

    name: str
    after: Number
    key: str = ""
    created: Number = 0
    size: Number = 0
    seconds: Seconds = 0.0
    why: Literal["clean-boot", "named", "auto", "provisioned"] = "named"


class CheckpointDropped(Payload):
    name: str
    reason: Words = ""


class GoingBack(Payload):
    """Intent: the VM is being reverted to the checkpoint ``name``, so the guest may be anywhere."""

    name: str


class WentBack(Payload):
    """The guest is where it was after step ``after``: what was done since then is an abandoned future."""

    name: str
    after: Number


class Altered(Payload):
    """From here on the guest is not only what the plan makes of it, for that ``reason``.

    So no checkpoint that is taken from here on has a key, until the run goes back to one that has.
    """

    reason: Words


class Paused(Payload):
    """A person is asked at step ``number``. ``until``: ISO UTC, when the pause ends by itself.

    ``why``: the step failed, its outcome is unknown, a break was set ``before`` or ``after`` it, or somebody
    asked for a pause.
    """

    reason: Words
    until: str | None = None
    number: Number | None = None
    why: PauseWhy = "failed"


class Continued(Payload):
    reason: Words = ""


class EndRequested(Payload):
    by: Words
    how: How = "table"


class Ended(Payload):
    """``disposition`` ``none``: nothing had been made. ``until``: what was kept expires then."""

    state: RunEnd
    exit: int
    disposition: Disposition
    seconds: Seconds
    detail: Words = ""
    until: str | None = None


class Note(Payload):
    text: Words
    level: Literal["info", "warn"] = "info"


KINDS: dict[str, type[Payload]] = {
    "run_created": RunCreated,
    "worker_started": WorkerStarted,
    "step_started": StepStarted,
    "stage": Stage,
    "waited": Waited,
    "progress": Progress,
    "step_finished": StepFinished,
    "step_amended": StepAmended,
    "intent": Intent,
    "done": Done,
    "removed": Removed,
    "check_result": CheckResult,
    "checkpoint": Checkpoint,
    "checkpoint_dropped": CheckpointDropped,
    "going_back": GoingBack,
    "went_back": WentBack,
    "altered": Altered,
    "paused": Paused,
    "continued": Continued,
    "end_requested": EndRequested,
    "ended": Ended,
    "note": Note,
}


class Event(BaseModel):
    """One line of a journal."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)

    schema_: int = Field(default=SCHEMA, alias="schema")
    seq: int = Field(ge=1)
    time: str
    """ISO 8601, UTC, milliseconds."""
    kind: str
    data: dict[str, JsonValue]
    sum: str = ""

    def payload(self) -> Payload | None:
        """The data as its kind's model; None for a kind this version does not know.

        Fields that a newer version added are dropped. Raises JournalError when the data does not fit.
        """
        model = KINDS.get(self.kind)
        if model is None:
            return None
        known = {name: value for name, value in self.data.items() if name in model.model_fields}
        try:
            return model.model_validate(known)
        except ValidationError as error:
            raise JournalError(
                f"journal event {self.seq} ({self.kind}) does not read as this version knows it",
                hint="it was probably written by a newer vmlab; use that one",
            ) from error

    def line(self) -> str:
        """The event as its journal line, without the newline."""
        return _line(self.schema_, self.seq, self.time, self.kind, self.data)[0]


def make(seq: int, kind: str, data: dict[str, Any], *, time: str | None = None) -> tuple[Event, bytes]:
    """A new event and its line with newline.

    Raises ValueError for an unknown kind or data that does not fit.
    """
    model = KINDS.get(kind)
    if model is None:
        raise ValueError(f"unknown kind of event: {kind}")
    stored: dict[str, JsonValue] = model.model_validate(data).model_dump(mode="json")
    moment = time or now()
    line, digest = _line(SCHEMA, seq, moment, kind, stored)
    event = Event.model_construct(schema_=SCHEMA, seq=seq, time=moment, kind=kind, data=stored, sum=digest)
    return event, line.encode("ascii") + b"\n"


def parse(line: bytes) -> Event:
    """The event of one line (without newline).

    Raises ValueError when the line is damaged and JournalError when its schema is newer than this vmlab.
    """
    head, mark, tail = line.rpartition(_MARK)
    if not mark or tail[-2:] != b'"}' or _digest(head + b"}") != tail[:-2].decode("latin-1"):
        raise ValueError("checksum")
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    schema = raw.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise JournalError(
            f"journal schema {schema} is newer than this vmlab knows ({SCHEMA})", hint="use the newer vmlab"
        )
    return Event.model_validate(raw)


def now() -> str:
    """The present as journals write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> float:
    """Seconds since 1970 of a time as journals write it."""
    return datetime.fromisoformat(text).timestamp()


_MARK = b',"sum":"'


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def _line(schema: int, seq: int, time: str, kind: str, data: dict[str, JsonValue]) -> tuple[str, str]:
    head = {"schema": schema, "seq": seq, "time": time, "kind": kind, "data": data}
    # json's default is printable ASCII only: the file can be read in any terminal without harm
    text = json.dumps(head, separators=(",", ":"), allow_nan=False)
    digest = _digest(text.encode("ascii"))
    return f'{text[:-1]},"sum":"{digest}"}}', digest
