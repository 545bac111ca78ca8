"""`@`: the commands that were really run, by vmlab here and by the workers of the newest runs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows

if TYPE_CHECKING:
    from vmlab_tui.runs.commandlog import Command
    from vmlab_tui.tui.app import LabApp

_EVERY = 1.0


class CommandsScreen(Screen[None]):
    """Newest last, as one would have typed them; `y` copies the one under the cursor."""

    app: LabApp
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy", tooltip="Copy the command under the cursor"),
        Binding("escape,q,at", "app.pop_screen", "back", tooltip="Back to what was there"),
    ]
    CSS = "CommandsScreen #command { height: 4; border-top: solid $panel; padding: 0 1; }"

    def compose(self) -> ComposeResult:
        yield Static(
            Content(" Commands really run, by this vmlab and by the workers of runs"), classes="title"
        )
        columns = (
            Column("time", 8),
            Column("how", 6),
            Column("took", 7, right=True, drop=1),
            Column("command"),
            Column("by", 14, drop=2),
        )
        yield Rows(columns, empty="nothing was changed from here yet, and no run has a log")
        yield Static("", id="command")
        yield KeyLine()

    def on_mount(self) -> None:
        self._reading = False
        self._known: tuple[Command, ...] | None = None
        self._whole: dict[str, str] = {}
        self.set_interval(_EVERY, self._read)
        self._read()

    def _read(self) -> None:
        if not self._reading and self.app.hub.lab:
            self._reading = True
            self.run_worker(self._show(), group="commands", exit_on_error=False)

    async def _show(self) -> None:
        lab = self.app.hub.lab
        assert lab is not None

        async def read() -> tuple[Command, ...]:
            import asyncio

            from vmlab_tui.runs.commandlog import recent

            return tuple(await asyncio.to_thread(recent, lab))

        try:
            found = await self.app.backend.call(read())
        finally:
            self._reading = False
        if found == self._known:
            return
        rows = self.query_one(Rows)
        at_end = rows.cursor is None or rows.cursor == rows.rows[-1]
        self._known = found
        # a connection that all of them name takes the room of what tells them apart
        usual = f" -c {lab.uri} "
        self._whole = {_key(one, number): one.command for number, one in enumerate(found)}
        rows.set_rows([_row(one, number, usual) for number, one in enumerate(found)])
        if at_end:
            rows.action_end(1)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        self.query_one("#command", Static).update(
            Content(self._whole.get(event.row.key, "") if event.row else "")
        )

    def action_copy(self) -> None:
        if row := self.query_one(Rows).cursor:
            self.app.copy_to_clipboard(self._whole[row.key])
            self.app.tell("copied the command")


def _key(one: Command, number: int) -> str:
    return f"{one.at} {one.run} {number}"


def _row(one: Command, number: int, usual: str) -> Row:
    when = datetime.fromisoformat(one.at).astimezone().strftime("%H:%M:%S")
    tone = "" if one.outcome == "ok" else "bad"
    by = one.run or "vmlab here"
    cells = (Cell(when, "dim"), Cell(one.outcome, tone), Cell(f"{one.seconds:.2f} s", "dim"))
    return Row(_key(one, number), (*cells, Cell(one.command.replace(usual, " ", 1)), Cell(by, "dim")))
