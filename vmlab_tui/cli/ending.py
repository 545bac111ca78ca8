"""The last screen of a followed run: the result, and on a failure all that is needed to go on."""

from __future__ import annotations

from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.cli.render import last_lines
from vmlab_tui.cli.style import Style, indented
from vmlab_tui.runs.client import RunView
from vmlab_tui.verbs.shapes import log_of, next_commands, stopped_at, verdict
from vmlab_tui.verbs.words import commands, cut

_FIXED = 14
"""Rows of the screen that are neither the step's output nor the console."""


def ending(view: RunView, style: Style) -> list[str]:
    """The lines to print when a run is over; together they fit the terminal when it has 24 rows or more."""
    width = style.columns - 1
    lines = verdict(view)
    first, _, rest = lines[0].partition(" ")
    shown = [f"{style.mark(first)} {rest}", *(cut(line, width) for line in lines[1:])]
    if view.state.state == "passed":
        return ["", *shown]
    return ["", *_failure(view, style, width), *shown, *_next(view, width)]


def _next(view: RunView, width: int) -> list[str]:
    return [cut(line, width) for line in commands(next_commands(view))]


def _failure(view: RunView, style: Style, width: int) -> list[str]:
    """The failing step: what it said last, what the console said last."""
    at = stopped_at(view)
    known = view.state.steps.get(at.number) if at else None
    if at is None or known is None:
        return []
    word = "FAIL" if known.state == "failed" else "at"
    told = [line for line in clean(known.detail).splitlines() if line.strip()]
    took = f"  {duration(known.seconds)}" if known.seconds else ""
    head = f" {at.number:02} {clean_line(at.name, 40)}{took}  {clean_line(told[0]) if told else known.stage}"
    out = [style.mark(word) + cut(head, width - len(word))]
    room = max(8, min(style.rows, 40) - _FIXED)
    bad = [check for check in view.state.checks if check.state not in ("passed", "skipped")]
    if bad and at.kind == "checks":
        texts = [f"{check.check}: {check.detail}" for check in bad]
        out += indented([clean_line(text) for text in texts[:room]], "   - ", width)
        return out
    said = last_lines(log_of(view, at), room - 3)
    if not said:
        said = told[1:room]
    console = last_lines(view.folder / "console.log", max(3, room - len(said)))
    out += indented(said, "   | ", width)
    if console:
        out += [style.dim("console"), *indented(console, "   : ", width)]
    return out
