"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """One look at the guest: ``detail`` in one line, ``evidence`` what was seen (a few lines).

    Both may hold guest text as it came; it is cleaned when it becomes a CheckResult. ``failed``: the guest is
    not as wanted; ``error``: it could not be found out.
    """

    state: State
    detail: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class CheckResult:
    """The last verdict on one check; ``seconds`` from first to last try. All text is clean and short."""

    check: str
    component: str | None
    state: State
    seconds: float
    detail: str
    evidence: str
    tries: int = 1
