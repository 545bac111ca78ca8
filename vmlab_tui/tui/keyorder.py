"""Keys one after the other: each is handled to its end before the next one is looked at.

Textual hands a key to the widget that has the focus *when the key is read*, lets it bubble up, and looks
for its binding *when it has arrived at the top*. Of keys that come in one go (typed ahead on a slow line,
sent by a macro) some overtake others: letters typed after ``tab`` go to the field before, ``ctrl+u`` deletes
what was typed after it, ``ctrl+s`` reads a field before the letters are in it.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque

from textual import events
from textual.app import App, ScreenStackError
from textual.message import Message
from textual.message_pump import MessagePump
from textual.timer import Timer

_ROUNDS = 2
"""Ways from the focused widget up to the app: the key's own, and the one of what its action sent (a value has
changed, a line was submitted)."""

_LONGEST = 0.5
"""Seconds after which a key that is not through yet, on a screen that is busy, holds up the next no more."""


_REPEATED = ("up", "down", "pageup", "pagedown")
"""Keys that are held down: they do not wait for themselves, so that a list is drawn once for many of them."""


class Passed(Message):
    """Sent after a key on the way that it takes: when it arrives, the key did."""

    def __init__(self, turn: int, rounds: int) -> None:
        super().__init__()
        self.turn = turn
        self.rounds = rounds


class OrderedKeys(App[None]):
    """Holds back keys and pasted text as long as the ones before are under way."""

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._held: deque[events.Event] = deque()
        self._repeated = ""
        self._turn = 0
        self._under_way = False
        self._asked: MessagePump | None = None
        self._since = 0.0
        self._looking: Timer | None = None

    async def on_event(self, event: events.Event) -> None:
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        if (
            self._under_way
            and not self._held
            and isinstance(event, events.Key)
            and event.key == self._repeated
        ):
            await super().on_event(event)
            self._send(_ROUNDS)
            return
        self._held.append(event)
        if self._under_way:
            self._look_later()
        elif self._top() is not None and self.focused is None:
            self._send(1)  # a screen that has just come knows only soon which of its widgets has the focus
        else:
            await self._next()

    def _top(self) -> MessagePump | None:
        try:
            return self.focused or self.screen
        except ScreenStackError:
            return None

    async def _next(self) -> None:
        self._under_way = False
        if self._held:
            event = self._held.popleft()
            self._repeated = event.key if isinstance(event, events.Key) and event.key in _REPEATED else ""
            await super().on_event(event)
            self._send(_ROUNDS)

    def _send(self, rounds: int) -> None:
        self._turn += 1
        self._since = time.monotonic()
        self._pass_on(rounds)

    def _pass_on(self, rounds: int) -> None:
        self._asked = self._top()
        self._under_way = True
        (self._asked or self).post_message(Passed(self._turn, rounds))

    async def on_passed(self, message: Passed) -> None:
        message.stop()
        if message.turn != self._turn or not self._under_way:
            return
        if message.rounds > 1:
            self._pass_on(message.rounds - 1)
            return
        if not self._held:
            self._paint()
        await self._next()

    def _paint(self) -> None:
        """Draw at once what the last key has changed. Textual would do it when its clock ticks next, which is
        up to 25 ms later if something else has just been drawn."""
        with contextlib.suppress(ScreenStackError):
            screen = self.screen
            with screen._context():
                screen._on_timer_update()

    def _look_later(self) -> None:
        if self._looking is None:
            self._looking = self.set_timer(0.02, self._look)

    async def _look(self) -> None:
        """Go on where the widget that was asked is gone, or does not answer."""
        self._looking = None
        if not self._held or not self._under_way:
            return
        gone = self._asked is None or not self._asked.is_attached or not self._asked.is_running
        if gone or time.monotonic() - self._since > _LONGEST:
            self._turn += 1
            await self._next()
        if self._held:
            self._look_later()
