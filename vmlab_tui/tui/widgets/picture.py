"""A picture in cells: two pixels in each by half blocks, or letters where there is no colour."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.app import RenderResult
from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from vmlab_tui.base.picture import Picture

_RAMP = " .:-=+*#%@"
"""From dark to bright."""
_HALF = "▀"
_PX = 3

Pixel = tuple[int, int, int]


def pixels_for(columns: int, rows: int) -> tuple[int, int]:
    """How many pixels so many cells show."""
    return columns, 2 * rows


def cells(picture: Picture, *, colour: bool = True) -> list[Strip]:
    """The lines of a picture that is small enough by now. Some milliseconds of work for a full screen.

    Rich reduces the colours to what the terminal has.
    """
    strips = []
    row = picture.width * _PX
    for top in range(0, picture.height, 2):
        upper = picture.rgb[top * row : (top + 1) * row]
        lower = picture.rgb[(top + 1) * row : (top + 2) * row] or bytes(row)
        pairs = [(tuple(upper[at : at + _PX]), tuple(lower[at : at + _PX])) for at in range(0, row, _PX)]
        if colour:
            segments = [Segment(_HALF * len(list(same)), _style(*pair)) for pair, same in groupby(pairs)]
        else:
            segments = [Segment("".join(_letter(*pair) for pair in pairs), Style.null())]
        strips.append(Strip(segments, picture.width))
    return strips


@lru_cache(1 << 14)
def _style(upper: Pixel, lower: Pixel) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))


@lru_cache(1 << 14)
def _letter(upper: Pixel, lower: Pixel) -> str:
    # what the eye takes for how bright it is (ITU-R BT.601)
    light = sum(299 * one[0] + 587 * one[1] + 114 * one[2] for one in (upper, lower)) / (2 * 255 * 1000)
    return _RAMP[min(len(_RAMP) - 1, int(light * len(_RAMP)))]


class PictureView(Widget):
    """Shows the lines of a picture in its middle, or a few words where there is none."""

    DEFAULT_CSS = "PictureView { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._strips: list[Strip] = []
        self._words: list[str] = []

    def show(self, strips: list[Strip], words: str = "") -> None:
        """``words``: what stands there while there are no ``strips``; may have several lines."""
        self._strips, self._words = strips, words.splitlines()
        self.refresh()

    def render(self) -> RenderResult:
        return Content("")

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        style = self.rich_style
        if not self._strips:
            at = y - (height - len(self._words)) // 2
            text = self._words[at] if 0 <= at < len(self._words) else ""
            left = max(0, (width - cell_len(text)) // 2)
            return Strip([Segment(" " * left + text, style)]).adjust_cell_length(width, style)
        at = y - (height - len(self._strips)) // 2
        if not 0 <= at < len(self._strips):
            return Strip.blank(width, style)
        strip = self._strips[at]
        left = max(0, (width - strip.cell_length) // 2)
        return Strip([Segment(" " * left, style), *strip]).adjust_cell_length(width, style)
