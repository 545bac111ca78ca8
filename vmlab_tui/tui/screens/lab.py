"""The area of the lab: images, the VMs that stand on them, their snapshots."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.tui.screens.base import AreaScreen, verb_bindings
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows


class LabArea(AreaScreen):
    IDENT = "lab"
    BINDINGS: ClassVar[list[BindingType]] = verb_bindings("lab")

    def body(self) -> ComposeResult:
        columns = (Column("name"), Column("state", 10), Column("memory", 7, right=True, drop=1))
        with Horizontal():
            yield Rows(columns, id="lab", markable=True, empty="looking ...")

    def on_mount(self) -> None:
        super().on_mount()
        self.app.hub.lab_changed.subscribe(self, self._show)
        self._show()

    def _show(self, _: object = None) -> None:
        found = self.app.hub.inventory
        if found is None:
            return
        rows = [
            Row(
                vm.uuid,
                (
                    Cell(clean_line(vm.name)),
                    Cell(f"VM {vm.power}", "good" if vm.power == "on" else "dim"),
                    Cell(size(vm.domain.memory) if vm.domain else ""),
                ),
            )
            for vm in found.vms
        ]
        self.query_one(Rows).set_rows(rows, empty="nothing here yet: n starts a run")

    def targets(self) -> tuple[Target, ...]:
        return tuple(Target("vm", row.key, row.cells[0].text) for row in self.query_one(Rows).chosen)
