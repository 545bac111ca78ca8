"""One of many things, found by typing some of its letters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.filtering import pick
from vmlab_tui.tui.selection import Target, fits, subject
from vmlab_tui.tui.widgets.rows import Cell, Column, Row, Rows
from vmlab_tui.verbs.snapshots import age_of, kind

if TYPE_CHECKING:
    from vmlab_tui.lab.graph import VmEntry
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.verbs.verb import Verb


_ENDS = (".yaml", ".yml")

_FILE = "path:"
"""Before the path in the key of a file's row."""

_MOST_ENTRIES = 2000
"""Files of a folder that are looked at while its path is typed."""


@dataclass(frozen=True)
class Choice:
    """``value`` is what is returned; a ``problem`` says why it cannot be chosen. Texts may be foreign."""

    value: str
    name: str
    about: str = ""
    problem: str = ""


class PickDialog(ModalScreen[str | None]):
    """Returns the choice's value, or None. ``paths``: a file's path may be typed instead."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel"),
        Binding("up", "step(-1)", "up", show=False, priority=True),
        Binding("down", "step(1)", "down", show=False, priority=True),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
    ]
    CSS = """
    PickDialog .dialog Rows { height: auto; min-height: 3; max-height: 14; margin-top: 1; }
    PickDialog #about { height: auto; max-height: 3; color: $text-muted; }
    """

    def __init__(self, title: str, choices: Sequence[Choice], *, paths: bool = False) -> None:
        super().__init__()
        self._title = clean_line(title)
        self._choices = choices
        self._paths = paths
        self._names = [clean_line(one.name) for one in choices]
        self._files: list[str] = []
        self._files_of = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog pick"):
            yield Static(Content(self._title), id="question")
            hint = "some letters of its name" + (", or a file's path" if self._paths else "")
            yield Input(placeholder=hint, compact=True)
            yield Rows((Column("name"), Column("", 40, drop=1)), head=False, id="choices")
            yield Static("", id="about")
            yield Static(Content("enter picks, esc closes"), classes="loses-head")

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._show("")

    def _show(self, typed: str) -> None:
        rows = self.query_one(Rows)
        found = [
            Row(
                str(index),
                (
                    Cell(self._names[index], "dim" if self._choices[index].problem else ""),
                    Cell("cannot be used", "bad")
                    if self._choices[index].problem
                    else Cell(clean_line(self._choices[index].about)),
                ),
            )
            for index in pick(typed, self._names)
        ]
        if self._paths and is_path(typed.strip()):
            if self._files_of == typed.strip():
                found += [Row(f"{_FILE}{path}", (Cell(tail(path, 60)), Cell(""))) for path in self._files]
            else:
                work = self._look_for_files(typed.strip())
                self.run_worker(work, group="files", exclusive=True, exit_on_error=False)
        empty = "enter takes this file" if self._paths and is_path(typed) else "nothing of that name"
        rows.set_rows(found, empty)
        rows.action_end(-1)
        rows.styles.height = max(3, min(14, len(found)))
        self._tell()

    def _chosen(self) -> Choice | None:
        row = self.query_one(Rows).cursor
        if row and row.key.startswith(_FILE):
            path = row.key.removeprefix(_FILE)
            return Choice(path, path, path)
        return self._choices[int(row.key)] if row else None

    async def _look_for_files(self, typed: str) -> None:
        """List what lies where a path that is being typed leads to."""
        found = await asyncio.to_thread(yaml_files, typed)
        if self.is_attached and self.query_one(Input).value.strip() == typed:
            self._files_of, self._files = typed, [path for path in found if path != typed]
            self._show(self.query_one(Input).value)

    def _tell(self) -> None:
        chosen = self._chosen()
        text = f"! {chosen.problem}" if chosen and chosen.problem else chosen.about if chosen else ""
        self.query_one("#about", Static).update(Content(clean_line(text, 300)))

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show(event.value)

    def on_rows_moved(self) -> None:
        self._tell()

    def on_rows_opened(self) -> None:
        self._take()

    def on_input_submitted(self) -> None:
        self._take()

    def _take(self) -> None:
        chosen = self._chosen()
        typed = self.query_one(Input).value.strip()
        listed = chosen is not None and chosen.value in self._files
        if self._paths and is_path(typed) and (typed.endswith(_ENDS) or not listed):
            self.dismiss(typed)
        elif chosen and not chosen.problem:
            self.dismiss(chosen.value)
        else:
            self.app.bell()

    def action_step(self, by: int) -> None:
        self.query_one(Rows).action_move(by)

    def action_page(self, by: int) -> None:
        self.query_one(Rows).action_page(by)

    def action_cancel(self) -> None:
        self.dismiss(None)


def is_path(typed: str) -> bool:
    """Whether somebody who types a name means a file by it."""
    return "/" in typed or typed.endswith(_ENDS)


def yaml_files(typed: str) -> list[str]:
    """The YAML files that a half-typed path may be meant for: those of its folder that begin as it does,
    and the profile.yaml of folders that do.

    Reads the disk. Empty where there is no such folder, or none that may be read.
    """
    try:
        if typed.startswith("~"):
            typed = str(Path(typed).expanduser()) + "/" * typed.endswith("/")
        if Path(typed).is_dir():
            typed = typed.rstrip("/") + "/"
        head, slash, begins = typed.rpartition("/")
        with os.scandir(head + slash or ".") as entries:
            named = [one for one in islice(entries, _MOST_ENTRIES) if one.name.startswith(begins)]
            found = [one.name for one in named if one.name.endswith(_ENDS)]
            folders = [f"{one.name}/profile.yaml" for one in named if one.is_dir()]
            found += [name for name in folders if Path(head + slash + name).is_file()]
    except (OSError, ValueError, RuntimeError):  # unreadable, a zero byte, no such user's home
        return []
    return [head + slash + name for name in sorted(found)]


def tail(text: str, width: int) -> str:
    """A path in at most ``width`` cells: its end tells more than its beginning."""
    text = clean_line(text, 1000)
    if cell_len(text) <= width:
        return text
    while cell_len(text) >= width:
        text = text[1:]
    return f"…{text}"


async def choose(app: LabApp, verb: Verb) -> Target | None:
    """Ask which thing ``verb`` shall act on; must be called in a worker. None: called off, or no such."""
    param = subject(verb)
    assert param is not None
    words = " ".join(verb.words)
    if param.names in ("recipe", "profile"):
        files = await app.backend.call(_recipes() if param.names == "recipe" else _profiles())
        name = await app.push_screen_wait(PickDialog(f"{words}: which {param.names}?", files, paths=True))
        return Target(param.names, name, clean_line(name)) if name else None
    found = [target for target in things(app) if fits(verb, target) and target.kind == param.names]
    if not found:
        app.tell(f"{words}: there is no {_KINDS[param.names]} that it fits", bad=True)
        return None
    choices = [Choice(str(at), one.label, about(app, one)) for at, one in enumerate(found)]
    picked = await app.push_screen_wait(PickDialog(f"{words}: which {_KINDS[param.names]}?", choices))
    return found[int(picked)] if picked is not None else None


async def choose_snapshot(app: LabApp, verb: Verb, vm: VmEntry) -> Target | None:
    """Ask which snapshot of ``vm`` is meant, the newest first; None: called off."""
    choices = [
        Choice(one.name, one.name, f"{kind(one)}, {age_of(one)} ago  {clean_line(one.description, 60)}")
        for one in reversed(vm.snapshots)
    ]
    question = f"{' '.join(verb.words)}: which snapshot of {clean_line(vm.name, 60)}?"
    name = await app.push_screen_wait(PickDialog(question, choices))
    return Target("snapshot", name, clean_line(name), parent=vm.uuid) if name is not None else None


def things(app: LabApp) -> list[Target]:
    """Everything that there is to act on: runs, VMs with their snapshots, images, templates."""
    found = [
        Target("run", view.run_id, clean_line(view.run_id), state=view.status) for view in app.hub.runs or ()
    ]
    if lab := app.hub.inventory:
        for vm in lab.vms:
            found.append(Target("vm", vm.uuid, clean_line(vm.name), state=vm.power))
            found += [
                Target("snapshot", one.name, clean_line(one.name), parent=vm.uuid) for one in vm.snapshots
            ]
        found += [
            Target("image", image.name, clean_line(image.name)) for image in lab.images if not image.former
        ]
        found += [Target("template", one.template.key, one.name) for one in lab.templates]
    return found


_KINDS = {"vm": "VM", "run": "run", "image": "image", "snapshot": "snapshot", "template": ""}


def about(app: LabApp, target: Target) -> str:
    """What kind of thing it is and how it is, in a few words."""
    if target.kind == "snapshot":
        vm = app.hub.inventory.vm(target.parent) if app.hub.inventory else None
        return f"snapshot of {clean_line(vm.name, 60)}" if vm else "snapshot"
    return f"{_KINDS[target.kind]} {target.state}".strip()


async def _recipes() -> list[Choice]:
    from vmlab_tui.spec.recipe import find_recipes

    found = await asyncio.to_thread(find_recipes)
    return [
        Choice(ref.name, ref.name, ref.description, f"{ref.path}: {ref.problem}" if ref.problem else "")
        for ref in found
    ]


async def _profiles() -> list[Choice]:
    from vmlab_tui.spec.profile import find_profiles

    found = await asyncio.to_thread(find_profiles)
    return [
        Choice(ref.name, ref.name, ref.description, str(ref.problem) if ref.problem else "") for ref in found
    ]
