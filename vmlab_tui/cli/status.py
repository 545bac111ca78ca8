"""What is going on while somebody waits: one line that is redrawn, or now and then a line that stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vmlab_tui.base.units import duration
from vmlab_tui.cli.style import Style
from vmlab_tui.verbs.words import cut

if TYPE_CHECKING:
    import asyncio

_EVERY = 10.0
"""Seconds between two lines of the same phase where lines stay."""


class Status:
    """Lines such as ``image debian-12: packages: extracting``: a phase (two words of it), then a detail.

    On a terminal the present line is redrawn with the phase's time; a phase that is over stays as one line.
    """

    def __init__(self, style: Style, clock: Callable[[], float] = time.monotonic) -> None:
        self._style = style
        self._clock = clock
        self._line = self._phase = ""
        self._begun = self._since = clock()
        self._said = 0.0
        self._ticking: asyncio.Task[None] | None = None

    def show(self, line: str) -> None:
        """``line`` is what goes on now."""
        phase = ": ".join(line.split(": ")[:2])
        fresh = phase != self._phase
        if fresh:
            self.close()
            self._phase, self._since = phase, self._clock()
        self._line = line
        if self._style.live:
            if self._ticking is None:
                import asyncio  # late: --help does without it

                self._ticking = asyncio.get_running_loop().create_task(self._tick())
        elif fresh or self._clock() - self._said >= _EVERY:
            self._said = self._clock()
            self._style.print(f"{duration(self._clock() - self._begun):>7} {line}")

    async def _tick(self) -> None:
        import asyncio

        while True:
            self._draw(self._line)
            await asyncio.sleep(0.1)

    def _draw(self, text: str) -> None:
        took = duration(self._clock() - self._since)
        self._style.stream.write("\r\x1b[K" + cut(f"{took:>7} {text}", self._style.columns - 1))
        self._style.stream.flush()

    def close(self) -> None:
        """Nothing goes on now; of the last phase a line stays."""
        if self._ticking:
            self._ticking.cancel()
            self._ticking = None
            self._draw(self._phase)
            self._style.stream.write("\n")
            self._style.stream.flush()
        self._line = self._phase = ""
