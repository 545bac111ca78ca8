"""The command line: ``vmlab WORDS``."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from vmlab_tui import __version__
from vmlab_tui.base.errors import Exit, LabError
from vmlab_tui.cli import errors
from vmlab_tui.cli.commands import Where, command_of, discard_output, examples, exits
from vmlab_tui.verbs.registry import GROUPS, VERBS

_EXAMPLES = (
    ("vmlab run quickstart", "a first run; builds its image if need be"),
    ("vmlab run ./web.yaml --plan", "what a profile would do"),
    ("vmlab runs logs last", "why the last run failed"),
    ("vmlab ssh last", "a shell in its VM"),
    ("vmlab runs end last", "remove what it left"),
)
_ABOUT = """\
Provision virtual machines and see why it failed.

A profile says which image, which VM, which steps and which checks. A run carries one out on a VM of
its own, in a process of its own; its journal, logs and reports stay readable."""
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


Screen = Callable[[str | None, Path | None], None]
"""Opens the TUI on a connection and a store (None: the usual ones)."""


class _Group(click.Group):
    """Commands in the order of the registry, which goes from the usual to the rare."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Root(_Group):
    """``vmlab`` itself: one place where every error becomes a message and an exit code."""

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any
    ) -> NoReturn:
        extra.pop("standalone_mode", None)
        code = Exit.PASSED + 0
        try:
            result = super().main(args, prog_name or "vmlab", standalone_mode=False, **extra)
            code = result if isinstance(result, int) else 0
            sys.stdout.flush()
        except LabError as error:
            code = errors.of_lab(error)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            code = int(Exit.USAGE)
        except click.ClickException as error:
            code = errors.of_click(error)
        except (click.Abort, KeyboardInterrupt):
            errors.show("interrupted")
            code = int(Exit.INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:
                discard_output()
            else:
                code = errors.of_os(error)
        except Exception as error:
            code = errors.of_bug(error)
        sys.exit(code)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        examples(_EXAMPLES, formatter)
        exits(formatter)
        formatter.write_paragraph()
        formatter.write_text(
            "At a terminal, vmlab without a command opens its screen; without arguments and without a "
            "terminal it does 'vmlab run quickstart'. "
            "NO_COLOR turns colours off. VMLAB_STORE and LIBVIRT_DEFAULT_URI stand for --store and --connect."
        )


def make(screen: Screen | None = None) -> click.Group:
    """The whole command tree. ``screen`` is opened where no command is given (None: the help is shown)."""

    @click.pass_context
    def with_options(ctx: click.Context, uri: str | None, store: Path | None) -> None:
        ctx.obj = Where(uri, store)
        if ctx.invoked_subcommand is None and screen:
            screen(uri, store)

    root = Root(
        name="vmlab",
        help=_ABOUT,
        context_settings=_SETTINGS,
        params=[
            click.Option(
                ["--connect", "-c", "uri"],
                metavar="URI",
                help="libvirt connection (default: qemu:///system for root or who may use it, else session).",
            ),
            click.Option(
                ["--store", "-s", "store"],
                metavar="DIR",
                type=click.Path(path_type=Path, file_okay=False),
                help="Lab directory (default: by connection, /var/lib/vmlab for system).",
            ),
        ],
        callback=with_options,
        invoke_without_command=screen is not None,
    )
    root.params.append(_version())
    groups: dict[str, click.Group] = {}
    for verb in VERBS:
        word = verb.words[0]
        if len(verb.words) == 1:
            root.add_command(command_of(verb))
            continue
        if word not in groups:
            groups[word] = _Group(name=word, help=f"{GROUPS[word]}.", short_help=GROUPS[word])
            root.add_command(groups[word])
        groups[word].add_command(command_of(verb))
    return root


def _version() -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f"vmlab {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version.",
    )


def run(argv: Sequence[str] | None = None, screen: Screen | None = None) -> NoReturn:
    """Carry out a command line (default: that of the process) and exit; see :func:`make`."""
    make(screen).main(list(argv) if argv is not None else None)
