"""The one door for foreign text, and for secrets that must not get through it.

:class:`Cleaner` lets printable characters, tab, newline and (asked for) numeric SGR pass: a name, a log
line or an error from a guest cannot move the cursor, set a title, write a clipboard or reverse the
reading direction. :class:`Masker` takes secrets out of output, in the encodings scripts print them in.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

from vmlab_tui.base.masking import MASK, Masker

__all__ = ["LINE_LIMIT", "MASK", "Cleaner", "Masker", "clean", "clean_line"]

LINE_LIMIT = 4096
"""Characters in one line; a longer one is split."""

_SLICE = 1 << 18
_BODY = 2048  # characters of a title, link or clipboard that are swallowed while its end is looked for

_SEQUENCE = re.compile(
    rf"""
    (?:\x1b\[|\x9b) (?: (?P<sgr>[0-9;:]{{0,64}})m | [0-?]{{0,64}}[ -/]{{0,4}}[@-~] )
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]) [^\x00-\x1f\x7f-\x9f]{{0,{_BODY}}} (?:\x07|\x9c|\x1b\\)
    | \x1b[ -/]{{0,4}}[0-~]
    | (?P<line>\r+\n?|[\x0b\x0c\x85\u2028\u2029])
    | [\x1b\x90\x98\x9b\x9d-\x9f]+ (?=[\x1b\x90\x98\x9b\x9d-\x9f])  # in one go, for speed
    | [\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x8f\x91-\x97\x99\x9a\x9c]+
    | [\x1b\x90\x98\x9b\x9d-\x9f]
    """,
    re.VERBOSE,
)
_UNFINISHED = re.compile(
    rf"""
    (?: \x1b[ -/]{{0,4}}
      | (?:\x1b\[|\x9b) [0-?]{{0,64}}[ -/]{{0,4}}
      | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]) [^\x00-\x1f\x7f-\x9f]{{0,{_BODY}}}\x1b?
    ) \Z
    """,
    re.VERBOSE,
)
_FOREIGN = re.compile(r"[^\x00-\x7e]+")
_ONE_SGR = re.compile(r"\x1b\[[0-9;:]*m")


class _Table(dict[int, str | None]):
    """What becomes of a character that is neither ASCII nor a control: filled as they turn up."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        kind = unicodedata.category(char)
        to: str | None = char
        if kind == "Cf":  # bidi controls, zero-width characters, soft hyphens, tags
            to = None
        elif kind == "Zs":
            to = " "
        elif not char.isprintable():  # surrogates, private use, unassigned
            to = "\N{REPLACEMENT CHARACTER}"
        if len(self) < 20_000:
            self[code] = to
        return to


_TABLE = _Table()


class Cleaner:
    """Makes a stream of bytes safe to show; the way it is cut into chunks makes no difference.

    Carriage returns, vertical tabs, form feeds and Unicode line ends become newlines, so nothing is
    overwritten. Invalid UTF-8 becomes U+FFFD. ``sgr`` keeps numeric SGR sequences (colours), and
    :meth:`finish` resets them. Holds back at most about 2 KB.
    """

    def __init__(self, *, sgr: bool = False, line_limit: int = LINE_LIMIT) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sgr = sgr
        self._limit = max(128, line_limit)
        self._held = ""
        self._column = 0
        self._coloured = False

    def feed(self, data: bytes) -> str:
        """The clean text of ``data`` so far as it is decided."""
        if len(data) <= _SLICE:
            return self._text(self._decoder.decode(data))
        view = memoryview(data)
        parts = (view[at : at + _SLICE] for at in range(0, len(data), _SLICE))
        return "".join([self._text(self._decoder.decode(part)) for part in parts])

    def finish(self) -> str:
        """What was held back; a sequence that never ended is dropped."""
        rest = self._text(self._decoder.decode(b"", final=True))
        self._held = ""
        if self._coloured:
            self._coloured = False
            rest += "\x1b[0m"
        return rest

    def _text(self, text: str) -> str:
        text = self._held + text
        self._held = ""
        if not text:
            return ""
        if text[-1] == "\r":  # any number of them before a newline is one line end
            text, self._held = text.rstrip("\r"), "\r"
        elif found := _UNFINISHED.search(text, max(0, len(text) - _BODY - 3)):
            text, self._held = text[: found.start()], found[0]
        text = text.replace("\r\n", "\n")
        if not text.replace("\n", "").replace("\t", "").isprintable():  # most text is: 20 times faster
            text = _SEQUENCE.sub(self._sequence, text)
            if not text.isascii():
                text = _FOREIGN.sub(_printable, text)
        return self._split(text)

    def _sequence(self, found: re.Match[str]) -> str:
        if found["line"]:
            return "\n"
        if self._sgr and found["sgr"] is not None:
            self._coloured = found["sgr"].strip("0") != ""
            return f"\x1b[{found['sgr']}m"
        return ""

    def _split(self, text: str) -> str:
        """``text`` with a newline wherever a line would pass the limit; an SGR sequence stays whole."""
        end = text.rfind("\n")
        if self._column + len(text) <= self._limit:
            self._column = len(text) - end - 1 if end >= 0 else self._column + len(text)
            return text
        lines = text.split("\n")
        done: list[str] = []
        column = self._column
        for number, line in enumerate(lines):
            if number:
                column = 0
            if column + len(line) <= self._limit:
                done.append(line)
                column += len(line)
                continue
            parts, column = self._pieces(line, column)
            done.append("\n".join(parts))
        self._column = column
        return "\n".join(done)

    def _pieces(self, line: str, column: int) -> tuple[list[str], int]:
        parts: list[str] = []
        start = 0
        while column + len(line) - start > self._limit:
            cut = start + self._limit - column
            escape = line.rfind("\x1b", max(start, cut - 68), cut)
            if escape >= 0 and (sgr := _ONE_SGR.match(line, escape)) and sgr.end() > cut:
                cut = escape
            parts.append(line[start:cut])
            start, column = cut, 0
        parts.append(line[start:])
        return parts, column + len(line) - start


def _printable(found: re.Match[str]) -> str:
    text = found[0]
    return text if text.isprintable() else text.translate(_TABLE)


def clean(raw: bytes | str, *, sgr: bool = False) -> str:
    """``raw`` as text of one or more lines that is safe to show. Cleaning twice changes nothing more."""
    if isinstance(raw, str):
        if raw.isprintable() and len(raw) <= LINE_LIMIT:
            return raw
        raw = raw.encode("utf-8", "replace")
    cleaner = Cleaner(sgr=sgr)
    return cleaner.feed(raw) + cleaner.finish()


def clean_line(raw: bytes | str, limit: int = 200) -> str:
    """``raw`` as one line of at most ``limit`` characters, for names, labels and errors; no newline."""
    head = raw[: 64 * limit + 4096]  # enough even if much of it is not printable
    words = " ".join(clean(head).split())
    if len(words) > limit or len(head) < len(raw):
        return words[: limit - 1] + "…"
    return words
