"""Looking through a whole log in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Protocol

from vmlab_tui.tui.logs.source import LogSource

_TELL = 0.1
_LOOK = 0.25  # seconds between two looks for new lines, once all was searched

_HINTS = (
    *("error", "fail", "fatal", "panic", "traceback", "exception", "critical", "denied", "segfault"),
    *("segmentation", "no such file", "command not found", "unable to", "oops", "emerg", "err", "e:"),
    *("cannot", "killed process", "oom"),
)
_ERROR = re.compile(
    r"""
    \b (?: errors? | fatal | panic | critical | emerg(?:ency)? | crit | err ) \b
        (?! \s*[=:]?\s*(?:0|no|none|null|nil|false|ok|remount|continue)\b
          | \s+(?:count|code|status|rate)\s*[=:]?\s*0\b
          | \s+(?:handl|recover|correct|report|page)
          | \s*\(s\)\s*[:=]\s*0\b | [-_/.]\w )
    | (?-i: \b [A-Z]\w* (?:Error|Exception) \b ) (?! \s*[=:]\s*(?:0|no|none|null|nil|false|ok)\b | [-_/]\w )
    | \b fail(?:ed|ure|ures|s)? \b
        (?! \s*[=:]\s*(?:0|no|none|false)\b | \s+0\b | \s*\(s\)\s*[:=]\s*0\b | [-_/.]\w )
    | \b Traceback\ \(most\ recent | ^ E: \s | \[\s*FAILED\s*\]
    | \b (?: segfault | segmentation\ fault | Oops | kernel\ BUG | oom-kill(?:er)? ) \b
    | \b (?: permission\ denied | no\ such\ file | command\ not\ found | killed\ process | unable\ to\b )
    | \b cannot\ (?: open|find|access|stat|create|connect|allocate|execute|resolve|mount|start|read|write ) \b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_COUNTER = re.compile(r"\b(?:errors?|err|fail(?:ed|ures?|s)?)\s?[=:]\s?(\d+)(?![\w.:])", re.IGNORECASE)
"""``error=1``: a count, or the name of a setting; only what else is in the line tells."""
_COUNTED = re.compile(
    r"""
    \b (?: ok | changed | unreachable | skipped | passed | failures? | failed | warnings? | tests? | total
        | found | summary | exit(?:ed|ing)? | aborting ) \b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NOT = re.compile(
    r"""
    \b (?: (?<!=)0 | no | zero | without | any | ignor\w+ | if | on | for | non | not | never
          | (?:did|do|does|wo|could|should)n't ) [\s-]+ (?: \w+\s+ )? \Z
    | [-_/] \Z
    """,
    re.VERBOSE | re.IGNORECASE,
)


def looks_like_error(text: str) -> bool:
    """Whether a line tells of something that went wrong; ``0 errors`` and ``error=0`` do not."""
    low = text.lower()
    if not any(hint in low for hint in _HINTS):
        return False
    return bool(_error_spans(text))


def _error_spans(text: str) -> list[tuple[int, int]]:
    spans = [
        found.span()
        for found in _ERROR.finditer(text)
        if not _NOT.search(text, max(0, found.start() - 40), found.start())
    ]
    if not spans:
        return []
    counters = [found for found in _COUNTER.finditer(text) if not _told_around(text, found)]
    return [
        (start, end) for start, end in spans if not any(one.start() <= start < one.end() for one in counters)
    ]


def _told_around(text: str, counter: re.Match[str]) -> bool:
    """Whether the words around a counter say that something was counted, and there is something."""
    around = text[: counter.start()] + " " + text[counter.end() :]
    return int(counter[1]) > 0 and bool(_COUNTED.search(around))


class Matcher(Protocol):
    """What is looked for."""

    @property
    def label(self) -> str:
        """What to call it: the text."""

    def lines(self, block: str) -> Iterator[int]:
        """The numbers, from 0, of the lines in ``block`` that have it."""

    def spans(self, line: str) -> list[tuple[int, int]]:
        """Where it is in one line."""


class TextMatcher:
    """Plain text; capitals count only when there are some in it."""

    def __init__(self, text: str) -> None:
        self.label = text
        self._cased = text != text.lower()
        self._needle = text if self._cased else text.lower()
        self._pattern = re.compile(re.escape(text), 0 if self._cased else re.IGNORECASE)

    def lines(self, block: str) -> Iterator[int]:
        if not self._cased:
            block = block.lower()
        number = at = 0
        while (found := block.find(self._needle, at)) >= 0:
            number += block.count("\n", at, found)
            yield number
            end = block.find("\n", found)
            if end < 0:
                return
            number += 1
            at = end + 1

    def spans(self, line: str) -> list[tuple[int, int]]:
        return [found.span() for found in self._pattern.finditer(line)]


class ErrorMatcher:
    """Lines that look like an error."""

    label = "errors"

    def lines(self, block: str) -> Iterator[int]:
        for number, line in enumerate(block.split("\n")):
            if looks_like_error(line):
                yield number

    def spans(self, line: str) -> list[tuple[int, int]]:
        return _error_spans(line)


class Finder:
    """One search: from line ``origin`` to the end, then from the top, then whatever comes.

    ``changed`` is called on the drawing loop when there is more to know. Lines found stay found: the one
    that is not finished yet is looked at again.
    """

    def __init__(
        self, source: LogSource, matcher: Matcher, origin: int, changed: Callable[[Finder], None]
    ) -> None:
        self.matcher = matcher
        self.done = False
        """Whether all lines there are have been looked at."""
        self._source = source
        self._origin = origin
        self._before = array("Q")
        self._after = array("Q")
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._cancelled = threading.Event()
        self._generation = source.generation
        threading.Thread(target=self._main, name="log search", daemon=True).start()

    def cancel(self) -> None:
        """Stop looking; what was found can still be asked for."""
        self._cancelled.set()

    @property
    def hits(self) -> int:
        """Lines found so far."""
        return len(self._before) + len(self._after)

    def rank(self, line: int) -> int:
        """Which of the hits, from 1, a line is; 0: none of them."""
        for hits, base in ((self._before, 0), (self._after, len(self._before))):
            at = bisect_left(hits, line)
            if at < len(hits) and hits[at] == line:
                return base + at + 1
        return 0

    def next(self, line: int) -> int | None:
        """The first hit after ``line``, if one is known."""
        for hits in (self._before, self._after):
            at = bisect_right(hits, line)
            if at < len(hits) and (hits is self._after or line < self._origin):
                return hits[at]
        return None

    def previous(self, line: int) -> int | None:
        """The last hit before ``line``, if one is known."""
        for hits in (self._after, self._before):
            at = bisect_left(hits, line)
            if at:
                return hits[at - 1]
        return None

    def certain(self, line: int, way: int) -> bool:
        """Whether :meth:`next` (``way`` 1) or :meth:`previous` of a line will not change their mind."""
        return self.done or (way > 0 and line >= self._origin - 1)

    # -- in the thread ---------------------------------------------------------------------------

    def _main(self) -> None:
        upto = self._look(self._origin, self._after, None)
        if self._origin:
            self._look(0, self._before, self._origin)
        self.done = True
        self._tell()
        seen = self._source.version
        while not self._cancelled.wait(_LOOK):
            if self._source.generation != self._generation:
                return
            if self._source.version != seen:
                seen = self._source.version
                found = self.hits
                upto = self._look(max(0, upto - 1), self._after, None)
                if self.hits != found:
                    self._tell()

    def _look(self, first: int, hits: array[int], end: int | None) -> int:
        """Look at the lines from ``first`` to ``end``; returns the number after the last one."""
        told = time.monotonic()
        number = first
        for start, block in self._source.scan(first):
            for line in self.matcher.lines(block):
                at = start + line
                if end is not None and at >= end:
                    return end
                if not hits or at > hits[-1]:
                    hits.append(at)
                    if len(hits) == 1:
                        self._tell()
                if self._cancelled.is_set():
                    return at
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                self._tell()
            number = start + block.count("\n") + 1
            if self._cancelled.is_set() or (end is not None and number >= end):
                return number
        return number

    def _tell(self) -> None:
        if not self._cancelled.is_set() and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        if not self._cancelled.is_set():
            self._changed(self)
