"""What of a guest's output may reach a person's terminal while it is that guest's console.

A console moves the cursor, colours, scrolls, rings. It has no business with the clipboard, the title, links,
the printer or the keyboard's protocol, and it must not ask: the terminal's answer would be typed into the
guest, or into the shell that comes after it.
"""

from __future__ import annotations

import codecs
import re

_BODY = 4096  # characters of a title, clipboard or the like that are swallowed while its end is looked for
_MODES = {"1", "3", "5", "6", "7", "12", "25", "45", "47", "1000"}
_MODES |= {"1002", "1003", "1004", "1006", "1015", "1047", "1048", "1049", "2004"}
"""Private modes that programs on a console use."""
_SEQUENCE = re.compile(
    rf"""
    \x1b\[ (?P<private>[<=>?]?) (?P<numbers>[0-9;:]{{0,64}}) (?P<between>[ -/]{{0,4}}) (?P<final>[@-~])
    | \x1b[\]PX^_] [^\x07\x1b\x9c]{{0,{_BODY}}} (?:\x07|\x9c|\x1b\\)
    | (?P<short>\x1b (?: [78DEHMNOc=>] | [()*+][0-9A-Za-z<>%] | \#[3-8] ))
    | \x1b[ -/]{{0,4}}[0-~]
    | [\x00-\x06\x10-\x1a\x1c-\x1f\x7f-\x9f]
    | \x1b
    """,
    re.VERBOSE,
)
_UNFINISHED = re.compile(
    rf"""
    (?: \x1b[ -/]{{0,4}}
      | \x1b\[ [0-?]{{0,65}} [ -/]{{0,4}}
      | \x1b[\]PX^_] [^\x07\x1b\x9c]{{0,{_BODY}}} \x1b?
    ) \Z
    """,
    re.VERBOSE,
)
RESET = (
    # from the other screen, the modes above as they are at first, plain characters
    "\x1b[?1049l\x1b[?1;5;6;1000;1002;1003;1004;1006;1015;2004l\x1b[?7;25h\x1b[!p\x1b[r\x1b[0m\x1b>\x0f\x1b(B"
)
"""Takes back what a console may have changed of a terminal."""


class TerminalFilter:
    """Lets through what a console needs; how the stream is cut into chunks makes no difference."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that may be shown, so far as it is decided."""
        text = self._held + self._decoder.decode(data)
        self._held = ""
        if found := _UNFINISHED.search(text, max(0, len(text) - _BODY - 8)):
            text, self._held = text[: found.start()], found[0]
        return _SEQUENCE.sub(_passed, text).encode("utf-8", "replace")


def _passed(found: re.Match[str]) -> str:
    if found["short"]:
        return found[0]
    final, private, between = found["final"], found["private"], found["between"]
    if final is None:
        return ""
    if between:
        return found[0] if (between, final) in ((" ", "q"), ("!", "p")) and not private else ""
    if private:
        modes = [mode for mode in found["numbers"].split(";") if mode in _MODES]
        return f"\x1b[?{';'.join(modes)}{final}" if private == "?" and final in "hl" and modes else ""
    return found[0] if final in "@ABCDEFGHIJKLMPSTXZ`abdefghlmrsu" else ""
