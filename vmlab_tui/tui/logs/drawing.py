"""One line of a log as the pieces of text that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style

from vmlab_tui.base.units import size
from vmlab_tui.tui.logs.search import Matcher, looks_like_error
from vmlab_tui.tui.logs.tidy import Line, styled

Spans = Sequence[tuple[int, int, Style]]
_DIM = Style(dim=True, italic=True)


@dataclass(frozen=True)
class Drawn:
    """``rows``: the line's pieces, one list for each row of the screen that it takes; ``width`` in cells."""

    rows: tuple[tuple[Segment, ...], ...]
    width: int
    error: bool


def draw(line: Line, *, wrap: int, colours: bool, matcher: Matcher | None, hit: Style) -> Drawn:
    """``wrap``: cells to a row; 0: all in one row. What ``matcher`` finds gets the style ``hit``."""
    plain, spans = styled(line.text)
    if not colours:
        spans = ()
    found = [(start, end, hit) for start, end in matcher.spans(plain)] if matcher else []
    error = looks_like_error(plain)
    tail = f" … {size(line.more)} more" if line.more else ""
    layers: list[Spans] = [spans, found]
    if tail:
        layers.append([(len(plain), len(plain) + len(tail), _DIM)])
    text = plain + tail
    width = cell_len(text)
    if not wrap or width <= wrap:
        return Drawn((_pieces(text, 0, len(text), layers),), width, error)
    cuts = _cuts(text, wrap)
    rows = tuple(
        _pieces(text, start, end, layers) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
    )
    return Drawn(rows, width, error)


def _cuts(text: str, width: int) -> list[int]:
    """Where rows of at most ``width`` cells begin: after a space, if there is one in the last third of a row;
    no wide character is cut in two."""
    cuts = []
    begin = 0
    narrow = text.isascii()
    while begin < len(text):
        end = min(begin + width, len(text)) if narrow else _filled(text, begin, width)
        if end >= len(text):
            break
        if text[end - 1] != " " and text[end] != " ":
            space = text.rfind(" ", begin + 2 * (end - begin) // 3, end)
            end = space + 1 if space > begin else end
        cuts.append(end)
        begin = end
    return cuts


def _filled(text: str, begin: int, width: int) -> int:
    """Where a row from ``begin`` on is full."""
    column = 0
    for at in range(begin, len(text)):
        cells = get_character_cell_size(text[at])
        if column + cells > width and column:
            return at
        column += cells
    return len(text)


def _pieces(text: str, start: int, end: int, layers: Sequence[Spans]) -> tuple[Segment, ...]:
    """``text[start:end]`` parted wherever a style begins or ends; later layers lie on top."""
    edges = {start, end}
    for layer in layers:
        for a, b, _ in layer:
            if a < end and b > start:
                edges |= {max(a, start), min(b, end)}
    if len(edges) <= 2 and not any(layers):
        return (Segment(text[start:end]),)
    ordered = sorted(edges)
    heads = [0] * len(layers)
    done = []
    for a, b in pairwise(ordered):
        style: Style | None = None
        for number, layer in enumerate(layers):
            at = heads[number]
            while at < len(layer) and layer[at][1] <= a:
                at += 1
            heads[number] = at
            if at < len(layer) and layer[at][0] <= a:
                style = layer[at][2] if style is None else style + layer[at][2]
        done.append(Segment(text[a:b], style))
    return tuple(done)
