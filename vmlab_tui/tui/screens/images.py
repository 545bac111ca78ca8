"""The area of the images: the base disks in the store, what they are, and who stands on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from vmlab_tui.tui.screens.base import AreaScreen, verb_bindings
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.details import Details
from vmlab_tui.tui.widgets.rows import Column, Row, Rows

if TYPE_CHECKING:
    from vmlab_tui.images.store import Image
    from vmlab_tui.lab.graph import ImageEntry, Inventory

_LOOK_AGAIN = 15.0
"""Seconds after which recipes are compared again: somebody may edit one."""


class ImagesArea(AreaScreen):
    """A list on the left; on the right the image under its cursor, and below that its users."""

    IDENT = "images"
    BINDINGS: ClassVar[list[BindingType]] = [
        *verb_bindings("images", without=("image.show",)),
        Binding("escape", "back", "back", show=False, tooltip="Back to the list; marks and filter away"),
    ]
    CSS = """
    ImagesArea {
        #images { width: 3fr; }
        #side { width: 2fr; min-width: 34; height: 100%; border-left: solid $panel; }
        #side Details { width: 100%; height: 1fr; border-left: none; }
        #users-head { height: 1; padding: 0 1; color: $text-muted; }
        #users { height: auto; max-height: 40%; min-height: 1; }
        &.-narrow #side { display: none; }
        &.-narrow.-details #side { display: block; width: 1fr; border-left: none; }
        &.-narrow.-details #images { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, ImageEntry] = {}
        self._fresh: dict[str, str] = {}
        self._compared: tuple[Image, ...] = ()

    def body(self) -> ComposeResult:
        columns = (
            Column("image"),
            Column("size", 6, right=True),
            Column("disk", 6, right=True, drop=3),
            Column("age", 6, right=True, drop=2),
            Column("recipe", 12),
            Column("proven", 6, drop=1),
            Column("used by", 7),
        )
        with Horizontal():
            yield Rows(columns, id="images", markable=True, empty="looking ...")
            with Vertical(id="side"):
                yield Details()
                yield Static("", id="users-head")
                yield Rows((Column("name"), Column("", 12)), head=False, id="users")

    def on_mount(self) -> None:
        self.app.hub.lab_changed.subscribe(self, self._show)
        self.set_interval(5, self._show)  # ages
        self.set_interval(_LOOK_AGAIN, self._compare)
        self._show()

    def _show(self, _: object = None) -> None:
        found = self.app.hub.inventory
        if found is None:
            return
        from vmlab_tui.tui.imageview import image_rows
        from vmlab_tui.tui.labview import key_of

        if tuple(entry.image for entry in found.images if entry.image) != self._compared:
            self._compare(found)
        self._entries = {key_of(entry.key): entry for entry in found.images}
        rows = self.query_one("#images", Rows)
        self.show_rows(rows, image_rows(found, self._fresh), "no images yet: b builds one, a adds a file")
        self._detail(rows.cursor)

    def _compare(self, found: Inventory | None = None) -> None:
        """Look whether the recipes say what they said; the answer comes later."""
        found = found or self.app.hub.inventory
        if found is not None:
            self._compared = tuple(entry.image for entry in found.images if entry.image)
            self.run_worker(
                self._freshness(self._compared), group="freshness", exclusive=True, exit_on_error=False
            )

    async def _freshness(self, images: tuple[Image, ...]) -> None:
        async def look() -> dict[str, str]:
            import asyncio

            from vmlab_tui.verbs.images import freshness

            return await asyncio.to_thread(lambda: {image.name: freshness(image) for image in images})

        fresh = await self.app.backend.call(look())
        if fresh != self._fresh:
            self._fresh = fresh
            self._show()

    def _detail(self, row: Row | None) -> None:
        entry = self._entries.get(row.key) if row else None
        details, users = self.query_one(Details), self.query_one("#users", Rows)
        if entry is None or row is None:
            details.show("", [])
            users.set_rows([], "")
            self.query_one("#users-head", Static).update("")
            return
        from vmlab_tui.tui.imageview import image_details, user_rows

        details.show(row.cells[0].text, image_details(entry, self._fresh))
        fresh = user_rows(entry)
        users.set_rows(fresh, "no VM")
        users.styles.height = min(12, max(1, len(fresh)))
        head = f"used by {len(fresh)}, enter goes there" if fresh else "used by"
        self.query_one("#users-head", Static).update(Content(head))

    def targets(self) -> tuple[Target, ...]:
        found = []
        for row in self.query_one("#images", Rows).chosen:
            entry = self._entries.get(row.key)
            if entry and not entry.former:
                found.append(Target("image", entry.name, row.cells[0].text))
        return tuple(found)

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows.id == "images":
            self._detail(event.row)
            self.refresh_bindings()

    async def on_rows_opened(self, event: Rows.Opened) -> None:
        """From an image to its details and users; from a user to the Lab area."""
        if event.rows.id == "images":
            self.add_class("-details")
            users = self.query_one("#users", Rows)
            (users if users.rows else self.query_one(Details)).focus()
        elif event.row:
            kind, _, ref = event.row.key.partition("\x1f")
            if kind == "vm":
                await self.app.go_to("vm", ref)
            else:
                self.app.tell("no VM: only its files are left")

    def action_back(self) -> None:
        """From the details to the list, then the marks away, then the filter."""
        rows = self.query_one("#images", Rows)
        if not rows.has_focus:
            self.remove_class("-details")
            rows.focus()
        elif not rows.clear_marks():
            super().action_back()
