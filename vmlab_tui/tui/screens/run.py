"""One run: its steps on the left, what they say on the right."""

from __future__ import annotations

from vmlab_tui.tui.screens.base import VerbScreen


class RunScreen(VerbScreen):
    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
