"""What every check kind is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Base of the parameters of a check kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def label(self) -> str:
        """One line that names the check, made of what was written."""
        raise NotImplementedError


def form(value: Any) -> str:
    """Whether a person wrote the short form of something (a word or number) or the full one (a mapping)."""
    return "full" if isinstance(value, Mapping | BaseModel) else "short"
