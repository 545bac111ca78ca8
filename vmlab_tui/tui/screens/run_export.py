"""A log or a picture out of the screen: into a pager, into a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.screens.dialogs import Asking
from vmlab_tui.tui.screens.run_fields import CleanInput

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.tui.logs.source import LogSource

_CHUNK = 1 << 20
_BLOCK = 2000


class SaveDialog(Asking[str]):
    """Asks for the file and says where it will be; nothing is overwritten without a second question."""

    GO_ON = "Save (enter)"
    CSS = """
    SaveDialog #whole { color: $text-muted; height: auto; margin-top: 1; }
    SaveDialog #problem { display: none; }
    """

    def __init__(self, title: str, suggestion: str) -> None:
        super().__init__(f"Save {title} in")
        self._suggestion = suggestion

    def fields(self) -> ComposeResult:
        yield CleanInput(self._suggestion, id="path", compact=True, select_on_focus=False)
        yield Static("", id="whole")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """A path that is not whole is told in full: nobody remembers where vmlab was started."""
        typed = event.value.strip()
        whole = str(whole_path(typed)) if typed else ""
        told = f"that is {clean_line(whole, 300)}" if whole != typed else ""
        self.query_one("#whole", Static).update(Content(told))

    def action_done(self) -> None:
        path = self.query_one(Input).value.strip()
        if path:
            self.dismiss(path)


def pager_words(chosen: Sequence[str] | None, environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """The pager's command, and whether it shows colours. ``chosen``: in the person's settings."""
    words = list(chosen or ())
    with contextlib.suppress(ValueError):
        words = words or shlex.split(environ.get("PAGER", ""))
    if not words:
        words = ["less", "-R"] if shutil.which("less") else ["more"]
    elif words == ["less"]:
        words = ["less", "-R"]
    return words, Path(words[0]).name == "less" and any(
        word.startswith("-") and "R" in word for word in words[1:]
    )


def _settled_pager() -> Sequence[str] | None:
    from vmlab_tui.spec.settings import load_settings

    try:
        return load_settings().pager
    except LabError:
        return None  # the app has said what is wrong with the settings


def clean_copy(source: LogSource, handle: int, *, sgr: bool) -> None:
    """Write all of ``source`` to the descriptor, harmless for any terminal; closes it. Raises OSError."""
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        for text in _texts(source, sgr=sgr):
            file.write(text)


def _texts(source: LogSource, *, sgr: bool) -> Iterator[str]:
    from vmlab_tui.base.text import Cleaner
    from vmlab_tui.tui.logs.files import FileSource
    from vmlab_tui.tui.logs.tidy import unstyled

    if isinstance(source, FileSource) and source.path:
        cleaner = Cleaner(sgr=sgr, line_limit=1 << 60)
        with source.path.open("rb") as file:
            while raw := file.read(_CHUNK):
                yield cleaner.feed(raw)
        yield cleaner.finish()
        return
    first = 0
    while lines := source.read(first, _BLOCK):
        yield "".join(f"{line.text if sgr else unstyled(line.text)}\n" for line in lines)
        first += len(lines)


async def open_in_pager(app: LabApp, source: LogSource, title: str) -> None:
    """Hand the terminal to the person's pager with a clean copy, which is removed afterwards."""

    def copy() -> tuple[list[str], str]:
        words, colours = pager_words(_settled_pager(), os.environ)
        handle, name = tempfile.mkstemp(".log", f"vmlab-{_slug(title)}-")  # 0600
        try:
            clean_copy(source, handle, sgr=colours and not app.no_color)
        except OSError:
            Path(name).unlink()
            raise
        return words, name

    try:
        words, path = await asyncio.to_thread(copy)
    except OSError as error:
        app.show_error(f"{clean_line(title)} cannot be opened: {error.strerror or error}")
        return
    with _removed_afterwards(Path(path)):
        await app.hand_over([*words, path])


@contextlib.contextmanager
def _removed_afterwards(path: Path) -> Iterator[None]:
    """Remove a file at the end, also when that is the terminal's, which ends vmlab there and then."""

    def hung_up(number: int, frame: object) -> None:
        path.unlink(missing_ok=True)
        signal.signal(number, before)  # which may be to ignore it
        signal.raise_signal(number)

    before = signal.signal(signal.SIGHUP, hung_up)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        path.unlink(missing_ok=True)


async def save_log(app: LabApp, source: LogSource, title: str) -> None:
    """Ask where to, and write a clean copy there. Never overwrites without being told to."""
    await save_as(app, title, ".log", lambda handle: clean_copy(source, handle, sgr=False))


async def save_as(app: LabApp, title: str, suffix: str, write: Callable[[int], None]) -> None:
    """Ask where to and have it written by ``write``, in a thread, which closes the descriptor it is given.

    Never overwrites without being told to.
    """
    suggestion = str(Path.home() / f"{_slug(title)}{suffix}")
    while True:
        typed = await app.push_screen_wait(SaveDialog(title, suggestion))
        if typed is None:
            return
        suggestion = typed
        shown = clean_line(str(whole_path(typed)), 300)
        try:
            await asyncio.to_thread(_save, write, typed, os.O_EXCL)
        except FileExistsError:
            if not await app.ask(f"{shown} exists. Overwrite it?", ["what is in it now"]):
                continue
            try:
                await asyncio.to_thread(_save, write, typed, os.O_TRUNC)
            except OSError as error:
                app.show_error(f"{shown} cannot be written: {error.strerror or error}")
                return
        except OSError as error:
            app.show_error(f"{shown} cannot be written: {error.strerror or error}")
            return
        app.tell(f"saved in {shown}")
        return


def whole_path(typed: str) -> Path:
    """Where the file is that somebody typed: from the root on; reads no file."""
    path = Path(typed)
    with contextlib.suppress(RuntimeError):  # "~" of somebody who does not exist
        path = path.expanduser()
    return path.absolute()


def _save(write: Callable[[int], None], typed: str, how: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how
    write(os.open(whole_path(typed), flags, 0o600))


def _slug(title: str) -> str:
    words = "".join(sign if sign.isascii() and (sign.isalnum() or sign in ".-") else " " for sign in title)
    return "-".join(words.split())[:60].strip(".-") or "log"
