"""The entry point: argv to the command line, or, at a terminal without arguments, to the person."""

from __future__ import annotations

import gc
import sys

_WELCOME = """\
vmlab: why did provisioning fail, and how do I get back to a good state?

  vmlab run quickstart        a first run: boots a VM, provisions it, checks it
  vmlab run ./profile.yaml    a profile of your own
  vmlab profile list          the profiles there are
  vmlab ls                    the VMs, yours and foreign ones
  vmlab runs list             the runs, and how they ended
  vmlab runs logs last        what the failing step said
  vmlab ssh last              a shell in the VM of the newest run
  vmlab runs end last         remove what that run made

vmlab --help has the rest."""


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
    """What a person at a terminal sees without arguments; the TUI opens here once there is one."""
    print(_WELCOME)


if __name__ == "__main__":
    main()
