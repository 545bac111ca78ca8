"""A VM's screen in the terminal, and step by step the pictures of its boot."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Center
from textual.content import Content
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Static

from vmlab_tui.base.picture import Picture, png, shrink
from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.front import Activity, ScreenFront
from vmlab_tui.tui.graphics import pixel_widget
from vmlab_tui.tui.looking import Looker, Room, Seen
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.text import fit
from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.picture import PictureView, cells, pixels_for

if TYPE_CHECKING:
    from concurrent.futures import Future

    from textual.widget import Widget

    from vmlab_tui.tui.app import LabApp

_LATE = 3.0
"""Seconds after which a picture's age is told in another colour."""
_CELL = (16, 32)
"""Pixels of a cell at most, where the terminal draws pixels: more would be sent for nothing."""


class DisplayScreen(Screen[None]):
    """``esc`` goes back; nothing is taken while it is not shown."""

    app: LabApp
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,V", "app.pop_screen", "back", tooltip="Back to what was there"),
        Binding("left", "step(-1)", "boot pictures", tooltip="The picture of the boot before this one"),
        Binding(
            "right", "step(1)", "on", tooltip="The picture of the boot after this one; then the screen now"
        ),
        Binding("home", "step(-1000)", "first", show=False, tooltip="The first picture of the boot"),
        Binding("end", "step(1000)", "now", tooltip="The screen as it is now"),
        Binding("ctrl+s", "save", "save", tooltip="Save the picture that is shown as PNG"),
    ]
    CSS = """
    DisplayScreen {
        #head { height: 1; background: $panel; padding: 0 1; }
        #note { height: auto; max-height: 3; padding: 0 1; color: $text-warning; display: none; }
        Center { height: 1fr; align: center middle; }
        #pixels { width: auto; height: auto; display: none; }
    }
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target
        self._seen = Seen()
        self._looker: Looker | None = None
        self._looking: Future[None] | None = None
        self._pixels: Widget | None = None
        if made := pixel_widget():
            self._pixels = made(id="pixels")

    def compose(self) -> ComposeResult:
        yield Static("", id="head", markup=False)
        with Center():
            if self._pixels:
                yield self._pixels
            yield PictureView()
        yield Static("", id="note", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(PictureView).show([], f"looking at {self._target.label} ...")
        self._head()
        self.set_interval(0.25, self._head)
        front = ScreenFront(self.app, self.app.backend, Activity("screenshot"))
        tell = self.app.backend.to_ui
        self._looker = Looker(
            self.app.hub.context(front),
            self._target.ref,
            lambda seen: tell(self._take, seen),
            self._draw_pixels if self._pixels else self._draw_cells,
        )
        self._room()
        self._looking = self.app.backend.submit(self._looker.run())

    def on_unmount(self) -> None:
        if self._looking:
            self._looking.cancel()

    def on_resize(self) -> None:
        self._room()
        self._head()

    def _room(self) -> None:
        if self._looker:
            self._looker.room = max(1, self.size.width), max(1, self.size.height - 2)
            self._looker.hurry()

    def _draw_cells(self, picture: Picture, room: Room) -> list[Strip]:
        return cells(shrink(picture, *pixels_for(*room)), colour=not self.app.no_color)

    @staticmethod
    def _draw_pixels(picture: Picture, room: Room) -> bytes:
        return png(shrink(picture, room[0] * _CELL[0], room[1] * _CELL[1]))

    def on_screen_suspend(self) -> None:
        if self._looker:
            self._looker.asleep = True

    def on_screen_resume(self) -> None:
        if self._looker:
            self._looker.asleep = False
            self._looker.hurry()

    # -- what is shown ---------------------------------------------------------------------------

    def _take(self, seen: Seen) -> None:
        if not self.is_attached or not self.query("#note"):
            return  # it is being closed
        before, self._seen = self._seen, seen
        view = self.query_one(PictureView)
        if seen.drawn is None:
            view.show([], "\n".join(filter(None, (seen.problem, seen.hint))))
        elif seen.drawn != before.drawn:
            if self._pixels:
                self._pixels.image = io.BytesIO(seen.drawn)  # type: ignore[attr-defined]
            else:
                view.show(seen.drawn)
        if self._pixels:
            self._pixels.display, view.display = seen.drawn is not None, seen.drawn is None
        note = self.query_one("#note", Static)
        told = ". ".join(filter(None, (seen.problem, seen.hint))) if seen.drawn else ""
        note.display = bool(told)
        note.update(Content(told))
        self._head()
        if (before.frames, before.at, before.picture is None) != (seen.frames, seen.at, seen.picture is None):
            self.refresh_bindings()

    def _head(self) -> None:
        seen = self._seen
        name = f"Screen of {seen.label or self._target.label}"
        parts = []
        if seen.at:
            parts.append(f"boot picture {seen.at} of {seen.frames}, {seen.told}")
        if seen.picture:
            parts.append(f"{seen.picture.width}x{seen.picture.height}")
        late = False
        if seen.picture and not seen.at:
            age = time.monotonic() - seen.taken
            late = age > _LATE
            parts.append(f"{age:.0f} s old" if late else "live")
        told = "   ".join(parts)
        room = max(24, self.size.width - 2 - cell_len(told) - 3)  # rather cut the name
        text = f"{fit(name, room, middle=True).rstrip()}   {told}".rstrip()
        content = Content(text)
        if late:
            content = content.stylize("$text-warning", max(0, len(text) - len(parts[-1])), len(text))
        self.query_one("#head", Static).update(content)

    # -- keys ------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "step":
            back = isinstance(parameters[0], int) and parameters[0] < 0
            return self._seen.frames > 0 if back else self._seen.at > 0
        if action == "save":
            return self._seen.picture is not None
        return super().check_action(action, parameters)

    def action_step(self, by: int) -> None:
        if self._looker:
            self._looker.step(by)

    def action_save(self) -> None:
        """The picture at its full size, as it was when the key was pressed."""
        picture = self._seen.picture
        if picture is None:
            return
        from vmlab_tui.tui.screens.run_export import save_as

        def write(handle: int) -> None:
            with os.fdopen(handle, "wb") as file:
                file.write(png(picture))

        work = save_as(self.app, f"screen of {clean_line(self._target.label, 60)}", ".png", write)
        self.app.run_worker(work, group="save", exclusive=True, exit_on_error=False)
