"""The first line of every area: the areas with their keys, the host's state, what is going on."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from vmlab_tui.tui.text import fit


class Tab(Static):
    """One area's name; a click goes there."""

    def __init__(self, number: int, ident: str, name: str, here: bool) -> None:
        mark = f"[{number} {name}]" if here else f" {number} {name} "
        super().__init__(Content(mark), classes="tab here" if here else "tab")
        self.ident = ident

    async def on_click(self, event: events.Click) -> None:
        event.stop()
        await self.app.run_action(f"app.area('{self.ident}')")


class TabLine(Widget):
    """``areas``: (id, name) of those that work; ``here``: the id of the one that is shown."""

    DEFAULT_CSS = """
    TabLine {
        height: 1; layout: horizontal; background: $panel; color: $text;
        Tab { width: auto; color: $text-muted; }
        Tab.here { color: $text; text-style: bold; }
        #state { width: 1fr; text-align: right; padding-right: 1; }
    }
    """

    def __init__(self, areas: Sequence[tuple[str, str]], here: str) -> None:
        super().__init__()
        self._areas = areas
        self._here = here

    def compose(self) -> ComposeResult:
        for number, (ident, name) in enumerate(self._areas, 1):
            yield Tab(number, ident, name, ident == self._here)
        yield Static("", id="state")

    def show(self, parts: Sequence[tuple[str, str]]) -> None:
        """What stands on the right: (text, style of the theme, such as ``$text-error``)."""
        room = self.size.width - sum(len(f" {n} {name} ") for n, (_, name) in enumerate(self._areas, 1)) - 2
        pieces: list[Content] = []
        for text, tone in parts:
            shown = text if len(text) <= room else fit(text, max(0, room))
            room -= len(shown) + 2
            if room < -2:
                break
            pieces.append(Content.styled(shown + "  ", tone) if tone else Content(shown + "  "))
        self.query_one("#state", Static).update(Content("").join(pieces).rstrip())
