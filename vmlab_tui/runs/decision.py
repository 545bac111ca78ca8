"""What a person answers to a run that stands still and asks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vmlab_tui.base.text import clean_line
from vmlab_tui.journal.events import PauseWhy
from vmlab_tui.runs.plan import PlannedStep

Do = Literal["retry", "back", "skip", "continue"]


class Decision(BaseModel):
    """What a person answers. ``to``: a checkpoint's name (back; empty: the newest before the step).

    ``sha``: the `runs.keys.digest` of the text that the step shall have from now on, which lies in the run's
    ``steps/`` under the step's `script_name` for its next attempt; empty: the text stays.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    do: Do
    to: str = Field("", max_length=200)
    sha: str = ""
    by: str = "someone"

    @property
    def text(self) -> str:
        """In words, for the journal."""
        where = f" to '{clean_line(self.to, 80)}'" if self.to else ""
        edited = " with another text" if self.sha else ""
        return f"{self.do}{where}{edited}, asked by {self.by}"


@dataclass
class Pause:
    """Whether the run is asked to pause, and while it stands still, the answer that is waited for."""

    wanted: str = ""
    """Who asked for a pause; empty: nobody."""
    step: PlannedStep | None = None
    why: PauseWhy = "failed"
    answer: asyncio.Future[Decision] | None = field(default=None, repr=False)
