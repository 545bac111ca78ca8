"""`/`: the line above the keys in which a list is filtered; an active filter is always seen there."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from vmlab_tui.tui.filtering import FIELDS, Filter, parse


class FilterInput(Input):
    """Enter keeps the filter, escape takes it away, the arrows move in the list meanwhile."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "keep the filter"),
        Binding("escape", "clear", "no filter"),
        Binding("up", "step(-1)", "up", show=False),
        Binding("down", "step(1)", "down", show=False),
    ]

    def action_clear(self) -> None:
        if isinstance(self.parent, FilterBar):
            self.parent.clear()

    def action_step(self, by: int) -> None:
        self.post_message(FilterBar.Stepped(by))


class FilterBar(Widget):
    """Hidden while there is no filter."""

    DEFAULT_CSS = """
    FilterBar {
        height: 1; layout: horizontal; background: $boost; color: $text; padding: 0 1; display: none;
        &.-active { display: block; }
        .label { width: auto; text-style: bold; color: $text-accent; }
        FilterInput { width: 1fr; display: none; }
        #kept { width: 1fr; height: 1; text-overflow: ellipsis; text-wrap: nowrap; }
        #count { width: auto; max-width: 60%; color: $text-muted; text-wrap: nowrap; }
        &.-editing FilterInput { display: block; }
        &.-editing #kept { display: none; }
    }
    """

    class Changed(Message):
        """Another filter is to be applied."""

        def __init__(self, wanted: Filter) -> None:
            super().__init__()
            self.filter = wanted

    class Stepped(Message):
        """An arrow was pressed while typing."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Closed(Message):
        """The typing is over; the list should have the focus again."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = Filter()
        self._count = (0, 0)

    def compose(self) -> ComposeResult:
        yield Static("filter: ", classes="label")
        hint = f"letters, !not, {', '.join(f'{field}:' for field in FIELDS)}"
        yield FilterInput(placeholder=hint, compact=True, select_on_focus=False)
        yield Static("", id="kept")
        yield Static("", id="count")

    @property
    def editing(self) -> bool:
        return self.has_class("-editing")

    def open(self) -> None:
        """Let the person type."""
        self.add_class("-active", "-editing")
        self.query_one(FilterInput).focus()
        self._draw()

    def clear(self) -> bool:
        """No filter any more. False when there was none."""
        had = bool(self.filter.text) or self.editing
        if had:
            editing = self.editing
            self.query_one(FilterInput).value = ""
            self._set("")
            self.remove_class("-active", "-editing")
            if editing:
                self.post_message(self.Closed())
        return had

    def told(self, fitting: int, of: int) -> None:
        """How many rows fit."""
        if self._count != (fitting, of):
            self._count = (fitting, of)
            self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._set(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.remove_class("-editing")
        self.set_class(bool(self.filter), "-active")
        if not self.filter:
            self.query_one(FilterInput).value = ""
            self._set("")
        self._draw()
        self.post_message(self.Closed())

    def _set(self, text: str) -> None:
        if text == self.filter.text:
            return
        me = ""
        if "owner:me" in text.lower():
            from vmlab_tui.lab.leases import whoami

            me = whoami()
        self.filter = parse(text, me=me)
        self._draw()
        self.post_message(self.Changed(self.filter))

    def _draw(self) -> None:
        self.query_one("#kept", Static).update(Content(self.filter.told))
        fitting, of = self._count
        told = f"  {fitting} of {of}" if self.filter else ""
        told += ", esc clears" if self.editing else ", / edits, esc clears"
        if self.filter.problems:
            told = f"  ! {self.filter.problems[0]}"
        self.query_one("#count", Static).update(Content(told.removeprefix(", ")))
