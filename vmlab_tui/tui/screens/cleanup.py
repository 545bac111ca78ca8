"""The area of the clean-up: what may go and why, what cannot be proved, what is in the trash."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.screens.base import AreaScreen, verb_bindings
from vmlab_tui.tui.widgets.details import Details
from vmlab_tui.tui.widgets.rows import Column, Row, Rows

if TYPE_CHECKING:
    from vmlab_tui.lab.reach import Judgement
    from vmlab_tui.lab.scan import Scanner
    from vmlab_tui.lab.trash import Entry


class CleanUpArea(AreaScreen):
    """A list on the left; on the right the proof for the thing under its cursor."""

    IDENT = "clean-up"
    BINDINGS: ClassVar[list[BindingType]] = [
        *verb_bindings("clean-up", first="Cu"),
        Binding("a", "same", "mark class", tooltip="Mark all of the same class"),
        Binding("r", "again", "look again", tooltip="Look at everything again"),
        Binding("escape", "back", "back", show=False, tooltip="Back to the list; marks and filter away"),
    ]
    CSS = """
    CleanUpArea {
        #left { width: 3fr; height: 100%; }
        #total { height: 1; padding: 0 1; color: $text-muted; }
        &.-narrow Details { display: none; }
        &.-narrow.-details Details { display: block; width: 1fr; border-left: none; }
        &.-narrow.-details #left { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._judgement: Judgement | None = None
        self._entries: tuple[Entry, ...] = ()
        self._problem = ""
        self._busy = False
        self._scanner: Scanner | None = None
        """Kept, since it reads again only what has changed."""

    def body(self) -> ComposeResult:
        columns = (
            Column("thing"),
            Column("class", 12, drop=2),
            Column("frees", 6, right=True),
            Column("age", 6, right=True, drop=1),
            Column("", 11),
        )
        with Horizontal():
            with Vertical(id="left"):
                yield Rows(columns, id="things", markable=True, empty="looking at everything ...")
                yield Static("", id="total")
            yield Details()

    def on_mount(self) -> None:
        # an area that is not looked at need not know
        self.app.hub.lab_changed.subscribe(self, self._lab_changed)

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self.action_again()

    def _lab_changed(self, _: object) -> None:
        if self.is_current:
            self.action_again()

    def action_again(self) -> None:
        """Look at everything anew; the answer comes later."""
        if self.app.hub.lab is not None and not self._busy:
            self._busy = True
            self.run_worker(self._look(), group="clean-up", exit_on_error=False)

    async def _look(self) -> None:
        lab = self.app.hub.lab
        assert lab is not None

        async def look() -> tuple[Judgement, tuple[Entry, ...]]:
            import asyncio

            from vmlab_tui.hosts.host import Host
            from vmlab_tui.lab.reach import judge
            from vmlab_tui.lab.scan import Scanner
            from vmlab_tui.lab.trash import list_entries
            from vmlab_tui.verbs.clean_shapes import policy

            scanner, rules = self._scanner, policy()[0]
            if scanner is None or (scanner.lab, scanner.policy) != (lab, rules):
                scanner = self._scanner = Scanner(lab, rules)
            async with Host.open(lab.uri) as host:
                judgement = judge(await scanner.look(host))
            entries, _ = await asyncio.to_thread(list_entries, lab.store)
            return judgement, tuple(entries)

        try:
            self._judgement, self._entries = await self.app.backend.call(look())
            self._problem = ""
        except (LabError, OSError) as error:
            self._problem = clean_line(error.message if isinstance(error, LabError) else str(error), 200)
        finally:
            self._busy = False
        self._show()

    def _show(self, _: object = None) -> None:
        from vmlab_tui.tui import cleanview

        rows = self.query_one("#things", Rows)
        if self._problem:
            self.query_one("#total", Static).update(Content(f"cannot look: {self._problem}"))
        if self._judgement is None:
            return
        fresh = cleanview.garbage_rows(self._judgement) + cleanview.trash_rows(self._entries)
        self.show_rows(rows, fresh, "nothing to clean up, and the trash is empty")
        self._total()
        self._detail(rows.cursor)

    def _total(self) -> None:
        from vmlab_tui.tui import cleanview

        if self._judgement is None:
            return
        marked = self.query_one("#things", Rows).marked
        told = self._problem or cleanview.total(self._judgement, self._entries, marked)
        self.query_one("#total", Static).update(Content(told))

    def _detail(self, row: Row | None) -> None:
        from vmlab_tui.tui import cleanview

        details = self.query_one(Details)
        if row is None or self._judgement is None:
            details.show("", [])
            return
        key = tuple(row.key.split(cleanview.SEPARATOR))
        entry = next((one for one in self._entries if key == ("trash", one.id)), None)
        lines = cleanview.entry_details(entry) if entry else cleanview.details(self._judgement, key)
        details.show(row.cells[0].text, lines)

    # -- keys --------------------------------------------------------------------------------------

    def action_verb(self, area: str, key: str) -> None:
        """What is marked; nothing marked: all garbage, the whole trash, or the last clean-up."""
        verb = self._verb(area, key)
        if verb is None:
            return
        from vmlab_tui.tui.cleanview import SEPARATOR

        rows = self.query_one("#things", Rows)
        chosen = [row.key.split(SEPARATOR) for row in rows.chosen]
        trashed = tuple(ident for kind, ident in (key[:2] for key in chosen) if kind == "trash")
        if verb.id == "clean":
            given = tuple(":".join(key) for key in chosen if key[0] != "trash") if rows.marked else ()
            if rows.marked and not given:
                self.app.tell("what is marked is in the trash already", bad=True)
                return
            self.do(verb, (), only=given)
        elif verb.id == "undo":
            self.do(verb, (), entry=trashed)
        else:
            self.do(verb, (), entry=trashed if rows.marked else ())

    def action_same(self) -> None:
        """Mark everything of the class under the cursor."""
        rows = self.query_one("#things", Rows)
        if rows.cursor is not None:
            kind = rows.cursor.cells[1].text, rows.cursor.cells[4].text
            rows.marked |= {row.key for row in rows.rows if (row.cells[1].text, row.cells[4].text) == kind}
            rows.refresh()
            self._total()

    def on_rows_moved(self, event: Rows.Moved) -> None:
        self._total()  # a mark moves on
        self._detail(event.row)
        self.refresh_bindings()

    def on_rows_opened(self, event: Rows.Opened) -> None:
        """The proof."""
        self.add_class("-details")
        self.query_one(Details).focus()

    def action_back(self) -> None:
        """From the proof to the list, then the marks away, then the filter."""
        rows = self.query_one("#things", Rows)
        if not rows.has_focus:
            self.remove_class("-details")
            rows.focus()
        elif rows.clear_marks():
            self._total()
        else:
            super().action_back()
