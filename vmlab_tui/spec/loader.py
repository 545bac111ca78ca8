"""YAML as people mean it, with the place of every value.

Only what YAML 1.1 and 1.2 read alike is taken: a plain word on which they differ (``on``, ``22:22``,
``0755``, ``2026-01-02``, ``1.10``) is refused together with what to write instead, as are duplicate
keys, tags, merge keys and documents that grow without bound through aliases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vmlab_tui.base.errors import UsageError
from vmlab_tui.spec.problems import Place, Problem, SpecErrors, field_name, short

MAX_BYTES = 1 << 20
MAX_VALUES = 20_000
MAX_DEPTH = 40

_RESOLVER: Any = yaml.resolver.Resolver()
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_NEWER = re.compile(r"[-+]?(?:0o[0-7]+|0x[0-9a-fA-F]+|(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)")
_BAD_CHARACTER = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Mark:
    """A position in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """A parsed file: plain data, where each value and key stands, and what is wrong so far.

    ``data`` holds dict, list, str, int, float, bool and None only. ``raw`` is the file as read.
    """

    file: str
    data: Any
    marks: dict[Place, Mark] = field(default_factory=dict)
    keys: dict[Place, Mark] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    raw: bytes = b""
    suspect: frozenset[Place] = frozenset()
    """Places that have a problem already: whatever else is wrong with them follows from it."""
    given: dict[Place, str] = field(default_factory=dict)
    """Values that did not come from the file, and what gave them (such as ``--set vm.memory``)."""

    def mark(self, place: Place, *, key: bool = False) -> Mark:
        """The position of the value (or its key) at ``place``, else of the nearest thing around it."""
        if key and place in self.keys:
            return self.keys[place]
        while place not in self.marks and place:
            place = place[:-1]
        return self.marks.get(place, Mark(1, 1))

    def problem(
        self, place: Place, found: str, allowed: str, nearest: str = "", *, key: bool = False
    ) -> Problem:
        """A problem at ``place`` (at its key when ``key``)."""
        for length in range(1, len(place) + 1):
            if place[:length] in self.given:
                label = self.given[place[:length]]
                return Problem(label, 0, 0, field_name(place), found, allowed, nearest, place)
        mark = self.mark(place, key=key)
        return Problem(self.file, mark.line, mark.column, field_name(place), found, allowed, nearest, place)


def plain(text: str) -> tuple[Any, str]:
    """The value of an unquoted word and, when it is a trap, what to write instead (else "")."""
    quoted = "'" + text.replace("'", "''") + "'"
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    if tag == "null":
        return None, ""
    if tag == "bool" or text in ("y", "Y", "n", "N"):
        if text.lower() in ("true", "false"):
            return text.lower() == "true", ""
        return text, f"true or false, or the word in quotes: {quoted}"
    if tag == "int" or (tag == "str" and re.fullmatch(r"[-+]?[0-9]+", text)):
        if _INT.fullmatch(text):
            return int(text), ""
        return text, f"in quotes: {quoted}, or a plain decimal number{_read_as(text)}"
    if tag == "float" or (tag == "str" and _NEWER.fullmatch(text)):
        if _FLOAT.fullmatch(text) and repr(float(text)) == text and not float(text).is_integer():
            return float(text), ""
        return text, f"in quotes: {quoted}, or a plain decimal number{_read_as(text)}"
    if tag == "timestamp":
        return text, f"in quotes: {quoted} (YAML reads it as a date)"
    if tag in ("merge", "value"):
        return text, f"in quotes: {quoted}; merge keys are not supported"
    return text, ""


def _read_as(text: str) -> str:
    """How the usual YAML reader misreads a number, as a remark."""
    try:
        value = yaml.safe_load(text) if len(text) < 30 else None
    except (yaml.YAMLError, ValueError, ArithmeticError):
        return ""
    return f" (YAML reads it as {value})" if isinstance(value, int | float) and str(value) != text else ""


class _Reader:
    """Builds one document from the parser's events, collecting problems as it goes."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.marks: dict[Place, Mark] = {}
        self.keys: dict[Place, Mark] = {}
        self.problems: list[Problem] = []
        self.suspect: set[Place] = set()
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0

    def blame(self, event: Any, place: Place, found: str, allowed: str) -> None:
        mark = event.start_mark
        self.problems.append(
            Problem(self.file, mark.line + 1, mark.column + 1, field_name(place), found, allowed, place=place)
        )
        self.suspect.add(place)

    def stop(self, event: Any, place: Place, found: str, allowed: str) -> SpecErrors:
        self.blame(event, place, found, allowed)
        return SpecErrors(self.file, self.problems)

    def read(self) -> Any:
        next(self.events)  # the stream's start
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        data = self.value(next(self.events), ())
        next(self.events)  # the document's end
        if not isinstance(event := next(self.events), yaml.StreamEndEvent):
            self.blame(event, (), "a second document (after ---)", "one document in a file")
        return data

    def value(self, event: Any, place: Place) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise self.stop(event, place, "too many values", f"at most {MAX_VALUES} values in a file")
        if len(place) > MAX_DEPTH:
            raise self.stop(event, place[:3], "deep nesting", f"at most {MAX_DEPTH} levels")
        self.marks[place] = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        before = self.count
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, place)
        if event.tag is not None:
            self.blame(event, place, f"the tag {short(event.tag)}", "values without a tag")
        if isinstance(event, yaml.SequenceStartEvent):
            data: Any = []
            while not isinstance(event_ := next(self.events), yaml.SequenceEndEvent):
                data.append(self.value(event_, (*place, len(data))))
        elif isinstance(event, yaml.MappingStartEvent):
            data = self.mapping(place)
        else:
            data = self.scalar(event, place)
        if event.anchor is not None:
            self.anchors[event.anchor] = (data, self.count - before + 1)
        return data

    def alias(self, event: Any, place: Place) -> Any:
        # registered only when complete, so an alias inside its own anchor is an unknown one
        if event.anchor not in self.anchors:
            self.blame(event, place, f"*{event.anchor}", "the name of an anchor (&name) that ended before it")
            return None
        data, weight = self.anchors[event.anchor]
        self.count += weight
        if self.count > MAX_VALUES:
            raise self.stop(event, place, "too many values", f"at most {MAX_VALUES}, aliases written out")
        return data

    def mapping(self, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self.stop(event, place, "a key that is not a word", "words as keys")
            # blamed on the entry, not on the mapping: what is wrong with its other entries is told as well
            key = self.scalar(event, (*place, _BAD_CHARACTER.sub("", event.value)))
            if not isinstance(key, str):
                key = event.value
                self.blame(event, (*place, key), f"the key {key}", f"in quotes: '{key}'")
            here = (*place, key)
            value_event = next(self.events)
            if key in data:
                self.blame(event, here, "the key again", f"once; line {self.keys[here].line} has it already")
                told = len(self.problems)
                self.value(value_event, (*here, "(again)"))
                del self.problems[told:]  # one complaint about it is enough
                continue
            start: Any = event.start_mark
            self.keys[here] = Mark(start.line + 1, start.column + 1)
            data[key] = self.value(value_event, here)
        return data

    def scalar(self, event: Any, place: Place) -> Any:
        text: str = event.value
        if bad := _BAD_CHARACTER.search(text):
            self.blame(event, place, f"the character {bad[0]!r}", "text without it")
            return _BAD_CHARACTER.sub("", text)
        if event.style is not None or event.tag is not None:
            return text
        value, instead = plain(text)
        if instead:
            self.blame(event, place, text, instead)
        return value


def parse_yaml(raw: bytes, file: str) -> Document:
    """Parse ``raw``; what is wrong is in ``problems``. Raises SpecErrors where it cannot be read on."""
    if len(raw) > MAX_BYTES:
        raise SpecErrors(file, [Problem(file, 0, 0, "", f"{len(raw)} bytes", f"at most {MAX_BYTES} bytes")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecErrors(
            file, [Problem(file, line, 1, "", "bytes that are not UTF-8", "UTF-8 text")]
        ) from error
    try:
        reader = _Reader(file, text)
        data = reader.read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise SpecErrors(file, [Problem(file, line, column, "", what, "YAML")]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 1
        bad = chr(error.character) if isinstance(error.character, int) else error.character
        found = f"the character {bad!r}"
        raise SpecErrors(file, [Problem(file, line, 1, "", found, "printable text")]) from error
    return Document(
        file,
        data,
        reader.marks,
        reader.keys,
        tuple(reader.problems),
        raw,
        frozenset(reader.suspect),
    )


def read_document(path: Path) -> Document:
    """Read and parse ``path`` (see :func:`parse_yaml`). Raises UsageError when it cannot be read."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}", hint="check the path and its permissions"
        ) from error
    return parse_yaml(raw, str(path))


def load_yaml(path: Path) -> Document:
    """Like :func:`read_document`, but every problem is an error (SpecErrors)."""
    document = read_document(path)
    if document.problems:
        raise SpecErrors(document.file, document.problems)
    return document
