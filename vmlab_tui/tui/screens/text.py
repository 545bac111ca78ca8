"""A longer result of a verb, to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.logs.source import LinesSource
from vmlab_tui.tui.text import fit
from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.logview import LogView


class TextScreen(Screen[None]):
    """A title and lines, which can be searched and wrapped like a log; ``esc`` goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "app.pop_screen", "back", tooltip="Back to what was there")
    ]

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._head = clean_line(title)
        self._source = LinesSource()
        for line in lines:
            self._source.append(line)

    def compose(self) -> ComposeResult:
        yield Static(Content(f" {self._head}"), classes="title", id="title")
        yield LogView(marks=False)
        yield KeyLine()

    def on_mount(self) -> None:
        view = self.query_one(LogView)
        view.show(self._source)
        view.focus()
        self.call_after_refresh(view.action_top)

    def on_log_view_status(self, event: LogView.Status) -> None:
        """The message of a search stands at the right end of the title."""
        message = event.status.message
        room = self.size.width - 1 - (cell_len(message) + 2 if message else 0)
        told = f" {fit(self._head, room)} {message}" if message else f" {self._head}"
        self.query_one("#title", Static).update(Content(told))
