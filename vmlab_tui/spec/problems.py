"""What is wrong in a file a person wrote: where, what was found, what is allowed, what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vmlab_tui.base.errors import UsageError

Place = tuple[str | int, ...]
"""Where a value stands in a document: keys and list indexes from the top."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one file. ``line`` and ``column`` count from 1 (0: not in a file).

    ``field`` is ``place`` as a person reads it.
    """

    file: str
    line: int
    column: int
    field: str
    found: str
    allowed: str
    nearest: str = ""
    place: Place = ()

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = []
        if self.found:
            parts.append(f"found {self.found}")
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        text = ": ".join(part for part in (where, self.field, "; ".join(parts)) if part)
        return f"{text}; did you mean '{self.nearest}'?" if self.nearest else text


class SpecErrors(UsageError):
    """All problems of one file at once, in the order of the file; see ``problems``."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda one: (one.line, one.column)))
        count = len(self.problems)
        head = f"{file}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n  ".join([head, *map(str, self.problems)]))


def field_name(place: Place) -> str:
    """``steps[2].copy.from``; keys that do not print plainly are shown escaped."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part if part.isprintable() and 0 < len(part) <= 60 else short(part)
            text += f".{plain}" if text else plain
    return text


def short(value: object, limit: int = 60) -> str:
    """A value as it may be shown: escaped, on one line, at most ``limit`` characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return (
            f"a mapping with {', '.join(short(str(key), 20) for key in list(value)[:5])}" if value else "{}"
        )
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(value if len(value) <= limit else value[: limit - 3] + "...")
    return repr(value)[:limit]


def nearest(word: object, names: Iterable[str]) -> str:
    """The name most like ``word``, or an empty string when none is close."""
    if not isinstance(word, str) or len(word) > 100:
        return ""
    known: Sequence[str] = [name for name in names if name != word]
    by_lower = {name.lower(): name for name in known}
    if word.lower() in by_lower:
        return by_lower[word.lower()]
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""
