"""What a run's screen shows, as tests read it."""

from __future__ import annotations

from textual.widgets import Static

from vmlab_tui.tui.screens.run import RunScreen
from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.rows import Rows

NARROW, WIDE = (80, 24), (120, 40)


def marks(screen: RunScreen) -> dict[str, str]:
    """The state word of every row by its name."""
    return {row.cells[2].text: row.cells[0].text for row in screen.query_one(Rows).rows}


def cursor(screen: RunScreen) -> str:
    row = screen.query_one(Rows).cursor
    return row.key if row else ""


def keys(screen: RunScreen) -> set[str]:
    """The keys that the last line offers."""
    return {key for key, _ in screen.query_one(KeyLine).keys}


def end(screen: RunScreen) -> str:
    widget = screen.query_one("#ending", Static)
    return str(widget.content) if widget.display else ""


def says(widget: Static, text: str) -> bool:
    return text in str(widget.content)


def bindings(screen: RunScreen) -> set[str]:
    return {key for key, active in screen.active_bindings.items() if active.enabled}
