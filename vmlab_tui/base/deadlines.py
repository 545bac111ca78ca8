"""Deadlines on the monotonic clock, passed down instead of time-outs that add up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from vmlab_tui.base.errors import DeadlineError


@dataclass(frozen=True)
class Deadline:
    """A point in time that work must not pass. ``seconds`` is the whole allowance."""

    seconds: float
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.start + self.seconds - time.monotonic())

    @property
    def expired(self) -> bool:
        return self.left <= 0

    def part(self, seconds: float) -> float:
        """The smaller of ``seconds`` and what is left: a time-out for one call under this deadline."""
        return min(seconds, self.left)

    def check(self, what: str) -> None:
        """Raise :class:`DeadlineError` naming ``what`` once the time is over."""
        if self.expired:
            raise DeadlineError(f"{what}: not done within {self.seconds:g} s")
