"""The person's side of a verb, in the TUI."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.backend import Backend
from vmlab_tui.verbs.verb import Interrupt

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vmlab_tui.lab.context import Lab
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.tui.logs.source import LinesSource


@dataclass(eq=False)
class Phase:
    """A part of an activity; ``ended`` is None while it goes on."""

    name: str
    detail: str = ""
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.begun


@dataclass(eq=False)
class Activity:
    """A verb at work, as people see it. ``state``: at work, cancelling, then done, failed or cancelled.

    ``problem`` is why it failed, with what to do about it.
    """

    title: str
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None
    status: str = ""
    state: str = "at work"
    problem: tuple[str, str] = ("", "")
    phases: list[Phase] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    cancel: Callable[[], object] = lambda: None

    @cached_property
    def log(self) -> LinesSource:
        """What was said, and what the programs at work wrote."""
        from vmlab_tui.tui.logs.source import LinesSource

        return LinesSource()

    @property
    def over(self) -> bool:
        return self.ended is not None

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.begun

    def enter(self, name: str, detail: str = "") -> None:
        """A phase begins, or the one in hand has another detail."""
        if self.phases and self.phases[-1].name == name:
            self.phases[-1].detail = detail
            return
        self._close()
        self.phases.append(Phase(name, detail))

    def end(self, state: str) -> None:
        """It is over."""
        self.state = state
        self.ended = time.monotonic()
        self._close()

    def _close(self) -> None:
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].ended = time.monotonic()


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

    def phase(self, name: str, detail: str = "") -> None:
        self._activity.enter(clean_line(name, 60), clean_line(detail))

    def output(self, line: str) -> None:
        self._activity.log.append(line)

    def write(self, text: str) -> None:
        self._activity.written.append(text)

    async def confirm(self, question: str, loses: Sequence[str] = ()) -> bool:
        return await self._backend.from_ui(lambda: self._person.ask(question, tuple(loses)))

    async def terminal(self, argv: Sequence[str]) -> int:
        return await self._backend.from_ui(lambda: self._person.hand_over(argv))

    async def program(self, argv: Sequence[str]) -> int:
        return await self.terminal(argv)

    async def follow(self, lab: Lab, run_id: str, interrupt: Interrupt) -> RunView:
        """Open the run's screen and return at once: there it is followed for as long as it is open."""
        from vmlab_tui.runs import client

        await self._backend.from_ui(lambda: self._person.open_run(run_id))
        return client.get_run(lab, run_id)
