"""The area of the lab: images, the VMs that stand on them, their snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from vmlab_tui.tui.screens.base import verb_bindings
from vmlab_tui.tui.screens.firststart import Offer, OfferingArea
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.details import Details
from vmlab_tui.tui.widgets.rows import Column, Row, Rows

if TYPE_CHECKING:
    from vmlab_tui.lab.graph import Row as Node


class LabArea(OfferingArea):
    """A tree on the left, what is under its cursor on the right; narrow: one of the two."""

    IDENT = "lab"
    BINDINGS: ClassVar[list[BindingType]] = [
        *verb_bindings("lab", first="nsctpmkRDhOvV"),
        Binding("y", "copy", "copy", show=False, tooltip="Copy a name, path, address or uuid"),
        Binding("escape", "back", "back", show=False, tooltip="Back to the list; take marks away"),
    ]
    CSS = """
    LabArea {
        Rows { width: 3fr; }
        &.-narrow Details { display: none; }
        &.-narrow.-details Details { display: block; width: 1fr; border-left: none; }
        &.-narrow.-details Rows { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._graph: dict[str, Node] = {}
        self._folded: set[str] = set()

    def body(self) -> ComposeResult:
        columns = (
            Column("name"),
            Column("what", 12),
            Column("size", 6, right=True, drop=2),
            Column("lease", 13, drop=1),
        )
        yield Offer()
        with Horizontal():
            yield Rows(columns, id="lab", markable=True, empty="looking ...")
            yield Details()

    def on_mount(self) -> None:
        self.app.hub.lab_changed.subscribe(self, self._show)
        self.set_interval(5, self._show)  # ages
        self._show()

    def _show(self, _: object = None) -> None:
        found = self.app.hub.inventory
        if found is None:
            return
        from vmlab_tui.tui.labview import key_of, tree

        self._graph = {key_of(node.key): node for node in found.rows}
        # a filter looks into what is folded, too
        rows = tree(found, () if self.filtering else self._folded)
        self.show_rows(self.query_one(Rows), rows, "nothing here yet: n starts a run")
        self._detail(self.query_one(Rows).cursor)
        self._offer()

    def _detail(self, row: Row | None) -> None:
        found = self.app.hub.inventory
        node = self._graph.get(row.key) if row else None
        if found is None or node is None or row is None:
            self.query_one(Details).show("", [])
            return
        from vmlab_tui.tui.labview import details

        budget = self.app.settings.budget if self.app.settings else None
        self.query_one(Details).show(row.cells[0].text, details(node, found, budget))

    def targets(self) -> tuple[Target, ...]:
        if not self._graph:
            return ()
        from vmlab_tui.tui.labview import target_of

        nodes = [self._graph[row.key] for row in self.query_one(Rows).chosen if row.key in self._graph]
        return tuple(target for node in nodes if (target := target_of(node)))

    def on_rows_moved(self, event: Rows.Moved) -> None:
        self._detail(event.row)
        self.refresh_bindings()

    def on_rows_opened(self, event: Rows.Opened) -> None:
        self.add_class("-details")
        self.query_one(Details).focus()

    def on_rows_folded(self, event: Rows.Folded) -> None:
        self._folded = self._folded - {event.key} if event.unfold else self._folded | {event.key}
        self._show()

    def go_to(self, key: str) -> None:
        """Unfold what the row of that key is in, and go there."""
        from vmlab_tui.tui.labview import key_of

        node = self._graph.get(key)
        while node and node.parent:
            self._folded.discard(key_of(node.parent))
            node = self._graph.get(key_of(node.parent))
        self.remove_class("-details")
        super().go_to(key)

    def action_back(self) -> None:
        """From the details to the list, then the marks away, then the filter."""
        rows = self.query_one(Rows)
        if not rows.has_focus:
            self.remove_class("-details")
            rows.focus()
        elif not rows.clear_marks():
            super().action_back()

    async def action_copy(self) -> None:
        """Ask what of the thing under the cursor, and put it on the clipboard."""
        row = self.query_one(Rows).cursor
        if row is None or row.key not in self._graph:
            return
        from vmlab_tui.tui.labview import things_to_copy
        from vmlab_tui.tui.screens.dialogs import ChoiceDialog

        def copy(text: str | None) -> None:
            if text is not None:
                self.app.copy_to_clipboard(text)
                self.app.tell(f"copied: {text}")

        self.app.push_screen(ChoiceDialog("Copy", things_to_copy(self._graph[row.key])), copy)
