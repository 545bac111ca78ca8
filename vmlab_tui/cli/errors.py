"""How a command says what went wrong: ``vmlab: <message>`` and what to do next, never a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import click

from vmlab_tui.base.errors import Exit, LabError


def show(message: str, hint: str = "") -> None:
    """Write a message and its hint to standard error."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    head, *rest = message.splitlines() or [""]
    lines = [f"{click.style('vmlab:', fg='red', bold=True)} {head}", *rest]
    lines += [f"  -> {line}" for line in hint.splitlines()]
    click.echo("\n".join(lines), file=sys.stderr, color=colour)


def of_lab(error: LabError) -> int:
    """Show a LabError; the exit code for it. Its text may quote a guest, so it is cleaned again."""
    from vmlab_tui.base.text import clean

    show(clean(error.message), clean(error.hint))
    return int(error.exit)


def of_click(error: click.ClickException) -> int:
    """Show what click found wrong with the command line."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "vmlab"
    message = error.format_message()
    message = (message[:1].lower() + message[1:] if not message.startswith("'") else message).rstrip(".")
    guess = ""
    if isinstance(error, click.NoSuchOption | click.exceptions.NoSuchCommand):
        near = error.possibilities or []
        guess = f"did you mean {' or '.join(near)}?" if near else ""
        message = error.message[:1].lower() + error.message[1:].rstrip(".")
    show(message, "\n".join(filter(None, [guess, f"{command} --help"])))
    return int(Exit.USAGE)


def of_os(error: OSError) -> int:
    """Show an error of the operating system that nobody gave better words."""
    name = f"{error.filename}: " if error.filename else ""
    hint = {13: "check the permissions, or run as root", 28: "free some space on that disk"}.get(
        error.errno or 0, ""
    )
    show(f"{name}{error.strerror or error}", hint)
    return int(Exit.LAB)


def of_bug(error: Exception) -> int:
    """Show a mistake of vmlab's own; the traceback goes to a file, or to the screen with VMLAB_DEBUG."""
    if os.environ.get("VMLAB_DEBUG"):
        traceback.print_exception(error)
    where = ""
    try:
        from vmlab_tui.base.paths import cache_dir

        folder: Path = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "last-error.txt"
        path.write_text("".join(traceback.format_exception(error)))
        path.chmod(0o600)
        where = f"details are in {path}"
    except OSError:
        where = "VMLAB_DEBUG=1 shows the details"
    show(f"internal error: {type(error).__name__}: {str(error)[:200]}", f"this is a bug in vmlab; {where}")
    return int(Exit.LAB)
