"""The file a person writes as a profile, and its JSON Schema.

Apart from `model`, because a worker, which only reads plans, does without the many forms of steps and checks.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vmlab_tui.spec.model import Common
from vmlab_tui.spec.shape import CheckEntry, StepEntry


class ProfileFile(Common):
    """A provisioning profile: an image, a VM, steps that provision it and checks that prove it."""

    steps: tuple[StepEntry, ...] = Field((), description="what is done in the guest, in order")
    checks: tuple[CheckEntry, ...] = Field((), description="what must be true in the end")


def drop_titles(schema: Any) -> Any:
    """A JSON Schema without pydantic's made-up titles, and with closed mappings where keys are bound."""
    if isinstance(schema, list):
        return [drop_titles(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {
        key: drop_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    if "patternProperties" in out:
        out.setdefault("additionalProperties", False)
    return out


def profile_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a profile as people write it, for editors.

    It accepts what the loader accepts, but for what a schema cannot see: files that must exist inside the
    profile's folder, and a variable that is named both in ``env`` and in ``required`` or ``secret``.
    """
    made: dict[str, Any] = drop_titles(ProfileFile.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "vmlab profile", **made}
