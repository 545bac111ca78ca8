"""The thread that reads a log for a view, so that no disk is waited for where things are drawn."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from vmlab_tui.tui.logs.source import LogSource
from vmlab_tui.tui.logs.tidy import Line

TELL = 1 / 15
"""Seconds between two tellings of news."""
TELL_RUSHING = 1 / 7
"""The same while lines rush by."""
_RUSH = 500
"""Lines between two tellings from which on they rush by."""
_KEEP = 2000
_GONE = Line("")


class Reader:
    """Reads one source at a time. All methods are called on the drawing loop and do not wait.

    ``changed`` is called there when there are more or other lines than before, at most 15 times a second,
    and when lines have come that :meth:`lines` had to do without.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cond = threading.Condition()
        self._source: LogSource | None = None
        self._cache: dict[int, tuple[Line, int]] = {}
        self._asked: tuple[int, int] | None = None
        self._awaited = False
        self._poke = False
        self._ended = False
        self.tail = 0
        """So many lines at the end are kept ready."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._main, name="log reader", daemon=True).start()

    def stop(self) -> None:
        with self._cond:
            self._ended = True
            self._cond.notify_all()

    def show(self, source: LogSource | None) -> None:
        """Read ``source`` from now on."""
        with self._cond:
            self._source = source
            self._cache = {}
            self._asked = None
            self._poke = True
            self._cond.notify_all()

    def poke(self) -> None:
        """Look for news now."""
        with self._cond:
            self._poke = True
            self._cond.notify_all()

    def lines(self, first: int, count: int, patience: float = 0.008) -> list[Line | None]:
        """These lines; None for one that did not come within ``patience`` seconds: ``changed`` follows."""
        source = self._source
        if source is None:
            return []
        first = max(0, first)
        last = min(first + count, source.count)
        if self._lacking(source, first, last):
            with self._cond:
                self._asked = (first, last)
                self._cond.notify_all()
                if patience > 0:
                    self._awaited = True
                    self._cond.wait_for(lambda: self._asked is None, patience)
                    self._awaited = False
        cache = self._cache
        return [cache[at][0] if at in cache else None for at in range(first, last)]

    def _lacking(self, source: LogSource, first: int, last: int) -> bool:
        cache, version = self._cache, source.version
        return any(at not in cache or cache[at][1] not in (-1, version) for at in range(first, last))

    # -- in the thread ---------------------------------------------------------------------------

    def _main(self) -> None:
        told = 0.0
        news = False
        shown = 0
        seen: tuple[LogSource | None, int, int] = (None, 0, 0)
        while True:
            with self._cond:
                if not (self._asked or self._poke or self._ended):
                    self._cond.wait(max(0.01, told + TELL - time.monotonic()) if news else None)
                if self._ended:
                    return
                source, asked, poke = self._source, self._asked, self._poke
                self._poke = False
            if source is None:
                continue
            if asked:
                self._serve(source, asked)
            if poke:
                more = source.poll()
                state = source, source.version, source.generation
                if state != seen:
                    seen, news = state, True
                if more:
                    with self._cond:
                        self._poke = True
            # lines that rush by faster than anyone reads are drawn less often: the keys get that time
            if news and time.monotonic() - told >= (TELL if source.count - shown < _RUSH else TELL_RUSHING):
                told, news, shown = time.monotonic(), False, source.count
                self._fill(source, max(0, source.count - self.tail), source.count)
                self._tell()

    def _serve(self, source: LogSource, asked: tuple[int, int]) -> None:
        first, last = asked
        margin = last - first  # a page more on both sides: turning pages finds them here
        self._fill(source, max(0, first - margin), last + margin)
        with self._cond:
            if self._asked == asked:
                self._asked = None
            awaited = self._awaited
            self._cond.notify_all()
        if not awaited:
            self._tell()

    def _fill(self, source: LogSource, first: int, last: int) -> None:
        version, generation, stable = source.version, source.generation, source.stable
        read = source.read(first, last - first)
        with self._cond:
            if source is not self._source or generation != source.generation:
                return
            old = self._cache
            cache = dict(old) if len(old) < _KEEP else {}
            for at in range(first, min(last, source.count)):
                if at - first < len(read):
                    cache[at] = read[at - first], -1 if at < stable else version
                else:  # the file is gone: what was seen of it stays
                    cache[at] = old.get(at, (_GONE, 0))[0], version
            self._cache = cache

    def _tell(self) -> None:
        if self._loop and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._changed)
