"""Secrets for a run that goes on: they are stored nowhere, so they are asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from vmlab_tui.tui.dispatch import perform
from vmlab_tui.tui.screens.dialogs import Asking
from vmlab_tui.tui.screens.run_fields import FormLine
from vmlab_tui.tui.screens.run_form import Field

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.tui.selection import Target
    from vmlab_tui.verbs.verb import Verb


class SecretsDialog(Asking[dict[str, str]]):
    """Returns what was typed, by name; a field that is left empty is not in it."""

    CSS = """
    SecretsDialog {
        .field { height: 1; }
        .field .label { width: 24; }
        .field Input { width: 1fr; }
    }
    """

    def __init__(self, title: str, names: Sequence[str], environ: Mapping[str, str]) -> None:
        super().__init__(title)
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

    def fields(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield from map(FormLine, self._fields)

    def on_mount(self) -> None:
        self.query(FormLine).first().control.focus()

    def action_done(self) -> None:
        for line in self.query(FormLine):
            if line.field.needed and not line.value:
                self.needed(line.field.label, line.control)
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
