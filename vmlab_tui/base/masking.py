"""Taking secrets out of a stream of bytes, in every encoding a script is likely to print."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

MASK = b"[masked]"

SHORTEST = 3
"""Bytes. A shorter value is not masked: it would turn up everywhere, and is no secret."""

_SHORTEST_LINE = 8
_SHORTEST_CORE = 4
_HELD_LIMIT = 1 << 16

Element = tuple[bytes, ...]
"""What may stand at one place of an encoded secret: one of these, of which no two begin alike."""

_WRAP: Element = (b"", b"\n", b"\r\n")
_BETWEEN_HEX: Element = (b"", b" ", b":", b"\\x", b"\n", b"\r\n")


class _Form:
    """One encoding of one secret."""

    def __init__(self, elements: tuple[Element, ...]) -> None:
        self.elements = elements
        self.longest = sum(max(map(len, element)) for element in elements)
        self._find = re.compile(b"".join(map(_expression, elements)))
        self._begin = re.compile(_expression(tuple(sorted({choice[:1] for choice in elements[0]}))))

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        return (found.span() for found in self._find.finditer(data))

    def begins(self, data: bytes) -> int:
        """The first place from which ``data`` could go on to be this form; its length if there is none."""
        start = max(0, len(data) - self.longest)
        for found in self._begin.finditer(data, start):
            if self._may_go_on(data, found.start()):
                return found.start()
        return len(data)

    def _may_go_on(self, data: bytes, start: int) -> bool:
        size, last = len(data), len(self.elements)
        states = [(0, start)]
        while states:
            number, at = states.pop()
            if number == last:
                continue
            if at == size:
                return True
            for choice in self.elements[number]:
                end = at + len(choice)
                if end <= size:
                    if data.startswith(choice, at):
                        states.append((number + 1, end))
                elif choice.startswith(data[at:]):
                    return True
        return False


def _expression(element: Element) -> bytes:
    choices = [re.escape(choice) for choice in sorted(element, key=len, reverse=True) if choice]
    if len(choices) == 1 == len(element):
        return choices[0]
    return b"(?:" + b"|".join(choices) + b")" + (b"?" if b"" in element else b"")


class Masker:
    """Replaces every occurrence of the secrets by ``[masked]``, however the stream is cut into chunks.

    Encodings: as it is; base64 and base64url, also as a part of something longer and wrapped over lines;
    percent-encoded; quoted for a shell; in JSON (also twice); HTML; hex with usual separators. Lines of a
    secret of several lines count by themselves. Up to 4 bits at either end may be left of base64 inside
    something longer. Output is only held back where it could be the beginning of a secret.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        encodings: dict[tuple[Element, ...], None] = {}
        for secret in secrets:
            for value in _values(secret):
                encodings.update(dict.fromkeys(_encodings(value)))
        self._forms = [_Form(elements) for elements in encodings]
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be let through by now."""
        if not self._forms:
            return data
        data = self._held + data
        spans = self._spans(data)
        keep = min(form.begins(data) for form in self._forms)
        for start, end in reversed(spans):
            if start < keep < end:
                keep = start
        if len(data) - keep > _HELD_LIMIT + max(form.longest for form in self._forms):
            keep = len(data)  # only secrets that overlap without end get here
        self._held = data[keep:]
        return _replace(data[:keep], [span for span in spans if span[1] <= keep])

    def finish(self) -> bytes:
        """The rest, once the stream has ended."""
        rest, self._held = self._held, b""
        return _replace(rest, self._spans(rest))

    def mask(self, data: bytes) -> bytes:
        """``data`` as a whole; independent of the stream."""
        return _replace(data, self._spans(data))

    def mask_text(self, text: str) -> str:
        """The same for text."""
        if not self._forms:
            return text
        try:
            return self.mask(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return self.mask(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where secrets are, overlapping ones made one, in order."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(span for form in self._forms for span in form.spans(data)):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged


def _replace(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    if not spans:
        return data
    parts: list[bytes] = []
    at = 0
    for start, end in spans:
        parts += (data[at:start], MASK)
        at = end
    parts.append(data[at:])
    return b"".join(parts)


def _values(secret: str) -> list[bytes]:
    """The secret, without white space at its ends, and each of its lines that is long enough."""
    whole = secret.strip()
    lines = [line.strip() for line in whole.splitlines()] if len(whole.splitlines()) > 1 else []
    texts = [whole, *(line for line in lines if len(line) >= _SHORTEST_LINE)]
    raw = [text.encode("utf-8", "surrogateescape") for text in texts]
    return [value for value in raw if len(value) >= SHORTEST]


def _encodings(value: bytes) -> Iterator[tuple[Element, ...]]:
    for literal in _literals(value.decode("utf-8", "surrogateescape")):
        raw = literal.encode("utf-8", "surrogateescape")
        # percent-encoding in capitals or not
        yield tuple(
            tuple(dict.fromkeys((unit, unit.lower()))) if len(unit) > 1 else (unit,)
            for unit in _UNIT.findall(raw)
        )
    if b"\n" in value:
        yield tuple((b"\r\n", b"\n") if byte == 10 else (bytes((byte,)),) for byte in value if byte != 13)
    digits = [
        (bytes((low,)), bytes((high,))) if low != high else (bytes((low,)),) for low, high in _hex(value)
    ]
    pairs = list(zip(digits[::2], digits[1::2], strict=True))
    yield tuple(_joined([element for pair in pairs for element in pair], _BETWEEN_HEX, every=2))
    for skip in range(3):
        core = _core(value, skip)
        if len(core) >= _SHORTEST_CORE:
            yield tuple(_joined([_SIXTY_FOUR.get(char, (bytes((char,)),)) for char in core], _WRAP))


_UNIT = re.compile(rb"(?s)%[0-9A-F]{2}|.")
_SIXTY_FOUR: dict[int, Element] = {ord("+"): (b"+", b"-"), ord("/"): (b"/", b"_")}


def _hex(value: bytes) -> Iterator[tuple[int, int]]:
    return zip(value.hex().encode(), value.hex().upper().encode(), strict=True)


def _core(value: bytes, skip: int) -> bytes:
    """The characters of base64 that depend on ``value`` only, when ``skip`` bytes stand before it."""
    known = (skip + len(value)) * 8 // 6
    return base64.b64encode(bytes(skip) + value)[(0, 2, 3)[skip] : known]


def _joined(elements: list[Element], between: Element, every: int = 1) -> Iterator[Element]:
    for number, element in enumerate(elements):
        if number and number % every == 0:
            yield between
        yield element


def _literals(text: str) -> set[str]:
    """The ways to write ``text`` that change single characters only."""
    forms = {
        text,
        html.escape(text),
        html.escape(text, quote=False),
        html.escape(text).replace("&#x27;", "&#39;"),
    }
    for safe in ("", "/", "/:", "!'()*", "!'()*~", "-_.!~*'();/?:@&=+$,#"):  # Python, curl, JavaScript
        for encoded in (_quote(text, safe), _quote(text, safe).replace("%20", "+")):
            forms.add(encoded)
    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        twice = json.dumps(once, ensure_ascii=ascii_only)[1:-1]
        forms |= {once, once.replace("/", "\\/"), twice, re.sub(r"[<>&\']", _unicode_escape, once)}
    forms |= {
        text.replace("'", "'\\''"),
        text.replace("'", "'\"'\"'"),
        re.sub(r'([\\$`"!])', r"\\\1", text),  # in double quotes
        re.sub(r'([\\$`"])', r"\\\1", text),
        re.sub(r"([^A-Za-z0-9_@%+=:,./\n-])", r"\\\1", text),  # printf %q
        re.sub(r"([^A-Za-z0-9_@%+=:,./\n~#-])", r"\\\1", text),
        re.sub(r"([^A-Za-z0-9_@%+=:./\n~#-])", r"\\\1", text),
        re.sub(r"([^A-Za-z0-9_@%+=:./\n-])", r"\\\1", text),
        _ansi_c(text),
        repr(text)[1:-1],
        text.replace("\\", "\\\\"),
        text.replace("\\", "\\\\").replace("'", "\\'"),
        text.replace("\\", "\\\\").replace('"', '\\"'),
    }
    return {form for form in forms if form}


def _quote(text: str, safe: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=safe)


def _unicode_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _ansi_c(text: str) -> str:
    """As bash writes it inside ``$'...'``."""
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\E", "\\": "\\\\", "'": "\\'"}
    raw = text.encode("utf-8", "surrogateescape")
    chars = (chr(byte) for byte in raw)
    return "".join(
        named.get(char) or (char if " " <= char <= "~" else f"\\{ord(char):03o}") for char in chars
    )
