"""Secrets for a run that goes on: they are stored nowhere, so they are asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.dispatch import perform
from vmlab_tui.tui.screens.run_fields import FormLine
from vmlab_tui.tui.screens.run_form import Field

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.tui.selection import Target
    from vmlab_tui.verbs.verb import Verb


class SecretsDialog(ModalScreen[dict[str, str] | None]):
    """Returns what was typed, by name; a field that is left empty is not in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel"),
        Binding("ctrl+s", "done", "go on", priority=True),
    ]
    CSS = """
    SecretsDialog {
        .field { height: 1; }
        .field .label { width: 24; }
        .field Input { width: 1fr; }
    }
    """

    def __init__(self, title: str, names: Sequence[str], environ: Mapping[str, str]) -> None:
        super().__init__()
        self._title = clean_line(title)
        self._fields = [
            Field(
                name,
                name,
                hint="as in your environment" if name in environ else "needed",
                secret=True,
                needed=name not in environ,
            )
            for name in names
        ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog form"):
            yield Static(Content(self._title), id="question")
            with VerticalScroll(can_focus=False):
                yield from map(FormLine, self._fields)
            yield Static("", id="problem")
            with Horizontal(classes="buttons"):
                yield Button(Content("Cancel (esc)"), id="no")
                yield Button(Content("Go on (ctrl+s)"), id="yes", variant="primary")

    def on_mount(self) -> None:
        self.query(FormLine).first().control.focus()

    def on_input_submitted(self) -> None:
        self.action_done()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_done()
        else:
            self.action_cancel()

    def action_cancel(self) -> None:
        self.dismiss(None)

    def action_done(self) -> None:
        for line in self.query(FormLine):
            if line.field.needed and not line.value:
                self.query_one("#problem", Static).update(Content(f"! {line.field.label} is needed"))
                line.control.focus()
                return
        self.dismiss({line.field.name: line.value for line in self.query(FormLine) if line.value})


async def perform_with_secrets(
    app: LabApp, verb: Verb, targets: Sequence[Target], names: Sequence[str], environ: Mapping[str, str]
) -> None:
    """Ask for these secrets, then do ``verb``; must be called in a worker."""
    title = f"{' '.join(verb.words)} {targets[0].label} needs its secrets again"
    typed = await app.push_screen_wait(SecretsDialog(title, names, environ))
    if typed is not None:
        await perform(app, verb, targets, {"env": tuple(name for name in names if name not in typed)}, typed)
