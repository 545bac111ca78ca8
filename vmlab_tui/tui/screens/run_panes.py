"""The line above a run's log: which of its logs is shown, and what of it."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from vmlab_tui.tui.text import fit

PANES: tuple[tuple[str, str], ...] = (
    ("step", "Step log"),
    ("console", "Console"),
    ("cloud-init", "cloud-init"),
    ("journal", "Journal"),
)
"""(id, name) of a run's logs, in the order in which tab goes through them."""


def put(widget: Static, content: Content, *, layout: bool = False) -> None:
    """Show ``content`` unless it is there already: news of a run come many times a second."""
    now = widget.content
    if not (isinstance(now, Content) and (now.plain, now.spans) == (content.plain, content.spans)):
        widget.update(content, layout=layout)


class PaneTab(Static):
    """The name of one log; a click shows it."""

    def __init__(self, ident: str, name: str) -> None:
        super().__init__(Content(f" {name} "), classes="pane-tab")
        self.ident = ident
        self._name_shown = name

    def mark(self, here: bool) -> None:
        put(self, Content(f"[{self._name_shown}]" if here else f" {self._name_shown} "))
        self.set_class(here, "here")

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(PaneLine.Picked(self.ident))


class PaneLine(Widget):
    """Names of the logs, the one that is shown in brackets; on the right what is shown of it."""

    DEFAULT_CSS: ClassVar[str] = """
    PaneLine {
        height: 1; layout: horizontal; background: $panel;
        PaneTab { width: auto; color: $text-muted; }
        PaneTab.here { color: $text; text-style: bold; }
        #pane-title { width: 1fr; text-align: right; color: $text-muted; padding: 0 1; }
    }
    """

    class Picked(Message):
        """A click on a log's name."""

        def __init__(self, ident: str) -> None:
            super().__init__()
            self.ident = ident

    def __init__(self) -> None:
        super().__init__()
        self._said = ("", "", "")

    def compose(self) -> ComposeResult:
        for ident, name in PANES:
            yield PaneTab(ident, name)
        yield Static("", id="pane-title")

    def show(self, here: str, title: str, more: str = "", status: str = "") -> None:
        """``title``: what is shown; ``more`` and ``status``: which part of it, and how; the title is cut
        first when there is no room for all."""
        for tab in self.query(PaneTab):
            tab.mark(tab.ident == here)
        self._said = (title, more, status)
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        title, *rest = self._said
        room = self.size.width - sum(len(name) + 2 for _, name in PANES) - 2
        kept = []
        for text in rest:
            if text and len(text) <= room:
                kept.append(text)
                room -= len(text) + 2
        shown = fit(title, min(room, cell_len(title))) if room > 8 else ""
        told = "  ".join(one for one in (shown, *kept) if one)
        put(self.query_one("#pane-title", Static), Content(told))
