"""The pane beside a list: what is known of the row under the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static


class Details(VerticalScroll, can_focus=True):
    """A title and lines with labels; what is shown has been cleaned."""

    DEFAULT_CSS = """
    Details {
        width: 2fr; min-width: 34; padding: 0 1; border-left: solid $panel; scrollbar-gutter: stable;
        &:focus { border-left: solid $primary; }
        #details-title { text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = ""
        self._lines: tuple[tuple[str, str], ...] = ()

    def compose(self) -> ComposeResult:
        yield Static("", id="details-title")
        yield Static("", id="details-text")

    def show(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        """``lines``: (label, text); an empty label goes on with what stands above."""
        if (title, tuple(lines)) != (self._title, self._lines):
            self._title, self._lines = title, tuple(lines)
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        wide = max((len(label) for label, _ in self._lines), default=0)
        room = max(8, self.scrollable_content_region.width - wide - 2)
        parts: list[Content] = []
        for label, text in self._lines:
            tone = "$text-error" if label == "problem" else ""
            for number, piece in enumerate(Content(text).wrap(room) or [Content("")]):
                head = (label if not number else "").ljust(wide)
                told = (piece.plain, tone) if tone else piece.plain
                parts.append(Content.assemble((head, "$text-muted"), "  ", told))
        self.query_one("#details-title", Static).update(Content(self._title))
        self.query_one("#details-text", Static).update(Content("\n").join(parts))
