"""What a filter line means, and which rows fit it: pure functions.

Words that stand side by side must all fit. A word fits when its letters come in this order in one of the
row's free texts; ``field:value`` when that field begins with the value; ``!`` before either turns it round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from vmlab_tui.tui.widgets.rows import Row

FIELDS = ("state", "owner", "image", "class")
"""What may stand before a colon."""

_LIMIT = 300
"""Characters of a text that are looked at: a name of a megabyte must not hold up the typing."""

_ID = re.compile(r"[0-9a-f-]{16,}")


def fuzzy(needle: str, text: str, *, loose: bool = False) -> tuple[float, tuple[int, ...]] | None:
    """How well ``needle``'s letters fit into ``text`` in their order: (score, where they are), or None.

    More is better: letters in a row, at the beginning of words, in a short text. Letters that lie far apart
    fit only if ``loose``, since in a list that is not sorted by score chance hits are noise. Takes time in
    proportion to both lengths (Textual's own matcher tries all combinations).
    """
    needle, text = needle[:_LIMIT].lower(), text[:_LIMIT].lower()
    if not needle:
        return 0.0, ()
    at = text.find(needle)
    if at >= 0:
        places = tuple(range(at, at + len(needle)))
        return _score(text, places) * 2 + (len(needle) == len(text)), places
    if len(needle) == 1 or (_ID.fullmatch(text) and not loose):
        return None  # some letters of a uuid are in order for nearly every word
    best: tuple[int, ...] | None = None
    start = text.find(needle[0])
    while start >= 0:
        found = _from(needle, text, start)
        if found is None:
            break  # nor will it from farther on
        if best is None or found[-1] - found[0] < best[-1] - best[0]:
            best = found
        start = text.find(needle[0], start + 1)
    if best is None or (not loose and best[-1] - best[0] >= 4 * len(needle) + 4):
        return None
    return _score(text, best), best


def _from(needle: str, text: str, start: int) -> tuple[int, ...] | None:
    places = [start]
    for letter in needle[1:]:
        at = text.find(letter, places[-1] + 1)
        if at < 0:
            return None
        places.append(at)
    return tuple(places)


def _score(text: str, places: Sequence[int]) -> float:
    """0 to about 2."""
    first = sum(at == 0 or not text[at - 1].isalnum() for at in places)
    joined = sum(after == before + 1 for before, after in pairwise(places))
    return (first + joined) / len(places) + len(places) / (len(text) + 1)


@dataclass(frozen=True)
class Term:
    """One word. ``field`` is empty for free text; ``inverse``: it must not fit."""

    value: str
    field: str = ""
    inverse: bool = False

    def fits(self, row: Row) -> bool:
        return self._found(row) is not self.inverse

    def _found(self, row: Row) -> bool:
        texts = [text for field, text in row.search if field == self.field]
        if not self.field:
            return any(fuzzy(self.value, text) is not None for text in texts)
        return any(_begins(text, self.value) for text in texts)


def _begins(text: str, value: str) -> bool:
    """Whether the text or a word in it begins with ``value``: ``state:on`` is not ``no domain``."""
    text, value = text[:_LIMIT].lower(), value[:_LIMIT].lower()
    return text.startswith(value) or any(word.startswith(value) for word in re.split(r"[^\w]+", text))


@dataclass(frozen=True)
class Filter:
    """A filter line. ``problems``: what in it cannot be meant, for people."""

    text: str = ""
    terms: tuple[Term, ...] = ()
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.terms)

    def fits(self, row: Row) -> bool:
        """Whether a row is meant itself."""
        return all(term.fits(row) for term in self.terms)

    @cached_property
    def told(self) -> str:
        """The line as it may stand on a screen."""
        return " ".join(self.text.split())


def parse(text: str, *, me: str = "") -> Filter:
    """The filter that a person has typed so far; half a term (``!``, ``state:``) means nothing yet.

    ``me`` is what ``owner:me`` stands for. Never raises: an unknown field is taken as free text and said.
    """
    terms: list[Term] = []
    problems: list[str] = []
    for word in text.split():
        inverse = word.startswith("!")
        bare = word[1:] if inverse else word
        name, colon, value = bare.partition(":")
        if colon and name.lower() in FIELDS:
            field = name.lower()
            if field == "owner" and value.lower() == "me":
                value = me or value
            if value:
                terms.append(Term(value, field, inverse))
            continue
        if colon and name.isalpha() and value:
            known = " ".join(f"{field}:" for field in FIELDS)
            problems.append(f"no {name[:8]}: but {known}")
        if bare:
            terms.append(Term(bare, "", inverse))
    return Filter(text, tuple(terms), tuple(problems))


def apply(wanted: Filter, rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows that fit with the parents above them, and how many fit themselves."""
    if not wanted:
        return list(rows), len(rows)
    fitting = [index for index, row in enumerate(rows) if wanted.fits(row)]
    kept = set(fitting)
    for index in _parents(rows, fitting):
        kept.add(index)
    return [rows[index] for index in sorted(kept)], len(fitting)


def _parents(rows: Sequence[Row], of: Iterable[int]) -> Iterable[int]:
    wanted = set(of)
    above: list[int] = []
    for index, row in enumerate(rows):
        while above and rows[above[-1]].depth >= row.depth:
            above.pop()
        if index in wanted:
            yield from above
        above.append(index)


def pick(needle: str, texts: Sequence[str]) -> list[int]:
    """Indexes of the texts that ``needle`` fits, best first; all in their order when it is empty."""
    words = needle.split()
    if not words:
        return list(range(len(texts)))
    scored: list[tuple[float, int]] = []
    for index, text in enumerate(texts):
        scores = [found[0] if (found := fuzzy(word, text, loose=True)) else None for word in words]
        if all(score is not None for score in scores):
            scored.append((-sum(score or 0 for score in scores), index))
    return [index for _, index in sorted(scored)]
