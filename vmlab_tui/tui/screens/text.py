"""A longer result of a verb, to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.tui.widgets.keyline import KeyLine


class TextScreen(Screen[None]):
    """A title and lines; ``esc`` goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "app.pop_screen", "back")]

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._head = clean_line(title)
        self._text = clean("\n".join(lines))

    def compose(self) -> ComposeResult:
        yield Static(Content(f" {self._head}"), classes="title")
        with VerticalScroll():
            yield Static(Content(self._text), id="text")
        yield KeyLine()
