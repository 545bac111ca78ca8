"""Does a command end as it should, and does it print what it should."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from vmlab_tui.checks.fields import Pattern, Script, Seconds, UnixName
from vmlab_tui.checks.params import Params as Base
from vmlab_tui.checks.params import form
from vmlab_tui.checks.result import Verdict
from vmlab_tui.checks.target import Target

MAX_OUTPUT = 1 << 18
"""Bytes of output that are looked at; bounds the work of a regular expression on hostile output."""


class Expect(BaseModel):
    """What must be true of the command's end; all that is given must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"minProperties": 1})

    contains: str | None = Field(None, description="text that its standard output must contain")
    regex: Pattern | None = Field(
        None, description="Python regular expression, searched in its standard output"
    )
    status: Annotated[int, Field(ge=0, le=255)] = Field(0, description="its exit status")

    @model_validator(mode="before")
    @classmethod
    def _something(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value:
            raise ValueError("one or more of contains, regex, status")
        return value


Expectation = Annotated[Annotated[str, Tag("short")] | Annotated[Expect, Tag("full")], Discriminator(form)]


class Params(Base):
    """A shell command, run by /bin/sh."""

    command: Script = Field(description="the command")
    expect: Expectation | None = Field(None, description="text that its output must contain, or a mapping")
    user: UnixName = Field("root", description="who runs it")
    timeout: Seconds = Field(60.0, description="time limit of one try")

    def label(self) -> str:
        first = self.command.strip().splitlines()[0]
        return f"command {first if len(first) <= 60 else first[:57] + '...'}"

    @property
    def wanted(self) -> Expect:
        """``expect`` in its full form."""
        return self.expect if isinstance(self.expect, Expect) else Expect(contains=self.expect)


async def run(params: Params, target: Target, timeout: float) -> Verdict:
    """Run it once."""
    limit = min(timeout, params.timeout)
    done = await target.execute(params.command, timeout=limit, user=params.user)
    wanted = params.wanted
    out = done.out[:MAX_OUTPUT].decode(errors="replace")
    shown = (done.out[-2000:] + done.err[-2000:]).decode(errors="replace")
    if done.status != wanted.status:
        said = f"exit status {done.status}" + (f", not {wanted.status}" if wanted.status else "")
        return Verdict("failed", said, shown)
    if wanted.contains is not None and wanted.contains not in out:
        return Verdict("failed", f"its output does not contain {wanted.contains!r}", shown)
    if wanted.regex is not None and not re.search(wanted.regex, out, re.MULTILINE):
        return Verdict("failed", f"its output does not match /{wanted.regex}/", shown)
    return Verdict("passed", f"exit status {done.status}")
