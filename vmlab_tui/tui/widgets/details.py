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
        width: 2fr; min-width: 34; padding: 0 1; border-left: solid $panel;
        &:focus { border-left: solid $primary; }
        #details-title { text-style: bold; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Static("", id="details-title")
        yield Static("", id="details-text")

    def show(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        """``lines``: (label, text)."""
        wide = max((len(label) for label, _ in lines), default=0)
        parts: list[Content] = []
        for label, text in lines:
            tone = "$text-error" if label == "problem" else ""
            parts.append(
                Content.assemble((label.ljust(wide), "$text-muted"), "  ", (text, tone) if tone else text)
            )
        self.query_one("#details-title", Static).update(Content(title))
        self.query_one("#details-text", Static).update(Content("\n").join(parts))
