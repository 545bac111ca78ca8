"""The entry point: argv to the command line, or, at a terminal without arguments, to the person."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Start vmlab."""
    # imports make some 100,000 objects that stay: scanning them again and again is a tenth of the start
    gc.set_threshold(100_000)
    argv = sys.argv[1:]
    if not argv:
        if sys.stdin.isatty() and sys.stdout.isatty():
            welcome()
            return
        argv = ["run", "quickstart"]
    from vmlab_tui.cli.app import run

    run(argv)


def welcome() -> None:
    """What a person at a terminal gets without arguments."""
    from vmlab_tui.tui.app import run

    run()


if __name__ == "__main__":
    main()
