"""Types of single values that people write in profiles, with the same rule for loader and JSON Schema.

Each says in words what is allowed; the message of its ValueError is that text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from vmlab_tui.base.units import parse_duration, parse_size

_DURATION = r"(?=.*[1-9])[0-9]+(\.[0-9]+)?(ms|s|m|h|d)( ?[0-9]+(\.[0-9]+)?(ms|s|m|h|d))*"
_SIZE = r"(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,3})? ?([KMGT](i?B)?|B)"


def _whole(pattern: str) -> str:
    """The pattern for the whole text in every dialect (Python's ``$`` also matches before a last newline)."""
    return f"^(?:{pattern})$(?!\\n)"


@dataclass(frozen=True)
class Matching:
    """A string that matches ``pattern`` as a whole; ``allowed`` says so in words."""

    pattern: str
    allowed: str

    def check(self, value: str) -> str:
        if not re.search(_whole(self.pattern), value):
            raise ValueError(self.allowed)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": _whole(self.pattern)}


@dataclass(frozen=True)
class _Measured:
    """A number with a unit (see the pattern), or a plain number above 0; becomes a number."""

    pattern: str
    allowed: str
    whole: bool

    def check(self, value: Any) -> Any:
        number: float | int
        if isinstance(value, str) and re.search(_whole(self.pattern), value):
            number = parse_size(value.replace(" ", "")) if self.whole else parse_duration(value)
        elif isinstance(value, int if self.whole else int | float) and not isinstance(value, bool):
            number = value
        else:
            raise ValueError(self.allowed)
        if not number > 0:
            raise ValueError(self.allowed)
        return number if self.whole else float(number)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number = {"type": "integer" if self.whole else "number", "exclusiveMinimum": 0}
        return {"anyOf": [{"type": "string", "pattern": _whole(self.pattern)}, number]}


class _Same:
    """Added to a Literal of one value: Python takes true for 1 and 1 for true, JSON and people do not."""

    def check(self, value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        made = handler(value)
        if type(made) is not type(value):
            handler("neither")  # raises the Literal's own error
        return made

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self.check, handler(source))


class _AsText:
    """Text, or a number or truth value that becomes text: what an environment variable may be."""

    def check(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str | int | float):
            return str(value)
        raise ValueError("text or a number (a value from the caller: list its name under required)")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}


class _Regex:
    """A regular expression that compiles."""

    def check(self, value: str) -> str:
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"a regular expression ({error})") from error
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "format": "regex"}


Pattern = Annotated[str, _Regex()]
One = Annotated[Literal[1], _Same()]
Yes = Annotated[Literal[True], _Same()]
Seconds = Annotated[float, _Measured(_DURATION, "a duration above 0 such as 30s, 2m or 1h30m", False)]
"""Seconds; people write ``30s``, ``2m``, ``1h30m`` or a number of seconds."""

Bytes = Annotated[int, _Measured(_SIZE, "a size above 0 such as 1GiB, 512MiB or 20GB", True)]
"""Bytes; people write ``1GiB``, ``512M`` (binary), ``20GB`` (decimal) or a number of bytes."""

Name = Annotated[
    str,
    Matching(
        r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
        "a name of letters, digits, '.', '_', '-', at most 63, first a letter or digit",
    ),
]
# control characters (C0, C1), line separators, and what turns the direction of text
_UNSEEN = r"\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069"
Line = Annotated[str, Matching(f"[^{_UNSEEN}]{{0,1000}}", "one line of text without control characters")]
Label = Annotated[
    str,
    Matching(
        f"[^\\s{_UNSEEN}]([^{_UNSEEN}]{{0,198}}[^\\s{_UNSEEN}])?",
        "one line of text, at most 200 characters, without control characters or spaces around it",
    ),
]
"""What a person calls a step, check or component."""

Port = Annotated[int, Field(ge=1, le=65535)]
UnixName = Annotated[
    str,
    Matching(r"[a-z_][a-z0-9_-]{0,31}", "a user or group name such as lab: a-z, 0-9, '_', '-'"),
]
GuestPath = Annotated[str, Matching(r"/[^\u0000-\u001f\u007f]*", "an absolute path in the guest (/srv/site)")]
EnvName = Annotated[
    str, Matching(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "a variable's name: letters, digits, '_', first no digit")
]
EnvText = Annotated[str, _AsText()]
Unit = Annotated[
    str,
    Matching(
        r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]{0,199}", "a systemd unit such as web, web.service or getty@tty1"
    ),
]
Package = Annotated[
    str,
    Matching(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,127}(:[a-z0-9-]+)?", "a package's name such as curl or g++"),
]
Script = Annotated[str, Matching(r"[\s\S]*\S[\s\S]*", "a command that is not empty")]
