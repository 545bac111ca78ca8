"""A window on a log: where it stands, how it moves, what it draws."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from vmlab_tui.tui.logs.drawing import Drawn, draw
from vmlab_tui.tui.logs.reader import TELL, Reader
from vmlab_tui.tui.logs.search import Matcher
from vmlab_tui.tui.logs.source import LogSource
from vmlab_tui.tui.logs.tidy import Line
from vmlab_tui.tui.text import fit

_SIDEWAYS = 8
_BLANK = Line("")


@dataclass
class Place:
    """Where a view stands in a source: the line at the top and which of its rows, or at the end.

    ``left``: cells that are out of sight; ``seen``: lines there were when it last followed; ``current``:
    the marked line.
    """

    top: int = 0
    row: int = 0
    left: int = 0
    following: bool = True
    seen: int = 0
    generation: int = 0
    current: int | None = None


class LogPane(ScrollView, can_focus=True):
    """Shows one :class:`LogSource` at a time; what is added below searches it and has the keys.

    ``marks``: whether lines that look like errors get a ``!``.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "logview--hit",
        "logview--error",
        "logview--current",
        "logview--dim",
    }
    DEFAULT_CSS = """
    LogPane {
        height: 1fr;
        width: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        &> .logview--hit { text-style: reverse; }
        &> .logview--error { color: $text-error; text-style: bold; }
        &> .logview--current { text-style: bold; }
        &> .logview--dim { text-style: dim; }
    }
    """

    def __init__(
        self,
        *,
        empty: str = "nothing yet",
        marks: bool = True,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._marks = marks
        self.empty = empty
        """What to say while there is no line."""
        self.title = ""
        self.source: LogSource | None = None
        self.wrap = False
        self._reader = Reader(self._news)
        self._known: dict[Hashable, tuple[LogSource, Place]] = {}
        self._at = Place()
        self._count = 0
        self._widest = 0
        self._note = ""
        self._drawn: LRUCache[tuple[Line, int], Drawn] = LRUCache(1000)
        self._on_screen: list[tuple[int, int, Drawn]] | None = None
        self._plain: Style | None = None

    # -- what is added below ---------------------------------------------------------------------

    def _matcher(self) -> Matcher | None:
        """What is highlighted."""
        return None

    def _taken(self) -> int:
        """Rows at the bottom that are not for lines."""
        return 0

    def _tell(self) -> None:
        """What is shown may have changed."""

    def _anew(self) -> None:
        """The log has begun again, or another one is shown."""

    # -- contents --------------------------------------------------------------------------------

    @property
    def following(self) -> bool:
        """Whether the view stays at the end."""
        return self._at.following

    def show(self, source: LogSource | None, title: str = "", *, empty: str | None = None) -> None:
        """Show ``source``, where the person left it. ``empty``: what to say while it has no line.

        A source with the key of one that was shown before is taken to be that one.
        """
        self.title = title
        if empty is not None and empty != self.empty:
            self.empty = empty
            self.refresh()
        if source is not None:
            source, place = self._known.setdefault(source.key, (source, Place()))
        else:
            place = Place()
        if source is self.source:
            return
        self.source, self._at = source, place
        self._widest = 0
        self._note = ""
        self._anew()
        self._reader.show(source)
        self._sync()

    def on_mount(self) -> None:
        self._reader.start()
        self.set_interval(TELL, self._look)

    def on_unmount(self) -> None:
        self._reader.stop()

    def _look(self) -> None:
        """Ask for news if anybody can see them."""
        stack = self.app.screen_stack
        if not self.source or self.screen not in stack:
            return
        above = stack[stack.index(self.screen) + 1 :]
        if all(screen.is_modal for screen in above) and self.size and self.is_on_screen:
            self._reader.poke()

    def _news(self) -> None:
        """The reader has more or other lines."""
        if self.source and self.is_attached:
            self._sync()

    def _begin_anew(self, source: LogSource) -> None:
        again = self._at.seen > 0
        self._at = Place(generation=source.generation)
        self._known[source.key] = source, self._at
        self._widest = 0
        self._note = "the log began anew" if again else ""
        self._anew()

    # -- where things are ------------------------------------------------------------------------

    @property
    def _rows(self) -> int:
        """Rows of the screen for lines."""
        return max(1, self.size.height - self._taken())

    @property
    def _cells(self) -> int:
        """Cells of a row for text; the first one says what kind of line it is."""
        return max(1, self.scrollable_content_region.width - 1)

    def _draw(self, line: Line) -> Drawn:
        wrap = self._cells if self.wrap else 0
        drawn = self._drawn.get((line, wrap))
        if drawn is None:
            drawn = draw(
                line,
                wrap=wrap,
                colours=not self.app.no_color,
                matcher=self._matcher(),
                hit=self.get_component_rich_style("logview--hit", partial=True),
            )
            self._drawn[(line, wrap)] = drawn
        return drawn

    def _height(self, number: int) -> int:
        """Rows that a line takes."""
        if not self.wrap:
            return 1
        lines = self._reader.lines(number, 1, 0)
        return len(self._draw(lines[0]).rows) if lines and lines[0] else 1

    def _bottom(self) -> tuple[int, int]:
        """The place at which the last row of the last line is the last on the screen."""
        first = max(0, self._count - self._rows)
        if not self.wrap:
            return first, 0
        room = self._rows
        lines = self._reader.lines(first, self._count - first)
        for back, line in enumerate(reversed(lines), 1):
            height = len(self._draw(line).rows) if line else 1
            if height >= room:
                return self._count - back, height - room
            room -= height
        return 0, 0

    def _sync(self) -> None:
        """Bring everything in line with what there is now; the place does not move unless it follows."""
        source = self.source
        if source and source.generation != self._at.generation:
            self._begin_anew(source)
        self._count = source.count if source else 0
        self._reader.tail = self.size.height
        bottom = self._bottom()
        at = self._at
        if at.following or (at.top, at.row) > bottom:
            at.top, at.row = bottom
        if at.following:
            at.seen = self._count
        self._set_bar(at.top, bottom[0] + max(1, self.size.height))
        self._on_screen = None
        self.refresh()
        self._tell()

    def _set_bar(self, top: int, height: int) -> None:
        """Put the scroll bar where the view is, in ``height`` lines.

        Set as usual, the size would have the whole screen laid out anew for every batch of lines.
        """
        self.set_reactive(LogPane.virtual_size, Size(self.size.width, height))
        self.set_reactive(LogPane.scroll_target_y, top)
        self.set_reactive(LogPane.scroll_y, top)
        bar = self.vertical_scrollbar
        bar.window_virtual_size, bar.window_size, bar.position = height, self.size.height, top

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(new_value) != self._at.top:  # the scroll bar was moved
            self._go(round(new_value), 0)

    def _go(self, top: int, row: int = 0) -> None:
        """Let a line's row be the first on the screen; at the end, the view follows."""
        bottom = self._bottom()
        place = max((0, 0), min((top, row), bottom))
        at = self._at
        was = at.following
        moved = place != (at.top, at.row)
        at.top, at.row = place
        if moved or not was:
            at.following = place == bottom
        if was and not at.following:
            at.seen = self._count
        self._note = ""
        self._sync()

    # -- moving ----------------------------------------------------------------------------------

    def _by_rows(self, by: int) -> None:
        top, row = self._at.top, self._at.row
        if not self.wrap:
            self._go(top + by)
            return
        row += by
        self._reader.lines(top - abs(by), 2 * abs(by) + 1)  # all at once
        while row < 0 and top > 0:
            top -= 1
            row += self._height(top)
        while top < self._count - 1 and row >= (height := self._height(top)):
            row -= height
            top += 1
        self._go(top, max(0, row))

    def action_move(self, by: int) -> None:
        self._by_rows(by)

    def action_page(self, by: int) -> None:
        self._by_rows(by * max(1, self._rows - 1))

    def action_top(self) -> None:
        self._at.left = 0
        self._go(0)

    def action_end(self) -> None:
        self._at.following = True
        self._note = ""
        self._sync()

    def action_follow(self) -> None:
        if self._at.following:
            self._at.following = False
            self._at.seen = self._count
        else:
            self._at.following = True
        self._note = ""
        self._sync()

    def action_sideways(self, way: int) -> None:
        if self.wrap:
            return
        furthest = max(0, self._widest - self._cells)
        self._at.left = max(0, min(self._at.left + way * _SIDEWAYS, furthest))
        self.refresh()

    def action_wrap(self) -> None:
        self.wrap = not self.wrap
        self._at.left = self._at.row = 0
        self._sync()

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        event.prevent_default()
        if event.ctrl or event.shift:
            self.action_sideways(1)
        else:
            self._by_rows(3)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        event.prevent_default()
        if event.ctrl or event.shift:
            self.action_sideways(-1)
        else:
            self._by_rows(-3)

    def on_click(self, event: events.Click) -> None:
        rows = self._layout()
        if 0 <= event.y < len(rows):
            number = rows[event.y][0]
            self._at.current = None if self._at.current == number else number
            self.refresh()
            self._tell()

    def on_resize(self) -> None:
        self._sync()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._drawn.clear()
        self._on_screen = None
        self.refresh()

    # -- drawing ---------------------------------------------------------------------------------

    def _layout(self) -> list[tuple[int, int, Drawn]]:
        """For each row of the screen: the line, which of its rows, and the line as it is drawn."""
        if self._on_screen is not None:
            return self._on_screen
        at, room = self._at, self._rows
        rows: list[tuple[int, int, Drawn]] = []
        lines = self._reader.lines(at.top, min(room, self._count - at.top))
        for number, line in enumerate(lines, at.top):
            drawn = self._draw(line or _BLANK)
            self._widest = max(self._widest, drawn.width)
            first = at.row if number == at.top else 0
            rows += [(number, part, drawn) for part in range(first, len(drawn.rows))]
            if len(rows) >= room:
                break
        self._on_screen = rows[:room]
        return self._on_screen

    def render_lines(self, crop: Region) -> list[Strip]:
        self._plain = self.rich_style  # worked out once for all lines: it is the dearest part of each
        try:
            return super().render_lines(crop)
        finally:
            self._plain = None

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self._plain or self.rich_style
        rows = self._layout()
        if y >= len(rows):
            if y == 0 and not self._count and self.empty:
                dim = base + self.get_component_rich_style("logview--dim", partial=True)
                return Strip([Segment(fit(" " + self.empty, width), dim)], width)
            return Strip.blank(width, base)
        number, part, drawn = rows[y]
        current = number == self._at.current
        style = base + self.get_component_rich_style("logview--current", partial=True) if current else base
        gutter, sign = style, " "
        if part == 0 and ((drawn.error and self._marks) or current):
            sign = ">" if current else "!"
            gutter = base + self.get_component_rich_style("logview--error", partial=True)
        pieces: Iterable[Segment] = drawn.rows[part]
        length = drawn.width if len(drawn.rows) == 1 else sum(piece.cell_length for piece in pieces)
        cells = self._cells
        left = 0 if self.wrap else self._at.left
        if left or length > cells:
            over = length > left + cells
            cut = Strip(pieces, length).crop(left, left + cells - over)
            pieces, length = cut, cut.cell_length
            if over:
                dim = self.get_component_rich_style("logview--dim", partial=True)
                pieces, length = [*cut, Segment("›", dim)], length + 1
        # one strip, put together once: lines may rush by
        rest = Segment(" " * (width - 1 - length), style)
        return Strip([Segment(sign, gutter), *Segment.apply_style(pieces, style), rest], width)
