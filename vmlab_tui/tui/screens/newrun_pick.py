"""The first stage of a new run: finding a profile by typing, and what is known of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.widgets import Input

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.tui.filtering import pick
from vmlab_tui.tui.screens.pick import is_path, tail, yaml_files
from vmlab_tui.tui.screens.run_fields import CleanInput, profile_lines
from vmlab_tui.tui.widgets.details import Details
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows

if TYPE_CHECKING:
    from vmlab_tui.spec.profile import LoadedProfile, ProfileRef
    from vmlab_tui.tui.app import LabApp

_NAME = 24
"""The width of a profile's name in the list."""


class ProfilePicker(Container):
    """A line to type in, the profiles and files that fit below it, and the one under the cursor in detail."""

    app: LabApp
    DEFAULT_CSS = """
    ProfilePicker {
        height: 1fr;
        #search { margin: 0 0 1 0; padding: 0 1; }
        #lists { height: 1fr; }
        #lists Rows { width: 3fr; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._refs: list[ProfileRef] = []
        self._known: dict[str, LoadedProfile | LabError] = {}
        self._files: list[str] = []
        self._files_of = ""

    def compose(self) -> ComposeResult:
        yield CleanInput(placeholder="type to find a profile, or a file's path", id="search", compact=True)
        with Horizontal(id="lists"):
            columns = (Column("profile", _NAME), Column("from", 8, drop=2), Column("what it is", drop=1))
            yield Rows(columns, id="profiles", empty="looking for profiles ...")
            yield Details()

    def on_mount(self) -> None:
        for widget in self.query("#profiles, Details"):
            widget.can_focus = False  # letters are for the search line

    async def find(self) -> None:
        """List the profiles there are."""

        async def read() -> list[ProfileRef]:
            from vmlab_tui.spec.profile import find_profiles

            return await asyncio.to_thread(find_profiles)

        self._refs = await self.app.backend.call(read())
        self._list("")

    @property
    def chosen(self) -> str:
        """The path of the profile under the cursor; empty without one."""
        row = self.query_one(Rows).cursor
        return row.key.removeprefix("path:") if row else ""

    async def read(self, ref: str) -> LoadedProfile | LabError:
        """A profile as it is now, or what is wrong with it, which is told beside the list, too."""
        await self._read(ref)
        found = self._known[ref]
        if isinstance(found, LabError):
            self._tell(ref)
        return found

    # -- the list --------------------------------------------------------------------------------

    def _list(self, typed: str) -> None:
        rows = []
        if is_path(typed):
            files = self._files if self._files_of == typed else []
            for path in files:
                known = self._known.get(path)
                says = "" if known is None or isinstance(known, LabError) else known.profile.description
                cells = (Cell(tail(path, _NAME)), Cell("file"), Cell(clean_line(says)))
                rows.append(Row(f"path:{path}", cells))
            if typed not in files and not (files and typed.endswith("/")):
                cells = (Cell(tail(typed, _NAME)), Cell("file"), Cell("the file whose path you type"))
                rows.insert(0, Row(f"path:{typed}", cells))
            if self._files_of != typed:
                work = self._look_for_files(typed)
                self.run_worker(work, group="files", exclusive=True, exit_on_error=False)
        found = pick(typed, [ref.name for ref in self._refs])
        about = [
            at for at, ref in enumerate(self._refs) if typed and typed.lower() in ref.description.lower()
        ]
        for index in dict.fromkeys((*found, *about)):
            ref = self._refs[index]
            told = (
                Cell(f"! {clean_line(ref.problem)}", "bad")
                if ref.problem
                else Cell(clean_line(ref.description))
            )
            rows.append(Row(str(ref.path), (Cell(clean_line(ref.name, 60)), Cell(ref.origin, "dim"), told)))
        listed = self.query_one(Rows)
        listed.set_rows(rows, "no profile fits; a path with a / names a file")
        listed.action_end(-1)
        self._about()

    async def _look_for_files(self, typed: str) -> None:
        """List what lies where a path that is being typed leads to."""
        found = await self.app.backend.call(asyncio.to_thread(yaml_files, typed))
        if self.is_attached and self.query_one("#search", Input).value.strip() == typed:
            self._files_of, self._files = typed, found
            self._list(typed)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._list(event.value.strip())

    # -- the one under the cursor ----------------------------------------------------------------

    def on_rows_moved(self) -> None:
        self._about()

    def _about(self) -> None:
        """What is known of the profile under the cursor; it is read when it was not yet."""
        row = self.query_one(Rows).cursor
        if row is None:
            self.query_one(Details).show("", [])
            return
        ref = row.key.removeprefix("path:")
        if ref in self._known:
            self._tell(ref)
            return

        async def read() -> None:
            await asyncio.sleep(0.1)  # a path is typed letter by letter
            if self._at(row.key):
                await self._read(ref)
            if self._at(row.key):
                self._tell(ref)

        self.run_worker(read(), group="about", exit_on_error=False)

    def _at(self, key: str) -> bool:
        row = self.query_one(Rows).cursor if self.is_attached else None
        return row is not None and row.key == key

    async def _read(self, ref: str) -> None:
        async def read() -> LoadedProfile:
            from vmlab_tui.spec.profile import load_profile

            return await asyncio.to_thread(load_profile, ref)

        try:
            self._known[ref] = await self.app.backend.call(read())
        except LabError as error:
            self._known[ref] = error

    def _tell(self, ref: str) -> None:
        found = self._known[ref]
        details = self.query_one(Details)
        if isinstance(found, LabError):
            lines = [("problem", clean_line(line, 400)) for line in clean(found.message).splitlines()]
            details.show("cannot be used", lines)
            return
        details.show(found.profile.name, profile_lines(found))
