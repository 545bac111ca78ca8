"""The last line of every screen: the keys that work here and now, as many as fit; `?` has them all."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

NAMES = {
    "space": "space",
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "at": "@",
    "exclamation_mark": "!",
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
}
"""Keys as they are written for people, where Textual's name is another."""


def shown_key(key: str) -> str:
    """``enter`` or ``D`` or ``/``; the first of several that do the same."""
    first = key.split(",", maxsplit=1)[0]
    return NAMES.get(first, first)


def is_letter(key: str) -> bool:
    """Whether a key by Textual's name puts something into a line of text: ``q``, ``colon``."""
    shown = shown_key(key)
    return shown == "space" or (len(shown) == 1 and shown.isascii())


def typing(screen: Screen[object]) -> bool:
    """Whether a line of text has the focus, so that letters do nothing else."""
    return isinstance(screen.focused, Input)


class KeyLine(Widget):
    """Reads the bindings that are active on the screen and follows them; a click on a key presses it."""

    DEFAULT_CSS = """
    KeyLine { height: 1; background: $panel; color: $text; dock: bottom; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[tuple[str, str]] = []
        """(key, what it does) of those that are shown."""

    def render(self) -> Content:
        # one text, not a widget to a key: they change with nearly every row that the cursor comes to
        told = [
            Content.assemble((shown_key(key), "bold $text-accent"), f" {word} ") for key, word in self.keys
        ]
        return Content("").join(told)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        at = event.x - self.gutter.left
        for key, word in self.keys:
            at -= cell_len(f"{shown_key(key)} {word} ")
            if at < 0:
                self.app.simulate_key(key.split(",", maxsplit=1)[0])
                return

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self.call_after_refresh(self._changed, self.screen)

    def on_resize(self) -> None:
        self._changed(self.screen)

    def _changed(self, screen: Screen[object]) -> None:
        if not screen.app.app_focus or screen is not self.screen:
            return
        keys = self._fitting(screen)
        if keys != self.keys:
            self.keys = keys
            self.refresh()

    def _fitting(self, screen: Screen[object]) -> list[tuple[str, str]]:
        types = typing(screen)
        last = ("f1" if types else "question_mark", "keys")
        tell = getattr(screen, "told_key", None)
        found: dict[str, tuple[str, str]] = {}
        for active in screen.active_bindings.values():
            binding = active.binding
            if types and is_letter(binding.key):
                continue
            if binding.show and active.enabled and binding.description and binding.key != last[0]:
                word = tell(binding)[0] if tell else binding.description
                found.setdefault(binding.action, (binding.key, word))
        room = self.size.width - 2 - len(shown_key(last[0])) - len(" keys ")
        kept = []
        # a filter is known from elsewhere, and told by `?`: verbs come first
        for key, label in sorted(found.values(), key=lambda one: one[0] == "slash"):
            room -= len(shown_key(key)) + len(label) + 2
            if room < 0:
                break
            kept.append((key, label))
        return [*kept, last]
