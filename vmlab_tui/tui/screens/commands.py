"""`@`: the commands that were really run, as one would type them."""

from __future__ import annotations

from vmlab_tui.tui.screens.text import TextScreen


class CommandsScreen(TextScreen):
    def __init__(self) -> None:
        super().__init__("commands really run", [])
