"""Values as people read them in a terminal of 80 columns: tables, ages, next commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from vmlab_tui.base.units import span

SHA = 12
"""Digits of a digest that people are shown."""


def table(rows: Iterable[Sequence[str]], *, head: Sequence[str] = (), indent: str = "") -> tuple[str, ...]:
    """Rows with their columns aligned, two spaces apart; the last column is not padded.

    Without rows: nothing, not even the head.
    """
    body = [list(row) for row in rows]
    if not body:
        return ()
    lines = [list(head), *body] if head else body
    widths = [max(len(row[at]) for row in lines) for at in range(len(lines[0]))]
    return tuple(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in lines
    )


def moment(text: str | None) -> datetime | None:
    """A time as our files write it (ISO 8601 in UTC); None for nothing or nonsense."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def age(text: str | None) -> str:
    """``12 min`` since then; ``-`` when unknown."""
    when = moment(text)
    return span((datetime.now(UTC) - when).total_seconds()) if when else "-"


def left(text: str | None) -> str:
    """``22 h left`` or ``expired 3 h ago``; ``-`` when there is no limit."""
    when = moment(text)
    if when is None:
        return "-"
    seconds = (when - datetime.now(UTC)).total_seconds()
    return f"{span(seconds)} left" if seconds >= 0 else f"expired {span(-seconds)} ago"


def local(text: str | None) -> str:
    """``2026-01-02 13:14`` in the local time zone."""
    when = moment(text)
    return when.astimezone().strftime("%Y-%m-%d %H:%M") if when else "-"


def cut(text: str, width: int) -> str:
    """At most ``width`` characters, the end marked when something is missing."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def commands(pairs: Iterable[tuple[str, str]], *, indent: str = "  ") -> tuple[str, ...]:
    """Next commands with what each is for."""
    return table(pairs, indent=indent)
