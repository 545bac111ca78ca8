"""The area of the runs: all of them, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.tui.screens.base import AreaScreen, verb_bindings
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows

if TYPE_CHECKING:
    from vmlab_tui.runs.client import RunView

_TONES = {"passed": "good", "failed": "bad", "error": "bad", "interrupted": "warn", "paused": "warn"}


class RunsArea(AreaScreen):
    IDENT = "runs"
    BINDINGS: ClassVar[list[BindingType]] = verb_bindings("runs", without=("runs.show", "runs.logs"))

    def body(self) -> ComposeResult:
        columns = (
            Column("run", middle=True),
            Column("state", 11),
            Column("step", 17, drop=2),
            Column("age", 7, right=True),
            Column("took", 7, right=True, drop=1),
            Column("VM", 7, drop=4),
        )
        with Horizontal():
            yield Rows(columns, id="runs", markable=True, empty="no runs yet: n starts one")

    def on_mount(self) -> None:
        super().on_mount()
        self.app.hub.runs_changed.subscribe(self, self._show)
        self.set_interval(1, self._show)
        self._show()

    def _show(self, _: object = None) -> None:
        views = self.app.hub.runs
        if views is not None:
            self.show_rows(
                self.query_one(Rows), [row_of(view) for view in views], "no runs yet: n starts one"
            )

    def targets(self) -> tuple[Target, ...]:
        return tuple(self._target(row) for row in self.query_one(Rows).chosen)

    @staticmethod
    def _target(row: Row) -> Target:
        return Target("run", row.key, row.cells[0].text, state=row.cells[1].text)

    async def on_rows_opened(self, event: Rows.Opened) -> None:
        if event.row:
            await self.app.open_run(event.row.key)


def row_of(view: RunView) -> Row:
    """A run as one line."""
    from vmlab_tui.verbs.shapes import elapsed, stopped_at
    from vmlab_tui.verbs.words import age

    at = stopped_at(view)
    ended = view.state.ended
    step = f"{at.number:02} {clean_line(at.name, 40)}" if at else ""
    names = f"{view.run_id} {view.plan.vm.name}"
    vm = "" if ended is None else {"kept": "kept", "destroyed": "removed"}.get(ended.disposition, "-")
    return Row(
        view.run_id,
        (
            Cell(clean_line(view.run_id)),
            Cell(view.status, _TONES.get(view.status, "")),
            Cell(step),
            Cell(age(view.plan.created)),
            Cell(duration(elapsed(view))),
            Cell(vm),
        ),
        search=(
            ("state", view.status),
            ("owner", view.plan.owner),
            ("", names),
        ),
    )
