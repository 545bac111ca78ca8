"""All check kinds, one check of a profile, and how it is carried out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_validator

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.checks.kinds import command, file, package, port, service, user
from vmlab_tui.checks.params import Params
from vmlab_tui.checks.result import CheckResult, Verdict
from vmlab_tui.checks.target import Target

TRY_LIMIT = 120.0
"""Seconds that one look at the guest may take at most."""
PAUSE = 0.5
"""Seconds between two tries of a check with ``within``."""


@dataclass(frozen=True)
class Kind:
    """A check kind. ``short``: the field that is meant when a person writes ``- service: web``.

    ``flat``: fields that stand beside the kind's key rather than in a mapping under it.
    """

    name: str
    params: type[Params]
    short: str
    run: Callable[[Any, Target, float], Awaitable[Verdict]]
    flat: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("service", service.Params, "name", service.run),
        Kind("port", port.Params, "port", port.run),
        Kind("command", command.Params, "command", command.run, flat=("expect", "user", "timeout")),
        Kind("file", file.Params, "path", file.run),
        Kind("package", package.Params, "name", package.run),
        Kind("user", user.Params, "name", user.run),
    )
}


class CheckSpec(BaseModel):
    """One check of a profile. ``within``: seconds in which it may become true; 0 looks once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    params: SerializeAsAny[Params]
    name: str = ""
    component: str | None = None
    within: float = Field(0.0, ge=0)

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in KINDS:
            raise ValueError(f"one of {', '.join(KINDS)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, value: Any) -> Any:
        """Make ``params`` the model of its kind, also when read back from JSON."""
        if isinstance(value, dict) and isinstance(value.get("params"), dict) and value.get("kind") in KINDS:
            model = KINDS[value["kind"]].params
            return {**value, "params": model.model_validate(value["params"])}
        return value

    @property
    def label(self) -> str:
        """The check in one line: the name it was given, else what it looks at."""
        return clean_line(self.name or self.params.label(), 120)


async def run_check(spec: CheckSpec, target: Target, deadline: Deadline) -> CheckResult:
    """Carry out one check, again and again while its ``within`` and ``deadline`` allow, until it passes.

    Never raises for what happens in the guest: a lost connection or a command that hangs is the state
    ``error`` with its reason.
    """
    kind = KINDS[spec.kind]
    start = time.monotonic()
    window = Deadline(min(spec.within, deadline.left))
    tries = 0
    while True:
        tries += 1
        # a try that began in time may finish: `within` bounds when the last try begins
        verdict = await _try(kind, spec.params, target, deadline.part(TRY_LIMIT))
        if verdict.state == "passed" or window.left <= PAUSE or deadline.expired:
            break
        await asyncio.sleep(PAUSE)
    seconds = time.monotonic() - start
    detail = verdict.detail
    if verdict.state != "passed" and tries > 1:
        detail = f"{detail}; still so after {seconds:.0f} s ({tries} tries)"
    evidence = "" if verdict.state == "passed" else _few_lines(verdict.evidence)
    return CheckResult(
        spec.label, spec.component, verdict.state, round(seconds, 3), clean_line(detail, 300), evidence, tries
    )


async def _try(kind: Kind, params: Params, target: Target, timeout: float) -> Verdict:
    if timeout <= 0:
        return Verdict("error", "there was no time left for it")
    try:
        return await asyncio.wait_for(kind.run(params, target, timeout), timeout + 5)
    except DeadlineError as error:
        return Verdict("failed", str(error))
    except TimeoutError:
        return Verdict("error", f"no answer within {timeout:.0f} s")
    except LabError as error:
        return Verdict("error", str(error))


def _few_lines(text: str, lines: int = 12, width: int = 200) -> str:
    """The last lines of what was seen, clean, as much as fits a report."""
    kept = [line for line in clean(text[-20_000:]).splitlines() if line.strip()][-lines:]
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in kept)
