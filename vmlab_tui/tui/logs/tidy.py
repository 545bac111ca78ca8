"""Raw lines of a log as lines that can be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.ansi import AnsiDecoder
from rich.style import Style

from vmlab_tui.base.text import Cleaner

COLUMNS = 4096
"""Characters of one line that are shown."""
HEAD = 1 << 16
"""Bytes at the beginning of a line that are looked at."""

_COLOURS = 400  # changes of colour in a line; more of them are a picture, or malice
_UNLIMITED = 1 << 60
_RETURNS = re.compile(rb"\r+(?=\n|\Z)")
_OVERWRITTEN = re.compile(rb"^[^\n]*\r", re.MULTILINE)
_BREAKS = re.compile(rb"[\x0b\x0c]|\xc2\x85|\xe2\x80[\xa8\xa9]")
_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_CALM = Style(blink=False, blink2=False, conceal=False)


@dataclass(frozen=True, slots=True)
class Line:
    """``text``: clean, with SGR sequences; ``more``: bytes that are not shown."""

    text: str
    more: int = 0


def tidy(raw: bytes, *, sgr: bool = False) -> str:
    """Lines as they are shown, exactly as many as ``raw`` has: the last state of one that overwrites itself.

    ``sgr`` keeps the colours; without it tabs are spaces already.
    """
    if b"\r" in raw:
        raw = _OVERWRITTEN.sub(b"", _RETURNS.sub(b"", raw))
    raw = _BREAKS.sub(b" ", raw)  # one line of the file stays one line
    cleaner = Cleaner(sgr=sgr, line_limit=_UNLIMITED)
    text = cleaner.feed(raw) + cleaner.finish()
    return text if sgr or "\t" not in text else text.expandtabs(8)


def lines_of(raws: Sequence[tuple[bytes, int]]) -> list[Line]:
    """``raws``: each the raw beginning of a line, without its newline, and how many bytes are left out."""
    if not raws:
        return []
    texts = tidy(b"\n".join([raw for raw, _ in raws]), sgr=True).split("\n")
    return [_line(text, more) for text, (_, more) in zip(texts, raws, strict=True)]


def _line(text: str, more: int) -> Line:
    if "\x1b" in text:
        if text.count("\x1b") > _COLOURS:
            text = _SGR.sub("", text)
        else:
            return _coloured(text, more)
    if "\t" in text:
        text = text.expandtabs(8)
    if len(text) > COLUMNS:
        more += len(text[COLUMNS:].encode())
        text = text[:COLUMNS]
    return Line(text, more)


def _coloured(text: str, more: int) -> Line:
    """Tabs and the limit count without the SGR sequences."""
    done: list[str] = []
    column = at = 0
    for found in (*_SGR.finditer(text), None):
        plain = text[at : found.start() if found else len(text)]
        if "\t" in plain:
            plain = (" " * (column % 8) + plain).expandtabs(8)[column % 8 :]
        done.append(plain[: max(0, COLUMNS - column)])
        more += len(plain[max(0, COLUMNS - column) :].encode())
        column += len(plain)
        if found:
            done.append(found[0])
            at = found.end()
    return Line("".join(done), more)


def unstyled(text: str) -> str:
    """A line's text without its colours."""
    return _SGR.sub("", text) if "\x1b" in text else text


def styled(text: str) -> tuple[str, tuple[tuple[int, int, Style], ...]]:
    """A line's plain text, and which parts of it have a style of their own, in order."""
    if "\x1b" not in text:
        return text, ()
    decoded = AnsiDecoder().decode_line(text)
    spans = [
        (span.start, span.end, span.style + _CALM) for span in decoded.spans if isinstance(span.style, Style)
    ]
    return decoded.plain, tuple(spans)
