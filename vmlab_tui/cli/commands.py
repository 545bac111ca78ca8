"""Click commands, made from verbs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vmlab_tui.base.errors import Exit, Interrupted
from vmlab_tui.cli.front import Terminal
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb

EXITS = (
    ("0", "passed"),
    ("1", "a step or a check failed"),
    ("2", "wrong usage, or an error in a profile"),
    ("3", "preflight refused; nothing was touched"),
    ("4", "the lab failed: libvirt, QEMU, SSH or a disk"),
    ("130", "interrupted by a person"),
)


@dataclass
class Where:
    """The options of ``vmlab`` itself."""

    uri: str | None = None
    store: Path | None = None


class VerbCommand(click.Command):
    """A command with examples and exit codes in its help."""

    def __init__(self, verb: Verb, **settings: Any) -> None:
        super().__init__(**settings)
        self.verb = verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """With a command for the guest, options of ours end at the first word; flags may follow it."""
        flags = {f"--{param.name}" for param in self.verb.params if param.kind is Kind.FLAG}
        if any(param.rest for param in self.verb.params) and len(args) > 1 and args[1] in flags:
            args = [args[1], args[0], *args[2:]]
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        examples(self.verb.examples, formatter)
        if self.verb.reports_run:
            exits(formatter)
        else:
            formatter.write_paragraph()
            formatter.write_text("Exit codes: see vmlab --help.")


def examples(found: Sequence[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    """Commands to copy, each with what it is for above it."""
    if not found:
        return
    with formatter.section("Examples"):
        left = max(len(command) for command, _ in found)
        lines = [f"{command.ljust(left)}  # {what}" if what else command for command, what in found]
        if max(map(len, lines)) + formatter.current_indent > formatter.width:
            lines = [line for command, what in found for line in ([f"# {what}"] if what else []) + [command]]
        formatter.write("".join(f"{'':>{formatter.current_indent}}{line}\n" for line in lines))


def exits(formatter: click.HelpFormatter) -> None:
    with formatter.section("Exit codes"):
        formatter.write_dl(list(EXITS))


def command_of(verb: Verb) -> click.Command:
    """The click command for a verb."""
    params: list[click.Parameter] = [_parameter(param) for param in verb.params]
    if verb.json == "document":
        params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document."))
    elif verb.json == "journal":
        text = (
            "Print the run's journal to standard output, one JSON object a line; text goes to standard error."
        )
        params.append(click.Option(["--json", "as_json"], is_flag=True, help=text))
    if verb.loses or verb.confirms or verb.asks_itself:
        params.append(click.Option(["--yes", "-y"], is_flag=True, help="Do not ask."))

    def callback(**values: Any) -> int:
        import asyncio  # late: --help does without it

        try:
            return asyncio.run(_call(verb, values))
        except BrokenPipeError:
            # nobody reads any more; of a run, that it has passed is not known
            discard_output()
            return int(Exit.INTERRUPTED if verb.reports_run else Exit.PASSED)

    return VerbCommand(
        verb,
        name=verb.words[-1],
        params=params,
        callback=callback,
        help="\n\n".join(filter(None, [f"{verb.help}.", verb.long_help])),
        short_help=verb.help,
        # a command for the guest is not to be read as options of ours
        context_settings={"allow_interspersed_args": not any(param.rest for param in verb.params)},
    )


def _parameter(param: Param) -> click.Parameter:
    kind: Any = click.STRING
    if param.kind is Kind.CHOICE:
        kind = click.Choice(param.choices)
    elif param.kind is Kind.FILE:
        kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    elif param.kind is Kind.PATH:
        kind = click.Path(path_type=Path)
    if param.positional or param.rest:
        return click.Argument(
            [param.name],
            type=click.UNPROCESSED if param.rest else kind,
            nargs=-1 if param.rest or param.multiple else 1,
            required=param.required,
            metavar=param.metavar or None,
            help=param.help,
        )
    names = [f"--{param.name.replace('_', '-')}", param.name]
    if param.short:
        names.insert(0, f"-{param.short}")
    if param.kind is Kind.FLAG:
        return click.Option(names, is_flag=True, help=param.help)
    return click.Option(
        names, type=kind, multiple=param.multiple, help=param.help, metavar=param.metavar or None
    )


async def _call(verb: Verb, values: dict[str, Any]) -> int:
    where = click.get_current_context().find_object(Where) or Where()
    as_json, yes = bool(values.pop("as_json", False)), bool(values.pop("yes", False))
    for param in verb.params:
        words = values.get(param.name)
        if param.rest and words and words[0] == "--":
            values[param.name] = words[1:]
    front = Terminal(data=as_json, yes=yes)
    ctx = Context(front, where.uri, where.store, wants_data=as_json)
    args = Args(values)
    if (verb.loses or verb.confirms) and front.interactive and not yes:
        preview = await verb.preview(ctx, args)
        if preview.loses:
            for line in (*preview.lines, *([preview.head] if preview.head else [])):
                click.echo(line, err=True)
            if not await front.confirm("Go on?", preview.loses):
                raise Interrupted("nothing was changed")
    try:
        outcome = await verb.run(ctx, args)
    finally:
        front.close()
    _print(verb, outcome, as_json=as_json)
    return int(outcome.exit)


def _print(verb: Verb, outcome: Outcome, *, as_json: bool) -> None:
    if as_json and outcome.data is not None:
        # a document of a verb whose --json is a journal stays on one line: there, lines are objects
        indent = None if verb.json == "journal" else 1
        click.echo(json.dumps(outcome.data, indent=indent, ensure_ascii=True))
    elif outcome.lines:
        click.echo("\n".join(outcome.lines), file=sys.stderr if as_json else sys.stdout)


def discard_output() -> None:
    """The reader of our output has gone away: not an error of ours, and nothing to say to it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


assert {int(code) for code, _ in EXITS} == {int(code) for code in Exit}
