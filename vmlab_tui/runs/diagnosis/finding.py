"""What a rule comes to, and how rules read what a step said."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from vmlab_tui.base.text import clean_line
from vmlab_tui.runs.diagnosis.evidence import Evidence


class Weight(IntEnum):
    """How directly a fault explains the failure; the smallest is named as the cause."""

    SAID = 0
    """The failing step says so itself, or could not end because of it."""
    NOW = 1
    """The state now would explain it."""
    BESIDE = 2
    """True, but nothing connects it with the failure: never a cause."""


@dataclass(frozen=True)
class Finding:
    """One fault: a stable name for programs, the cause in one line, the evidence, what to do next."""

    fault: str
    cause: str
    why: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    weight: Weight = Weight.NOW

    @classmethod
    def of(
        cls, fault: str, cause: str, why: Iterable[str] = (), todo: Iterable[str] = (), *, weight: Weight
    ) -> Finding:
        """The same from texts of any origin, cut to lines of a screen."""
        lines = dict.fromkeys(clean_line(line, 240) for line in why if line.strip())
        return cls(fault, clean_line(cause, 240), tuple(lines)[:8], tuple(todo), weight)


NEAR = 40
"""Lines before a step's end in which its cause is looked for. What is further up was survived."""
LAST = 2
"""The same for messages that scripts often live on after: only the very last lines count."""


def said(evidence: Evidence, pattern: re.Pattern[str], near: int = NEAR) -> list[re.Match[str]]:
    """The matches in the last ``near`` lines of the step's own words, oldest first; none without a step."""
    if evidence.step is None:
        return []
    return [found for line in evidence.step.lines[-near:] if (found := pattern.search(line))]


def now(evidence: Evidence) -> Weight:
    """The weight of a fault of the guest's present that no word of the step speaks of: without a step there
    is nothing else to explain."""
    return Weight.BESIDE if evidence.step else Weight.NOW


def machine(evidence: Evidence) -> Weight:
    """The weight of a fault of the machine: a step that came to an end of its own did not end of it."""
    if evidence.step is None:
        return Weight.NOW
    return Weight.SAID if evidence.unfinished else Weight.BESIDE


def lines_of(matches: Iterable[re.Match[str]]) -> list[str]:
    """The lines that the matches were found in, the last three."""
    return [found.string for found in matches][-3:]
