"""What the terminal can show, and colours that mean something."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

import click

_COLOURS = {
    "ok": "green",
    "passed": "green",
    "PASSED": "green",
    "failed": "red",
    "FAIL": "red",
    "FAILED": "red",
    "ERROR": "red",
    "error": "red",
    "run": "cyan",
    "unknown": "yellow",
    "skipped": "yellow",
    "reused": "green",
    "INTERRUPTED": "yellow",
    "ENDED": "yellow",
    "warning": "yellow",
}


@dataclass(frozen=True)
class Style:
    """``live``: lines may be redrawn. ``colour``: escape sequences may be sent."""

    stream: TextIO
    live: bool
    colour: bool

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """What ``stream`` allows: a terminal that is not dumb, and colours unless NO_COLOR says otherwise."""
        terminal = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return cls(stream, terminal, terminal and not os.environ.get("NO_COLOR"))

    @property
    def columns(self) -> int:
        """Of the terminal; 80 where there is none."""
        return self._size()[0]

    @property
    def rows(self) -> int:
        """Of the terminal; 24 where there is none."""
        return self._size()[1]

    def _size(self) -> tuple[int, int]:
        try:
            found = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            found = shutil.get_terminal_size((80, 24))
        return (found.columns or 80, found.lines or 24)

    def mark(self, word: str, text: str = "") -> str:
        """``text`` (default: the word) in the colour of ``word``."""
        shown = text or word
        return click.style(shown, fg=_COLOURS.get(word.strip())) if self.colour else shown

    def dim(self, text: str) -> str:
        return click.style(text, dim=True) if self.colour and text else text

    def bold(self, text: str) -> str:
        return click.style(text, bold=True) if self.colour else text

    def print(self, *lines: str) -> None:
        """Write lines and flush, so that a reader of a pipe sees them at once."""
        click.echo("\n".join(lines), file=self.stream, color=self.colour)


def indented(lines: Iterable[str], sign: str, width: int) -> list[str]:
    """Each line behind ``sign``, cut to ``width`` columns in all."""
    room = width - len(sign)
    return [(sign + (line if len(line) <= room else line[: room - 1] + "…")).rstrip() for line in lines]
