"""What a person asks for when starting a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunRequest:
    """A profile (path or name) and what shall differ from it. Durations in seconds."""

    profile: str
    image: str | None = None
    sets: Mapping[str, str] = field(default_factory=dict)
    env_names: tuple[str, ...] = ()
    env_file: Path | None = None
    on_pass: str | None = None
    on_fail: str | None = None
    ttl: float | None = None
    max_duration: float | None = None
    accel: str | None = None
    name: str | None = None
    interactive: bool = False
    """Started from the TUI, where a failed run may pause and ask."""
