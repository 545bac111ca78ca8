"""Parts of a run's screen: what is said of it in lines, and the line above its log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from vmlab_tui.tui.text import fit

if TYPE_CHECKING:
    from vmlab_tui.tui.runview import Said

PANES: tuple[tuple[str, str], ...] = (
    ("step", "Step log"),
    ("console", "Console"),
    ("cloud-init", "cloud-init"),
    ("journal", "Journal"),
)
"""(id, name) of a run's logs, in the order in which tab goes through them."""

_STYLES = {
    "good": "$text-success",
    "bad": "bold $text-error",
    "warn": "$text-warning",
    "accent": "$text-accent",
    "dim": "$text-muted",
    "first": "bold",
}


def in_a_row(parts: Sequence[Said], room: int) -> Content:
    """As much of it as ``room`` cells hold, the first part bold."""
    pieces: list[Content] = []
    for number, (text, tone) in enumerate(parts):
        shown = fit(text, min(room, cell_len(text))) if room > 0 else ""
        room -= cell_len(shown) + 3
        pieces.append(_said(shown, tone if number else "first"))
    return Content("   ").join(pieces)


def one_below_the_other(lines: Sequence[Said], width: int) -> Content:
    """Each in a line of at most ``width`` cells."""
    return Content("\n").join(_said(fit(text, width).rstrip(), tone) for text, tone in lines)


def _said(text: str, tone: str) -> Content:
    style = _STYLES.get(tone, "")
    return Content.styled(text, style) if style else Content(text)


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
        self._here = ""
        self._urgent = False
        self._said = ("", "", "", "")

    def compose(self) -> ComposeResult:
        for ident, name in PANES:
            yield PaneTab(ident, name)
        yield Static("", id="pane-title")

    def show(
        self,
        here: str,
        title: str,
        more: str = "",
        message: str = "",
        mode: str = "",
        *,
        urgent: bool = False,
    ) -> None:
        """``title``: what is shown; ``more``: which part of it; ``message``: what the last keys have led to;
        ``mode``: how it is shown. The message stays longest when there is no room for all; an ``urgent`` one
        takes the room of the other logs' names."""
        self._here, self._urgent = here, urgent
        for tab in self.query(PaneTab):
            tab.mark(tab.ident == here)
        self._said = (title, more, message, mode)
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        title, more, message, mode = self._said
        names = [(ident, len(name) + 2) for ident, name in PANES]
        room = self.size.width - 2 - sum(size for _, size in names)
        squeezed = self._urgent and cell_len(message) > room
        if squeezed:
            room = self.size.width - 2 - sum(size for ident, size in names if ident == self._here)
        for tab in self.query(PaneTab):
            tab.display = not squeezed or tab.ident == self._here
        put(self.query_one("#pane-title", Static), Content(told(room, title, more, message, mode)))


def told(room: int, title: str, more: str, message: str, mode: str) -> str:
    """As much of it as there is room for, what counts most first: the message, the part, all of the title,
    the mode, some of the title."""
    if room <= 0:
        return ""
    message = fit(message, min(room, cell_len(message)))
    left = room - cell_len(message) - 2 * bool(message)
    kept = {"message": message, "title": "", "more": "", "mode": ""}
    for name, text in (("more", more), ("title", title), ("mode", mode)):
        if text and cell_len(text) <= left:
            kept[name] = text
            left -= cell_len(text) + 2
    if not kept["title"] and left > 8:
        kept["title"] = fit(title, min(left, cell_len(title)))
    return "  ".join(part for part in (kept[name] for name in ("title", "more", "message", "mode")) if part)
