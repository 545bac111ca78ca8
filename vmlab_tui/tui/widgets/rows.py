"""A list of rows in columns, flat or as a tree, that keeps its place by key whatever changes around it.

Textual's DataTable has its cursor at an index, so that a row removed above puts it on another VM, and takes
new rows only at the end; its Tree has no columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from vmlab_tui.tui.text import fit

TONES = ("dim", "good", "bad", "warn", "accent", "match")


@dataclass(frozen=True)
class Cell:
    """One text of a row; ``tone`` is one of :data:`TONES` and never the only sign of anything."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Column:
    """``width`` in cells; 0: what is left. ``drop``: the higher, the sooner it goes when there is no room.

    ``middle``: a text that is too long is cut in its middle. ``least`` and ``most``: of what is left,
    how much it needs, and how much it takes before the columns after it (0: all).
    """

    name: str
    width: int = 0
    right: bool = False
    drop: int = 0
    middle: bool = False
    least: int = 14
    most: int = 0


@dataclass(frozen=True)
class Row:
    """``fold``: None without children, else whether they are shown. ``search``: what a filter looks at."""

    key: str
    cells: tuple[Cell, ...]
    depth: int = 0
    fold: bool | None = None
    search: tuple[tuple[str, str], ...] = ()


def _share(rest: int, columns: Sequence[Column]) -> Iterator[int]:
    """How many of ``rest`` cells each of these columns gets."""
    limited = any(column.most for column in columns)
    needed = sum(column.least for column in columns)
    if limited and rest >= needed:
        sizes = [column.least for column in columns]
        extra = rest - needed
        for index, column in enumerate(columns):
            more = min(extra, max(0, column.most - column.least)) if column.most else 0
            sizes[index] += more
            extra -= more
        free = [index for index, column in enumerate(columns) if not column.most]
    else:
        sizes, extra, free = [0] * len(columns), rest, list(range(len(columns)))
    for index in free:
        sizes[index] += extra // len(free)
    if free:
        sizes[free[-1]] += extra % len(free)
    yield from sizes


class Rows(ScrollView, can_focus=True):
    """The list. The cursor and the marks belong to keys of rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "end(-1)", "first", show=False),
        Binding("end", "end(1)", "last", show=False),
        Binding("left", "fold(False)", "fold", show=False),
        Binding("right", "fold(True)", "unfold", show=False),
        Binding("enter", "open", "open"),
        Binding("space", "mark", "mark", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--head",
        "rows--cursor",
        "rows--cursor-away",
        "rows--marked",
        *(f"rows--{tone}" for tone in TONES),
    }
    DEFAULT_CSS = """
    Rows {
        height: 1fr;
        width: 1fr;
        scrollbar-gutter: auto;
        overflow-x: hidden;
        &> .rows--head { text-style: bold dim; }
        &> .rows--cursor { background: $primary; color: $block-cursor-foreground; text-style: bold; }
        &> .rows--cursor-away { background: $panel; }
        &> .rows--marked { text-style: bold; }
        &> .rows--dim { text-style: dim; }
        &> .rows--good { color: $text-success; }
        &> .rows--bad { color: $text-error; text-style: bold; }
        &> .rows--warn { color: $text-warning; }
        &> .rows--accent { color: $text-accent; }
        &> .rows--match { text-style: underline; }
    }
    """

    class Moved(Message):
        """The cursor is on another row, or on one whose contents changed; None: the list is empty."""

        def __init__(self, rows: Rows, row: Row | None) -> None:
            super().__init__()
            self.rows = rows
            self.row = row

        @property
        def control(self) -> Rows:
            return self.rows

    class Opened(Moved):
        """Enter, or a click on the row under the cursor."""

    class Folded(Message):
        """The person wants a row's children shown or hidden."""

        def __init__(self, key: str, unfold: bool) -> None:
            super().__init__()
            self.key = key
            self.unfold = unfold

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "",
        head: bool = True,
        markable: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._columns = tuple(columns)
        self._head = head
        self._markable = markable
        self._rows: tuple[Row, ...] = ()
        self._at = 0
        self._key: str | None = None
        self.marked: set[str] = set()
        self.empty = empty
        self._shape: tuple[int, tuple[int, ...]] = (0, ())
        self._plain: Style | None = None

    # -- contents --------------------------------------------------------------------------------

    @property
    def rows(self) -> tuple[Row, ...]:
        return self._rows

    @property
    def cursor(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._at] if self._rows else None

    @property
    def chosen(self) -> tuple[Row, ...]:
        """The marked rows in their order, else the one under the cursor."""
        marked = tuple(row for row in self._rows if row.key in self.marked)
        return marked or ((self.cursor,) if self.cursor else ())

    def set_rows(self, rows: Sequence[Row], empty: str | None = None) -> None:
        """Show ``rows``; the cursor stays on its key, or where that was if it is gone."""
        if empty is not None and empty != self.empty:
            self.empty = empty
            self.refresh()
        fresh = tuple(rows)
        if fresh == self._rows:
            return
        old, before, top = self._rows, self.cursor, self.scroll_offset.y
        at = next((index for index, row in enumerate(fresh) if row.key == self._key), None)
        moved = 0
        if at is None:
            at = self._neighbour(fresh)
        else:
            moved = at - self._at
        was, self._rows, self._at = self._at, fresh, at
        keys = {row.key for row in fresh}
        same = len(old) == len(fresh) and self.marked <= keys
        self.marked &= keys
        self._key = fresh[at].key if fresh else None
        self._resize()
        if moved:  # what the person looks at stays where it is on the screen
            self.scroll_to(y=self.scroll_offset.y + moved, animate=False, force=True, immediate=True)
        self._show_cursor()
        if same and top == self.scroll_offset.y:
            self._redraw(was, at, *(at for at, row in enumerate(fresh) if row != old[at]))
        else:
            self.refresh()
        if self.cursor != before:
            self.post_message(self.Moved(self, self.cursor))

    def _neighbour(self, fresh: tuple[Row, ...]) -> int:
        """The nearest row that is still there: the ones below come first."""
        left = {row.key: index for index, row in enumerate(fresh)}
        for row in (*self._rows[self._at :], *reversed(self._rows[: self._at])):
            if row.key in left:
                return left[row.key]
        return 0

    def move_to(self, key: str) -> bool:
        """Put the cursor on the row of that key. False when there is none."""
        for index, row in enumerate(self._rows):
            if row.key == key:
                self._go(index)
                return True
        self._key = self._key if self._rows else key
        return False

    # -- keys and mouse --------------------------------------------------------------------------

    def _go(self, index: int) -> None:
        if not self._rows:
            return
        was, top = self._at, self.scroll_offset.y
        self._at = max(0, min(index, len(self._rows) - 1))
        changed = self._rows[self._at].key != self._key
        self._key = self._rows[self._at].key
        self._show_cursor()
        if top == self.scroll_offset.y:
            self._redraw(was, self._at)
        else:
            self.refresh()
        if changed:
            self.post_message(self.Moved(self, self.cursor))

    def action_move(self, by: int) -> None:
        self._go(self._at + by)

    def action_page(self, by: int) -> None:
        self._go(self._at + by * max(1, self._room - 1))

    def action_end(self, way: int) -> None:
        self._go(0 if way < 0 else len(self._rows) - 1)

    def action_fold(self, unfold: bool) -> None:
        row = self.cursor
        if row is None:
            return
        if row.fold is not None and row.fold is not unfold:
            self.post_message(self.Folded(row.key, unfold))
        elif not unfold and row.depth:
            parent = next(index for index in range(self._at, -1, -1) if self._rows[index].depth < row.depth)
            self._go(parent)

    def action_open(self) -> None:
        if self.cursor:
            self.post_message(self.Opened(self, self.cursor))

    def action_mark(self) -> None:
        if self.cursor and self._markable:
            self.marked ^= {self.cursor.key}
            self._go(self._at + 1)
            self.refresh()  # the head counts them
            self.post_message(self.Moved(self, self.cursor))

    def clear_marks(self) -> bool:
        """Take all marks away; False when there were none."""
        had = bool(self.marked)
        self.marked = set()
        self.refresh()
        return had

    def on_click(self, event: events.Click) -> None:
        index = self.scroll_offset.y + event.y - self._head
        if event.y < self._head or not 0 <= index < len(self._rows):
            return
        row = self._rows[index]
        before = self._at
        self._go(index)
        arrow = 1 + 2 * row.depth + 1  # the mark's column, then the tree's
        if row.fold is not None and event.x <= arrow:
            self.post_message(self.Folded(row.key, not row.fold))
        elif event.chain > 1 or before == index:
            self.action_open()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    # -- drawing ---------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        return max(1, self.size.height - self._head)

    def _redraw(self, *indexes: int) -> None:
        """Draw these rows anew, as far as they are on the screen."""
        width, height = self.size
        lines = {index - self.scroll_offset.y + self._head for index in indexes}
        regions = [Region(0, y, width, 1) for y in lines if self._head <= y < height]
        if regions:
            self.refresh(*regions)

    def _resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows) + self._head)

    def on_resize(self) -> None:
        self._resize()
        self._show_cursor()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    def _show_cursor(self) -> None:
        if self._rows and self.size.height:
            top = self.scroll_offset.y
            if self._at < top:
                self.scroll_to(y=self._at, animate=False, force=True, immediate=True)
            elif self._at >= top + self._room:
                self.scroll_to(y=self._at - self._room + 1, animate=False, force=True, immediate=True)

    def _widths(self) -> tuple[int, ...]:
        """The width of each column; 0: dropped."""
        total = self.scrollable_content_region.width - 1  # the column of the marks
        if self._shape[0] == total and self._shape[1]:
            return self._shape[1]
        kept = set(range(len(self._columns)))
        flexible = [index for index, column in enumerate(self._columns) if not column.width]

        def need() -> int:
            columns = [self._columns[index] for index in kept]
            return sum(column.width or column.least for column in columns) + 2 * (len(columns) - 1)

        while need() > total:
            droppable = [index for index in kept if self._columns[index].drop]
            if not droppable:
                break
            kept.discard(max(droppable, key=lambda index: self._columns[index].drop))
        fixed = sum(self._columns[index].width for index in kept) + 2 * (len(kept) - 1)
        share = _share(max(0, total - fixed), [self._columns[index] for index in flexible if index in kept])
        widths = [
            0 if index not in kept else column.width or next(share)
            for index, column in enumerate(self._columns)
        ]
        self._shape = (total, tuple(widths))
        return self._shape[1]

    def render_lines(self, crop: Region) -> list[Strip]:
        self._plain = self.rich_style  # worked out once for all lines: it is the dearest part of each
        try:
            return super().render_lines(crop)
        finally:
            self._plain = None

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self._plain or self.rich_style
        if self._head and y == 0:
            style = base + self.get_component_rich_style("rows--head", partial=True)
            marks = f" ({len(self.marked)} marked)" if self.marked else ""
            cells = [
                Cell(column.name + ("" if number else marks)) for number, column in enumerate(self._columns)
            ]
            return self._strip(" ", 0, None, cells, lambda _: style, style, width)
        index = self.scroll_offset.y + y - self._head
        if not self._rows and y == self._head and self.empty:
            dim = base + self.get_component_rich_style("rows--dim", partial=True)
            return Strip([Segment(fit(" " + self.empty, width), dim)], width)
        if not 0 <= index < len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[index]
        under = Style()
        if index == self._at:
            name = "rows--cursor" if self.has_focus else "rows--cursor-away"
            under = self.get_component_rich_style(name, partial=True)
        marked = row.key in self.marked
        if marked:
            under += self.get_component_rich_style("rows--marked", partial=True)
        strong = index == self._at and self.has_focus

        def style_of(tone: str) -> Style:
            if not tone or strong:
                return base + under
            return base + self.get_component_rich_style(f"rows--{tone}", partial=True) + under

        sign = "*" if marked else ">" if index == self._at else " "
        return self._strip(sign, row.depth, row.fold, row.cells, style_of, base + under, width)

    def _strip(
        self,
        sign: str,
        depth: int,
        fold: bool | None,
        cells: Sequence[Cell],
        style_of: Callable[[str], Style],
        plain: Style,
        width: int,
    ) -> Strip:
        segments = [Segment(sign, plain)]
        first = True
        for column, size, cell in zip(self._columns, self._widths(), cells, strict=False):
            if not size:
                continue
            text = cell.text
            if first:
                arrow = "" if fold is None and not depth else {None: "  ", True: "v ", False: "> "}[fold]
                text = "  " * depth + arrow + text
            else:
                segments.append(Segment("  ", plain))
            first = False
            shown = fit(text, size, right=column.right, middle=column.middle)
            segments.append(Segment(shown, style_of(cell.tone)))
        used = sum(cell_len(segment.text) for segment in segments)
        segments.append(Segment(" " * max(0, width - used), plain))
        return Strip(segments).crop(0, width)
