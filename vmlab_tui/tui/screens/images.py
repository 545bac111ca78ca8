"""The area of the images: the base disks in the store."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from vmlab_tui.tui.screens.base import AreaScreen, verb_bindings
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.rows import Column, Rows


class ImagesArea(AreaScreen):
    IDENT = "images"
    BINDINGS: ClassVar[list[BindingType]] = verb_bindings("images", without=("image.show",))

    def body(self) -> ComposeResult:
        columns = (Column("image"), Column("size", 7, right=True))
        with Horizontal():
            yield Rows(columns, id="images", markable=True, empty="no images yet: b builds one")

    def targets(self) -> tuple[Target, ...]:
        return tuple(Target("image", row.key, row.cells[0].text) for row in self.query_one(Rows).chosen)
