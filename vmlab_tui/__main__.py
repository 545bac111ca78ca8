"""The entry point: argv to the command line, or, at a terminal without arguments, to the person."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

_SETTLED = 2.0
"""Seconds after which a screen has imported what it needs."""


def main() -> None:
    """Start vmlab."""
    # imports make some 100,000 objects that stay: scanning them again and again is a tenth of the start
    gc.set_threshold(100_000)
    argv = sys.argv[1:]
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not argv:
        if at_terminal:
            open_screen()
            return
        argv = ["run", "quickstart"]
    from vmlab_tui.cli.app import run

    try:
        run(argv, open_screen if at_terminal else None)
    except SystemExit as end:
        _leave(end)


def _leave(end: SystemExit) -> NoReturn:
    """Exit as ``end`` says, without taking the interpreter apart object by object, which takes 0.05 s.

    Nothing is left undone: asyncio.run has joined its threads, the functions of atexit are called here, and
    what was printed is flushed.
    """
    if not isinstance(end.code, int):
        raise end
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        raise end from None  # the interpreter knows what to say of an output that cannot be written
    os._exit(end.code)


def open_screen(uri: str | None = None, store: Path | None = None) -> None:
    """What a person at a terminal gets without a command."""
    import threading

    from vmlab_tui.tui.app import run

    settled = threading.Timer(_SETTLED, _collect_little_and_often)
    settled.daemon = True
    settled.start()
    run(uri, store)


def _collect_little_and_often() -> None:
    """From here on the collector stops everything for a millisecond now and then instead of for 20 of them:
    what there is by now stays, and is not looked at any more."""
    gc.freeze()
    gc.set_threshold(2000, 20, 200)


if __name__ == "__main__":
    main()
