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
from vmlab_tui.tui.widgets.keyline import shown_key


class KeysScreen(ModalScreen[None]):
    """Reads the bindings of the screen below; those that do nothing there now stand in brackets."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "app.pop_screen", "back")]

    def __init__(self, of: Screen[object]) -> None:
        super().__init__()
        self._lines = self._read(of)

    @staticmethod
    def _read(of: Screen[object]) -> list[tuple[str, str]]:
        tell = getattr(of, "told_key", None)
        found: dict[str, tuple[list[str], str]] = {}
        for active in of.active_bindings.values():
            binding = active.binding
            if binding.system or not binding.description:
                continue
            text = tell(binding)[1] if tell else binding.tooltip or binding.description
            keys, _ = found.setdefault(
                binding.action, ([], text if active.enabled else f"({text}: not here)")
            )
            if shown_key(binding.key) not in keys:
                keys.append(shown_key(binding.key))
        return [(" ".join(keys), text) for keys, text in found.values()]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog keys"):
            yield Static(Content("Keys that work here"), id="question")
            with VerticalScroll():
                for keys, text in self._lines:
                    yield Static(Content.assemble((fit(keys, 10), "bold $text-accent"), " ", text))
            yield Static(Content("esc closes"), classes="loses-head")
