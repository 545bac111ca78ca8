"""The area of the runs: all of them, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.tui.screens.base import verb_bindings
from vmlab_tui.tui.screens.firststart import Offer, OfferingArea
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows

if TYPE_CHECKING:
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.verbs.verb import Verb

_TONES = {"passed": "good", "failed": "bad", "error": "bad", "interrupted": "warn", "paused": "warn"}


class RunsArea(OfferingArea):
    IDENT = "runs"
    BINDINGS: ClassVar[list[BindingType]] = verb_bindings("runs", without=("runs.show", "runs.logs"))

    def body(self) -> ComposeResult:
        columns = (
            Column("run", middle=True, most=44),
            Column("state", 11),
            Column("step", drop=2, least=17, most=40),
            Column("profile", drop=5, least=28, most=32),
            Column("age", 7, right=True),
            Column("took", 7, right=True, drop=1),
            Column("VM", 7, drop=4),
        )
        yield Offer()
        with Horizontal():
            yield Rows(columns, id="runs", markable=True, empty="no runs yet: n starts one")

    def on_mount(self) -> None:
        self.app.hub.runs_changed.subscribe(self, self._show)
        self.set_interval(1, self._show)
        self._show()

    def _show(self, _: object = None) -> None:
        views = self.app.hub.runs
        if views is not None:
            self.show_rows(
                self.query_one(Rows), [row_of(view) for view in views], "no runs yet: n starts one"
            )
            self._offer()

    def targets(self) -> tuple[Target, ...]:
        return tuple(self._target(row) for row in self.query_one(Rows).chosen)

    @staticmethod
    def _target(row: Row) -> Target:
        return Target("run", row.key, row.cells[0].text, state=row.cells[1].text)

    def _verb(self, area: str, key: str) -> Verb | None:
        """Only what one of the chosen runs can still be asked for: there is no SSH into a VM that is gone."""
        from vmlab_tui.tui.runview import possible

        verb = super()._verb(area, key)
        keys = {row.key for row in self.query_one(Rows).chosen}
        views = [view for view in self.app.hub.runs or () if view.run_id in keys]
        if verb is None or not views or any(possible(view, verb.id) for view in views):
            return verb
        return None

    def on_rows_moved(self) -> None:
        self.refresh_bindings()

    async def on_rows_opened(self, event: Rows.Opened) -> None:
        if event.row:
            await self.app.open_run(event.row.key)


def row_of(view: RunView) -> Row:
    """A run as one line."""
    from vmlab_tui.verbs.shapes import elapsed, stopped_at
    from vmlab_tui.verbs.words import age

    at = stopped_at(view)
    step = f"{at.number:02} {clean_line(at.name, 40)}" if at else ""
    profile = clean_line(view.plan.profile.name, 60)
    names = f"{view.run_id} {view.plan.vm.name}"
    return Row(
        view.run_id,
        (
            Cell(clean_line(view.run_id)),
            Cell(view.status, _TONES.get(view.status, "")),
            Cell(step),
            Cell(profile),
            Cell(age(view.plan.created)),
            Cell(duration(elapsed(view))),
            Cell(vm_word(view)),
        ),
        search=(
            ("state", view.status),
            ("owner", view.plan.owner),
            ("", names),
        ),
    )


def vm_word(view: RunView) -> str:
    """What has become of the run's VM: live, paused, kept, removed; ``left`` by a run that is interrupted."""
    from vmlab_tui.tui.runview import done

    if ended := view.state.ended:
        return {"kept": "kept", "destroyed": "removed"}.get(ended.disposition, "-")
    if not done(view, "define"):
        return "-"
    return "paused" if view.status == "paused" else "live" if view.live else "left"
