"""`?`: the keys that work on a screen, with what they do in plain words."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from vmlab_tui.tui.text import fit
from vmlab_tui.tui.widgets.keyline import is_letter, shown_key, typing

_MOVING = {"up", "down", "left", "right", "home", "end", "pageup", "pagedown"}
_TEXTUALS = (
    "page_left",
    "page_right",
    "app.focus_",
    "screen.focus_",
    "screen.copy_text",
    "scroll_",
    "show_overlay",
)
"""Beginnings of actions that every widget has, whose keys are of no use here or told in one line."""
_WIDE = 10


class KeysScreen(ModalScreen[None]):
    """Reads the bindings of the screen below; those that do nothing there now stand in brackets."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "app.pop_screen", "back", tooltip="Back to what was there")
    ]

    def __init__(self, of: Screen[object]) -> None:
        super().__init__()
        self._lines = self._read(of)

    @staticmethod
    def _read(of: Screen[object]) -> list[tuple[str, str]]:
        tell = getattr(of, "told_key", None)
        found: dict[str, tuple[list[str], str]] = {}
        moving: dict[str, str] = {}
        for active in of.active_bindings.values():
            binding = active.binding
            if binding.system or not binding.description or binding.action.startswith(_TEXTUALS):
                continue
            if typing(of) and is_letter(binding.key):
                continue
            if binding.key in _MOVING:
                moving[binding.key] = binding.tooltip or binding.description
                continue
            if binding.action == "app.command_palette":
                found[binding.action] = ([":"], "Everything by name: verbs, areas, VMs, runs, images")
                continue
            text = tell(binding)[1] if tell else binding.tooltip or binding.description
            told = text if active.enabled else f"({text}: not here)"
            keys, _ = found.setdefault(binding.action, ([], told))
            if shown_key(binding.key) not in keys:
                keys.append(shown_key(binding.key))
        lines = [(" ".join(keys), text) for keys, text in found.values()]
        for pair, text in ((("up", "down"), ""), (("left", "right"), ""), (("pageup", "pagedown"), "")):
            if known := [key for key in pair if key in moving]:
                told = text or ", ".join(dict.fromkeys(moving[key] for key in known))
                lines.append((" ".join(shown_key(key) for key in known), told))
        if known := [key for key in ("home", "end") if key in moving]:
            lines.append((" ".join(known), ", ".join(moving[key] for key in known)))
        told = {key for keys, _ in lines for key in keys.split()}
        more = (("tab", "the next pane or field"), ("esc", "one step back"))
        return [*lines, *(one for one in more if one[0] not in told)]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog keys"):
            yield Static(Content("Keys that work here"), id="question")
            told = [
                Content.assemble((fit(keys, _WIDE), "bold $text-accent"), " ", text)
                for keys, text in self._lines
            ]
            with VerticalScroll(can_focus=True):
                yield Static(Content("\n").join(told))
            yield Static(Content("esc closes; arrows scroll"), classes="hint-head")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
