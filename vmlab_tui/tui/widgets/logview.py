"""A log of any length: follows its end, keeps still while it is read above, wraps, searches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.logs.pane import LogPane, Place
from vmlab_tui.tui.logs.search import ErrorMatcher, Finder, Matcher, TextMatcher
from vmlab_tui.tui.logs.source import LogSource
from vmlab_tui.tui.logs.tidy import unstyled
from vmlab_tui.tui.text import fit


@dataclass(frozen=True)
class LogStatus:
    """What a view shows just now. ``hit``: which of the ``hits`` it stands on, from 1; ``hits`` None: no
    search; ``counting``: there may be more of them. ``note``: what the last key could not do or did."""

    lines: int = 0
    new_lines: int = 0
    following: bool = True
    wrap: bool = False
    hit: int = 0
    hits: int | None = None
    counting: bool = False
    note: str = ""

    @property
    def message(self) -> str:
        """What the person has to know: ``hit 3 of 120, went on from the top, 45 new, End follows``."""
        parts = []
        if self.hits:
            found = f"{self.hits}{'+' * self.counting}"
            every = f"{found} hit{'s' * (self.hits > 1)}"
            parts.append(f"hit {self.hit} of {found}" if self.hit else every)
        elif self.hits is not None:
            parts.append("searching" if self.counting else "no hit")
        if self.note:
            parts.append(self.note)
        if not self.following and self.new_lines:
            parts.append(f"{self.new_lines} new, End follows")
        return ", ".join(parts)

    @property
    def mode(self) -> str:
        """How it is shown: ``follows, wrapped``."""
        return ", ".join(["follows"] * self.following + ["wrapped"] * self.wrap)

    @property
    def text(self) -> str:
        """All of it, for a title."""
        return ", ".join(part for part in (self.message, self.mode) if part)


class LogView(LogPane):
    """Shows one :class:`LogSource` at a time, with all keys.

    While a search is being typed, its line stands at the bottom and takes the keys.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow", tooltip="Stay at the log's end as it grows, or stop doing so"),
        Binding("slash", "search", "search", tooltip="Search this log; capitals count only if you type some"),
        Binding("n", "hit(1)", "next", tooltip="Go to the next hit of the search"),
        Binding("N", "hit(-1)", "previous", show=False, tooltip="Go to the hit before"),
        Binding("exclamation_mark", "error", "error", tooltip="Go to the next line that looks like an error"),
        Binding("w", "wrap", "wrap", tooltip="Break long lines, or let them run out on the right"),
        Binding("o", "pager", "pager", tooltip="Open the whole log in your pager"),
        Binding("ctrl+s", "save", "save", show=False, tooltip="Save the whole log in a file"),
        Binding(
            "y", "copy", "copy line", show=False, tooltip="Copy the line that is marked, or the last one"
        ),
        Binding("escape", "close_search", "end search", show=False, tooltip="End the search"),
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown,space", "page(1)", "page down", show=False),
        Binding("home,g", "top", "beginning", show=False, tooltip="Go to the log's beginning"),
        Binding("end,G", "end", "end", show=False, tooltip="Go to the log's end and follow it"),
        Binding("left", "sideways(-1)", "left", show=False, tooltip="See what is further left"),
        Binding("right", "sideways(1)", "right", show=False, tooltip="See what is further right"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"logview--prompt"}
    DEFAULT_CSS = """
    LogView > .logview--prompt { background: $panel; color: $text; }
    """

    class Status(Message):
        """What is shown has changed; ``status`` says to what."""

        def __init__(self, view: LogView, status: LogStatus) -> None:
            super().__init__()
            self.view = view
            self.status = status

        @property
        def control(self) -> LogView:
            return self.view

    class _Whole(Message):
        def __init__(self, view: LogView, source: LogSource) -> None:
            super().__init__()
            self.view = view
            self.source = source

        @property
        def path(self) -> Path | None:
            """The log's file; None: it is in none."""
            return self.source.path

    class OpenInPager(_Whole):
        """The person wants the whole log in a pager."""

    class SaveLog(_Whole):
        """The person wants the whole log in a file of its own."""

    class CopyLine(Message):
        """``text``: the line, clean."""

        def __init__(self, view: LogView, text: str) -> None:
            super().__init__()
            self.view = view
            self.text = text

    def __init__(
        self,
        *,
        empty: str = "nothing yet",
        marks: bool = True,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(empty=empty, marks=marks, id=id, classes=classes)
        self._finder: Finder | None = None
        self._prompt: str | None = None
        self._back: Place | None = None  # where the search began
        self._jump = 0  # which way to go once a hit is found
        self._status = LogStatus()

    @property
    def status(self) -> LogStatus:
        """What is shown just now."""
        return self._status

    def on_unmount(self) -> None:
        if self._finder:
            self._finder.cancel()

    def _matcher(self) -> Matcher | None:
        return self._finder.matcher if self._finder else None

    def _taken(self) -> int:
        return int(self._prompt is not None)

    def _anew(self) -> None:
        self._drop_finder()
        self._prompt = self._back = None
        if self.is_attached:
            self.refresh_bindings()

    def _tell(self) -> None:
        finder = self._finder
        status = LogStatus(
            lines=self._count,
            new_lines=0 if self._at.following else max(0, self._count - self._at.seen),
            following=self._at.following,
            wrap=self.wrap,
            hit=finder.rank(self._at.current) if finder and self._at.current is not None else 0,
            hits=finder.hits if finder else None,
            counting=bool(finder and not finder.done),
            note=self._note,
        )
        if status != self._status:
            self._status = status
            self.post_message(self.Status(self, status))

    # -- searching -------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "close_search":
            return self._finder is not None or self._prompt is not None
        if action == "hit":
            return self._finder is not None
        if action in ("pager", "save", "copy", "search", "error", "follow", "wrap"):
            return self.source is not None
        return super().check_action(action, parameters)

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return self._prompt is not None and bool(character and character.isprintable())

    def action_search(self) -> None:
        self._prompt = ""
        self._back = replace(self._at)
        self._sync()
        self.refresh_bindings()

    def on_blur(self) -> None:
        if self._prompt is not None:
            self._close_prompt()

    def on_paste(self, event: events.Paste) -> None:
        if self._prompt is not None:
            event.stop()
            self._typed(self._prompt + clean_line(event.text))

    def on_key(self, event: events.Key) -> None:
        if self._prompt is None:
            return
        text: str | None = None
        if event.key == "escape":
            self._end_search(back=True)
        elif event.key == "enter":
            self._close_prompt()
        elif event.key in ("backspace", "ctrl+h"):
            text = self._prompt[:-1]
            if not self._prompt:
                self._end_search(back=True)
                text = None
        elif event.key == "ctrl+u":
            text = ""
        elif event.key == "ctrl+w":
            text = self._prompt.rstrip().rpartition(" ")[0]
        elif event.character and event.is_printable:
            text = self._prompt + event.character
        else:
            return
        event.stop()
        event.prevent_default()
        if text is not None:
            self._typed(text)

    def _typed(self, text: str) -> None:
        self._prompt = text
        origin = self._back.top if self._back else self._at.top
        if text:
            self._search(TextMatcher(text), origin)
            self._jump = 1
        elif self._finder:
            self._drop_finder()
        self._sync()

    def _close_prompt(self) -> None:
        if self._prompt == "":
            self._drop_finder()
        self._prompt = self._back = None
        self._sync()
        self.refresh_bindings()

    def _search(self, matcher: Matcher, origin: int) -> None:
        self._drop_finder()
        if self.source:
            self._finder = Finder(self.source, matcher, origin, self._found)

    def _drop_finder(self) -> None:
        if self._finder:
            self._finder.cancel()
        self._finder = None
        self._jump = 0
        self._drawn.clear()
        self._on_screen = None

    def _end_search(self, back: bool = False) -> None:
        """Stop searching; ``back``: and go where it began."""
        if back and self._back:
            self._at = self._back
        self._drop_finder()
        self._prompt = self._back = None
        self._note = ""
        self._at.current = None
        self._sync()
        self.refresh_bindings()

    def action_close_search(self) -> None:
        self._end_search()

    def _found(self, finder: Finder) -> None:
        """The search knows more."""
        if finder is not self._finder or not self.is_attached:
            return
        if self._jump:
            self._try_jump()
        self._on_screen = None
        self.refresh()
        self._tell()

    def action_hit(self, way: int) -> None:
        if self._finder:
            self._jump = way
            self._try_jump()
            self._tell()

    def action_error(self) -> None:
        if not self._finder or not isinstance(self._finder.matcher, ErrorMatcher):
            self._search(ErrorMatcher(), self._at.top)
            self._at.current = None
            self.refresh_bindings()
        self.action_hit(1)

    def _try_jump(self) -> None:
        """Go to the next hit if it is known; else wait until the search has found it or is done."""
        finder, way = self._finder, self._jump
        assert finder is not None
        here = self._at.current
        if self._prompt is not None or here is None:
            here = (self._back.top if self._back else self._at.top) - (way > 0)
        hit = finder.next(here) if way > 0 else finder.previous(here)
        note = ""
        if hit is None or not finder.certain(here, way):
            if not finder.done:
                return
            hit = finder.next(-1) if way > 0 else finder.previous(self._count + 1)
            if hit is not None:
                note = "went on from the top" if way > 0 else "went on from the end"
        self._jump = 0
        if hit is None:
            self._note = f"no {finder.matcher.label}" if isinstance(finder.matcher, ErrorMatcher) else ""
            return
        self._at.current = hit
        self._reveal(hit)
        self._note = note

    def _reveal(self, number: int) -> None:
        """Bring a line onto the screen, a third from the top if it is not there yet."""
        if number not in {row[0] for row in self._layout()}:
            self._go(max(0, number - self._rows // 3))
        if number not in {row[0] for row in self._layout()}:  # wrapped lines above took all the room
            self._go(number)
        if not self.wrap:
            self._reveal_sideways(number)
        if self._at.following:  # it is this line that is looked at now
            self._at.following = False
            self._at.seen = self._count
        self._on_screen = None
        self.refresh()

    def _reveal_sideways(self, number: int) -> None:
        lines = self._reader.lines(number, 1)
        if not (lines and lines[0] and self._finder):
            return
        spans = self._finder.matcher.spans(unstyled(lines[0].text))
        if spans and not self._at.left <= spans[0][0] <= self._at.left + self._cells - 4:
            self._at.left = max(0, spans[0][0] - self._cells // 3) if spans[0][0] > self._cells - 4 else 0

    # -- handing over ----------------------------------------------------------------------------

    def action_pager(self) -> None:
        if self.source:
            self.post_message(self.OpenInPager(self, self.source))

    def action_save(self) -> None:
        if self.source:
            self.post_message(self.SaveLog(self, self.source))

    def action_copy(self) -> None:
        number = self._count - 1 if self._at.current is None else self._at.current
        lines = self._reader.lines(number, 1)
        if lines and lines[0]:
            self.post_message(self.CopyLine(self, unstyled(lines[0].text)))

    # -- drawing ---------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        if self._prompt is not None and y == self.size.height - 1:
            return self._prompt_line(self.size.width)
        return super().render_line(y)

    def _prompt_line(self, width: int) -> Strip:
        style = self.rich_style + self.get_component_rich_style("logview--prompt", partial=True)
        text = self._prompt or ""
        state = self._status.text if text and self._finder else "enter keeps, esc ends"
        room = max(4, width - len(state) - 4)
        shown = text if len(text) < room else text[-room:]
        typed = Segment("/" + shown, style)
        cursor = Segment(" ", style + Style(reverse=True))
        strip = Strip([typed, cursor])
        rest = max(0, width - strip.cell_length)
        return Strip([*strip, Segment(fit(" " + state, rest), style)]).adjust_cell_length(width, style)
