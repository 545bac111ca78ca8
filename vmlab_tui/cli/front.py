"""The person's side of a verb, on the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vmlab_tui.base.errors import LabError
from vmlab_tui.cli.status import Status
from vmlab_tui.cli.style import Style
from vmlab_tui.verbs.verb import Interrupt

if TYPE_CHECKING:
    from vmlab_tui.journal.events import Event
    from vmlab_tui.lab.context import Lab
    from vmlab_tui.runs.client import RunView


class Terminal:
    """Implements `verbs.verb.Front`. ``data``: standard output belongs to a program (--json)."""

    def __init__(self, *, data: bool = False, yes: bool = False) -> None:
        self._data = data
        self._yes = yes
        self._people = Style.of(sys.stderr if data else sys.stdout)
        # the result on standard output is not to be mixed with remarks when somebody keeps it
        self._aside = Style.of(sys.stdout if not data and sys.stdout.isatty() else sys.stderr)
        self._status = Status(self._aside)

    @property
    def interactive(self) -> bool:
        return self._yes or (sys.stdin.isatty() and sys.stderr.isatty())

    @property
    def on_terminal(self) -> bool:
        return sys.stdin.isatty() and sys.stdout.isatty()

    @property
    def colour(self) -> bool:
        return self._people.colour

    def say(self, line: str) -> None:
        self._status.close()
        self._aside.print(line)

    def status(self, line: str) -> None:
        self._status.show(line)

    def phase(self, name: str, detail: str = "") -> None:
        """The status says it."""

    def output(self, line: str) -> None:
        """Not for the command line: an error quotes the last ones."""

    def close(self) -> None:
        """The verb is done, well or not: nothing ticks any more."""
        self._status.close()

    def write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()

    async def confirm(self, question: str, loses: Sequence[str] = ()) -> bool:
        self._status.close()
        if self._yes:
            return True
        if not self.interactive:
            return False
        for thing in loses:
            click.echo(f"  {thing}", err=True)
        return click.confirm(question, default=not loses, err=True)

    async def terminal(self, argv: Sequence[str]) -> int:
        """Become the other program: its exit status is ours, and the terminal's signals are its own."""
        self._status.close()
        sys.stdout.flush()
        sys.stderr.flush()
        # Python ignores SIGPIPE, and a program that is started would inherit that
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            os.execvp(argv[0], list(argv))  # noqa: S606
        except FileNotFoundError as error:
            raise LabError(f"{argv[0]} is not installed", hint="apt install openssh-client") from error

    async def program(self, argv: Sequence[str]) -> int:
        import asyncio

        self._status.close()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
        try:
            process = await asyncio.create_subprocess_exec(*argv, preexec_fn=_own_signals)
            return await process.wait()
        except FileNotFoundError as error:
            raise LabError(f"{argv[0]} is not installed", hint="name another program") from error
        finally:
            signal.signal(signal.SIGINT, before)

    async def follow(self, lab: Lab, run_id: str, interrupt: Interrupt) -> RunView:
        from vmlab_tui.cli.ending import ending
        from vmlab_tui.cli.follow import Foreground
        from vmlab_tui.cli.render import renderer
        from vmlab_tui.runs import client

        self._status.close()
        view = client.get_run(lab, run_id)
        shown = renderer(self._people, view.plan, view.folder)
        view = await Foreground(lab, view, shown, self._emit if self._data else None, interrupt).watch()
        self._people.print(*ending(view, self._people))
        return view

    @staticmethod
    def _emit(event: Event) -> None:
        sys.stdout.write(event.line() + "\n")
        sys.stdout.flush()


def _own_signals() -> None:
    """In a program that is started: Python ignores SIGPIPE, and we ignore Ctrl-C for its time."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
