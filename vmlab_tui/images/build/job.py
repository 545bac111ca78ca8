"""What the builder hands to the part of it that runs in its own namespaces."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vmlab_tui.spec.recipe import Recipe


class Job(BaseModel):
    """``sources`` are lines of a sources.list. ``memory``: bytes of a tmpfs for the root, or 0 for none."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    sources: tuple[str, ...]
    guest_sources: str
    apt_settings: str
    memory: int = 0
