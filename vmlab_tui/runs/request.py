"""What a person asks for when starting a run."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class RunRequest(BaseModel):
    """A profile (path or name) and what shall differ from it. Durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str
    image: str | None = None
    sets: dict[str, str] = {}
    env_names: tuple[str, ...] = ()
    env_file: Path | None = None
    on_pass: str | None = None
    on_fail: str | None = None
    ttl: float | None = None
    max_duration: float | None = None
    accel: str | None = None
    checkpoints: str | None = None
    cold: bool = False
    """Start from nothing, whatever there is to start from."""
    breaks: tuple[str, ...] = ()
    """Where to stand still: a step's number or name, with ``:before`` (the default) or ``:after``."""
    stepwise: bool = False
    name: str | None = None
    interactive: bool = False
    """Started from the TUI, where a failed run may pause and ask."""
