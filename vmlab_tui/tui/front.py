"""The person's side of a verb, in the TUI."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from vmlab_tui.tui.backend import Backend
from vmlab_tui.verbs.verb import Interrupt

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vmlab_tui.lab.context import Lab
    from vmlab_tui.runs.client import RunView

_KEEP = 2000
"""Lines of an activity that are kept."""


@dataclass(eq=False)
class Activity:
    """A verb at work, as people see it."""

    title: str
    begun: float = field(default_factory=time.monotonic)
    status: str = ""
    lines: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    over: bool = False
    cancel: Callable[[], object] = lambda: None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def say(self, line: str) -> None:
        self.lines.append(line)
        del self.lines[:-_KEEP]


class Person(Protocol):
    """What a front needs of the app; all of it runs on the drawing loop."""

    def activity_said(self, activity: Activity, line: str) -> None: ...

    def activity_status(self, activity: Activity) -> None: ...

    def ask(self, question: str, loses: Sequence[str]) -> Coroutine[None, None, bool]: ...

    def hand_over(self, argv: Sequence[str]) -> Coroutine[None, None, int]: ...

    def open_run(self, run_id: str) -> Coroutine[None, None, None]: ...


class ScreenFront:
    """Implements `verbs.verb.Front`; its methods are called on the backend's loop."""

    def __init__(self, person: Person, backend: Backend, activity: Activity) -> None:
        self._person = person
        self._backend = backend
        self._activity = activity

    interactive = True
    on_terminal = True

    @property
    def colour(self) -> bool:
        return not os.environ.get("NO_COLOR")

    def say(self, line: str) -> None:
        self._backend.to_ui(self._person.activity_said, self._activity, line)

    def status(self, line: str) -> None:
        self._activity.status = line
        self._backend.to_ui(self._person.activity_status, self._activity)

    def write(self, text: str) -> None:
        self._activity.written.append(text)

    async def confirm(self, question: str, loses: Sequence[str] = ()) -> bool:
        return await self._backend.from_ui(lambda: self._person.ask(question, tuple(loses)))

    async def terminal(self, argv: Sequence[str]) -> int:
        return await self._backend.from_ui(lambda: self._person.hand_over(argv))

    async def follow(self, lab: Lab, run_id: str, interrupt: Interrupt) -> RunView:
        """Open the run's screen and return at once: there it is followed for as long as it is open."""
        from vmlab_tui.runs import client

        await self._backend.from_ui(lambda: self._person.open_run(run_id))
        return client.get_run(lab, run_id)
