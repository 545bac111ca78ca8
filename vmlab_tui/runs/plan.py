"""The plan: everything a run will do, known and written down before anything is touched."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.paths import write_durably
from vmlab_tui.spec.model import Profile

SCHEMA = 1
FILE = "plan.json"

OPENING = ("preflight", "overlay", "seed", "define", "boot", "address", "ssh", "cloud-init", "clean-boot")
"""The steps of every run before the profile's own."""
CLOSING = ("checks", "provisioned", "collect", "report", "cleanup")
"""The steps of every run after the profile's own."""

CHECK_SECONDS = 60.0
"""Seconds that one check may take beyond its ``within``."""

_MARGIN = 60.0
_PHASE_SECONDS = {"clean-boot": 300.0, "provisioned": 300.0, "cloud-init": 1800.0, "collect": 600.0}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class PlannedStep(_Frozen):
    """One numbered step. ``index`` is its place in the profile's list; ``timeout`` in seconds."""

    number: int
    id: str
    kind: str
    name: str
    component: str | None = None
    timeout: float
    index: int | None = None
    checkpoint: bool = False
    """Whether the profile wants a checkpoint after it."""
    usual: float | None = None
    """Seconds that it took in earlier runs (median); None where there were none."""

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:40] or self.kind

    def log_name(self, attempt: int) -> str:
        """``07-web-server.2.log``: the file of one attempt's output in ``steps/``."""
        return f"{self.number:02}-{self.slug}.{attempt}.log"

    def script_name(self, attempt: int) -> str:
        """``07-web-server.2.sh``: the file in ``steps/`` with the text of an attempt and later ones."""
        return f"{self.number:02}-{self.slug}.{attempt}.sh"


class PlannedImage(_Frozen):
    """``virtual_size`` in bytes; ``digest`` is empty in a plan that cannot run, the image being missing."""

    name: str
    file: Path
    format: str
    digest: str
    virtual_size: int
    user: str


class PlannedVm(_Frozen):
    """``memory`` and ``disk`` in bytes; ``time_travel``: empty, or why no snapshots can be taken."""

    uuid: str
    name: str
    mac: str
    cpus: int
    memory: int
    disk: int
    accel: str
    accel_reason: str
    network: str
    firmware: str
    time_travel: str = ""


class PlannedKey(_Frozen):
    """The key after step ``number``, and the digests of what that step adds to it, see `runs.keys`."""

    number: int
    key: str
    parts: dict[str, str]


class PlannedStart(_Frozen):
    """Where a run starts when not from nothing: with step ``after`` done, in a memory snapshot.

    ``kind``: template (``source`` is its key) or checkpoint (``source`` is a VM's uuid). ``run_id`` made it.
    """

    kind: Literal["template", "checkpoint"]
    source: str
    snapshot: str
    after: int
    key: str
    run_id: str
    instance_id: str
    """cloud-init's name for the guest that booted: with another it would start over at the next boot."""


class Break(_Frozen):
    """A place at which the run stands still and asks."""

    number: int
    where: Literal["before", "after"]


class Plan(_Frozen):
    """``plan.json``: immutable. Secrets are named here, never held."""

    schema_: int = Field(SCHEMA, alias="schema")
    run_id: str
    created: str
    vmlab: str
    owner: str
    uri: str
    store: Path
    profile: Profile
    profile_file: Path
    profile_sha: str
    image: PlannedImage
    vm: PlannedVm
    ports: dict[str, int]
    env: dict[str, str]
    secret_names: tuple[str, ...]
    on_pass: str
    on_fail: str
    ttl: float
    max_duration: float
    pause_limit: float
    steps: tuple[PlannedStep, ...]
    checkpoints: Literal["auto", "named", "none"] = "none"
    breaks: tuple[Break, ...] = ()
    budget: int = 0
    """Bytes that templates and the memory in snapshots of the lab may take."""
    keys: tuple[PlannedKey, ...] = ()
    start: PlannedStart | None = None
    why: str = ""
    """Why it starts there, and not later."""

    def breaks_at(self, number: int, where: str) -> bool:
        """Whether to ask a person ``before`` or ``after`` step ``number``."""
        return any(one.number == number and one.where == where for one in self.breaks)

    def marked(self, step: PlannedStep) -> bool:
        """Whether the profile wants a checkpoint after ``step``, and gets one.

        None after a step that is reused: the guest is as after the last of them, and `warm.reuse` takes that.
        """
        wanted = step.checkpoint and self.checkpoints != "none"
        return wanted and not self.vm.time_travel and not self.reused(step.number)

    @property
    def instance_id(self) -> str:
        """What cloud-init calls the guest."""
        return self.start.instance_id if self.start else self.vm.uuid

    @property
    def sha(self) -> str:
        """SHA-256 of the plan's canonical JSON."""
        data: JsonValue = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def step(self, number: int) -> PlannedStep:
        return self.steps[number - 1]

    def key(self, number: int) -> str:
        """The key after step ``number``; empty where it has none."""
        return next((one.key for one in self.keys if one.number == number), "")

    def key_at(self, number: int) -> str:
        """The key of the guest's state after step ``number``: checks and the like do not change it."""
        return next((one.key for one in reversed(self.keys) if one.number <= number), "")

    def reused(self, number: int) -> bool:
        """Whether step ``number`` was done where this run starts from."""
        return self.start is not None and self.phase("cloud-init").number <= number <= self.start.after

    def phase(self, kind: str) -> PlannedStep:
        """The step of a phase that every run has."""
        return next(step for step in self.steps if step.kind == kind)


def plan_steps(profile: Profile) -> tuple[PlannedStep, ...]:
    """Number the opening, the profile's steps and the closing."""
    steps: list[PlannedStep] = []

    def add(kind: str, name: str, timeout: float, **more: object) -> None:
        number = len(steps) + 1
        fields = {"number": number, "kind": kind, "name": name, "timeout": timeout, **more}
        steps.append(PlannedStep.model_validate({"id": f"{number:02}-{kind}", **fields}))

    checks = sum(one.within + CHECK_SECONDS for one in profile.checks)
    phase_seconds = {**_PHASE_SECONDS, "ssh": profile.boot_timeout, "checks": checks or _MARGIN}
    for kind in OPENING:
        add(kind, kind, phase_seconds.get(kind, _MARGIN))
    for index, step in enumerate(profile.steps):
        add(
            step.kind,
            step.name,
            step.timeout,
            index=index,
            component=step.component,
            checkpoint=step.checkpoint,
        )
    for kind in CLOSING:
        add(kind, kind, phase_seconds.get(kind, _MARGIN))
    return tuple(steps)


def breaks_of(steps: Sequence[PlannedStep], wanted: Iterable[str], *, stepwise: bool) -> tuple[Break, ...]:
    """The breaks that ``wanted`` names: ``11``, ``web server``, ``desktop:after``. Raises UsageError."""
    found = [
        Break(number=step.number, where="before") for step in steps if stepwise and step.index is not None
    ]
    for text in wanted:
        name, colon, where = text.rpartition(":")
        if not colon or where not in ("before", "after"):
            name, where = text, "before"
        named = [
            step for step in steps if name in (step.name, str(step.number), f"{step.number:02}", step.id)
        ]
        if not named:
            close = difflib.get_close_matches(name, [step.name for step in steps], 1)
            known = ", ".join(f"{step.number} {step.name}" for step in steps)
            raise UsageError(
                f"--break {text[:80]}: there is no such step",
                hint=f"did you mean '{close[0]}'?" if close else f"the steps: {known}",
            )
        found += [Break.model_validate({"number": step.number, "where": where}) for step in named[:1]]
    return tuple(dict.fromkeys(found))


def write_plan(folder: Path, plan: Plan) -> None:
    write_durably(folder / FILE, plan.model_dump_json(by_alias=True, indent=1) + "\n")


def read_plan(folder: Path) -> Plan:
    """Raises LabError when the plan is missing, damaged or of a newer schema."""
    path = folder / FILE
    try:
        data = json.loads(path.read_bytes())
        if data.get("schema", 0) > SCHEMA:
            raise LabError(f"{path} is of schema {data['schema']}", hint="use the newer vmlab that wrote it")
        return Plan.model_validate(data)
    except (OSError, ValueError, ValidationError) as error:
        raise LabError(f"{path} cannot be read: {error}") from error
