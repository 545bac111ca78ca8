"""What a verb is: the one source for a CLI command, a TUI key, the palette and the help.

A verb knows neither click nor Textual. What it needs of the person it asks of a :class:`Front`, which the
command line and the TUI each implement.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from vmlab_tui.base.errors import Exit, UsageError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.context import Lab
    from vmlab_tui.runs.client import RunView

T = TypeVar("T")

AREAS = ("lab", "runs", "images", "clean-up", "doctor")
"""The areas of the screen, in the order of their number keys."""


class Kind(StrEnum):
    """What the value of a parameter is."""

    TEXT = "text"
    FLAG = "flag"
    CHOICE = "choice"
    DURATION = "duration"
    FILE = "file"
    """A file that exists."""
    PATH = "path"
    """A file that will be written."""


@dataclass(frozen=True)
class Param:
    """One parameter of a verb. ``name`` is its key in :class:`Args`; as an option: ``--name-with-dashes``.

    ``rest`` takes all words after ``--``. ``metavar`` is how the help writes the value.
    """

    name: str
    help: str
    kind: Kind = Kind.TEXT
    positional: bool = False
    required: bool = False
    multiple: bool = False
    rest: bool = False
    choices: tuple[str, ...] = ()
    metavar: str = ""
    short: str = ""
    names: str = ""
    """What the value names: run, profile, image, vm, recipe; for completion and pickers."""


class Args:
    """The values of a call, by parameter name; absent ones read as nothing."""

    def __init__(
        self, values: Mapping[str, object] | None = None, typed: Mapping[str, str] | None = None
    ) -> None:
        self._values = dict(values or {})
        self.typed = dict(typed or {})
        """Variables of a run that a person has typed into a screen, secrets among them; never in a repr."""
        self.seen: dict[str, int] = {}
        """By run id, the last event that a preview has shown; what has moved on since is not lost unseen."""
        self.shown: Any = None
        """The plan that a preview has shown, for the call to carry out that one and no other."""

    def __repr__(self) -> str:
        return f"Args({self._values!r})"

    def plus(self, values: Mapping[str, object]) -> Args:
        """The same call with these values as well; what a preview has shown is to be shown again."""
        return Args({**self._values, **values}, self.typed)

    def optional(self, name: str) -> str | None:
        value = self._values.get(name)
        return None if value is None else str(value)

    def text(self, name: str) -> str:
        """A required text. Raises UsageError when it is absent."""
        value = self.optional(name)
        if value is None:
            raise UsageError(f"{name} is missing")
        return value

    def flag(self, name: str) -> bool:
        return bool(self._values.get(name))

    def many(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name) or ()
        if not isinstance(value, list | tuple):
            raise UsageError(f"{name}: takes several values")
        return tuple(str(item) for item in value)

    def seconds(self, name: str) -> float | None:
        """A duration in seconds, written as ``90``, ``2m`` or ``1h30m``. Raises UsageError."""
        from vmlab_tui.base.units import parse_duration

        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(
                float(str(value)) if str(value).replace(".", "", 1).isdigit() else str(value)
            )
        except ValueError as error:
            raise UsageError(f"--{name.replace('_', '-')} '{value}': not {error}") from error

    def path(self, name: str) -> Path | None:
        value = self.optional(name)
        return None if value is None else Path(value)


@dataclass(frozen=True)
class Preview:
    """What a call would do. A person is asked about ``loses``: the things that cannot be had again.

    ``head``: what stands above them, where they are something else than losses.
    """

    lines: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()
    head: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a call did: ``data`` for programs, ``lines`` for people, ``exit`` for the shell."""

    data: JsonValue = None
    lines: tuple[str, ...] = ()
    exit: int = Exit.PASSED


class Interrupt(StrEnum):
    """What Ctrl-C means while a run is followed."""

    END = "end"
    """The run is this command's own: first asks it to end by its table, second destroys at once."""
    LEAVE = "leave"
    """Only stop looking; the run goes on."""


class Front(Protocol):
    """The person's side: the command line or the TUI."""

    @property
    def interactive(self) -> bool:
        """Whether somebody can be asked."""
        ...

    @property
    def on_terminal(self) -> bool:
        """Whether input and output are a terminal's, for a program that takes it over."""
        ...

    @property
    def colour(self) -> bool:
        """Whether colours of a guest's own may be shown."""
        ...

    def say(self, line: str) -> None:
        """A line that stays, for people."""
        ...

    def status(self, line: str) -> None:
        """What is going on now; the next one replaces it."""
        ...

    def phase(self, name: str, detail: str = "") -> None:
        """What goes on from now on belongs to this part of the work; the same one again: another detail."""
        ...

    def output(self, line: str) -> None:
        """A line of a program at work, cleaned: for who looks closely."""
        ...

    def write(self, text: str) -> None:
        """The result itself as it comes (a log that is followed); already cleaned."""
        ...

    async def confirm(self, question: str, loses: Sequence[str] = ()) -> bool:
        """Ask yes or no. Without anybody to ask: False."""
        ...

    async def terminal(self, argv: Sequence[str]) -> int:
        """Hand the terminal to another program; its exit status. May not return at all."""
        ...

    async def program(self, argv: Sequence[str]) -> int:
        """Run another program on the terminal and come back; its exit status. Raises LabError without it."""
        ...

    async def follow(self, lab: Lab, run_id: str, interrupt: Interrupt) -> RunView:
        """Show a run until it has ended, its worker has died, or the person leaves."""
        ...


@dataclass
class Context:
    """Where a verb works: a lab, opened when first needed, and a front."""

    front: Front
    uri: str | None = None
    store: Path | None = None
    wants_data: bool = False
    """Whether the caller takes :attr:`Outcome.data`; verbs that would stream text then leave it out."""

    @cached_property
    def lab(self) -> Lab:
        """The connection's URI and the store. Does not connect.

        What was asked for beats the environment, which beats the person's settings.
        """
        from vmlab_tui.lab.context import open_lab
        from vmlab_tui.spec.settings import load_settings

        settings = load_settings()
        uri = self.uri or os.environ.get("LIBVIRT_DEFAULT_URI") or settings.uri
        return open_lab(uri, self.store or (None if os.environ.get("VMLAB_STORE") else settings.store))

    def host(self, *, readonly: bool = False) -> AbstractAsyncContextManager[Host]:
        """A connection to the lab's libvirt, for an ``async with``. Raises LabError when there is none."""
        from vmlab_tui.hosts.host import Host

        return Host.open(self.lab.uri, readonly=readonly)


class Verb:
    """Something a person can do. Subclasses are stateless; see the class attributes."""

    id: ClassVar[str]
    """Stable name, such as ``runs.list``."""
    words: ClassVar[tuple[str, ...]]
    """The words of the command after ``vmlab``."""
    help: ClassVar[str]
    """One line, without a full stop."""
    long_help: ClassVar[str] = ""
    """Paragraphs separated by empty lines."""
    examples: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(command, what it is for)"""
    areas: ClassVar[tuple[str, ...]] = ()
    """Where in the TUI it can be used."""
    key: ClassVar[str] = ""
    """Its default key there: a capital when it loses something."""
    label: ClassVar[str] = ""
    """What stands beside the key; default: the last of :attr:`words`."""
    asks: ClassVar[tuple[str, ...]] = ()
    """The parameters that a screen asks for before it calls the verb."""
    options: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(key, parameter): what a person may still choose while being asked about the preview."""
    picks: ClassVar[bool] = False
    """Whether it can be called on a VM and then asks which of its snapshots is meant."""
    params: ClassVar[tuple[Param, ...]] = ()
    loses: ClassVar[bool] = False
    """Whether it can lose something, so that there is a preview to confirm."""
    confirms: ClassVar[bool] = False
    """Whether there is a preview to confirm in some cases (it then says what to heed in ``loses``)."""
    asks_itself: ClassVar[bool] = False
    """Whether it asks on the way, when there is something to show."""
    at_snapshots: ClassVar[bool] = False
    """Whether its VM can be named with one of its snapshots, as ``VM@SNAPSHOT``."""
    long: ClassVar[bool] = False
    """Whether it takes so long that a person wants to watch it, or do something else meanwhile."""
    json: ClassVar[str] = "document"
    """``document``: --json prints one JSON document; ``journal``: the run's journal; empty: no --json."""
    reports_run: ClassVar[bool] = False
    """Whether its exit code is that of a run."""

    def applies(self, _state: str) -> bool:
        """Whether it makes sense for a VM in that state (`hosts.model.Power`), or a run of that status,
        whichever it acts on; a verb of neither: always."""
        return True

    async def known(self, _ctx: Context, _args: Args) -> Mapping[str, object]:
        """What the parameters in :attr:`asks` are now; a screen shows it to be changed."""
        return {}

    async def preview(self, _ctx: Context, _args: Args) -> Preview:
        """What would happen, without doing it. Raises the same errors as :meth:`run`."""
        return Preview()

    async def run(self, ctx: Context, args: Args) -> Outcome:
        """Do it. Raises LabError with a hint."""
        raise NotImplementedError


async def blocking(function: Callable[[], T]) -> T:
    """Run short blocking work (files) off the loop."""
    import asyncio  # late: --help does without it

    return await asyncio.to_thread(function)


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """``key=value`` words as a dict. Raises UsageError for a word without ``=`` or a key given twice."""
    found: dict[str, str] = {}
    for key, value in _split(words, option):
        if key in found:
            raise UsageError(f"{option} {key}: given twice", hint="keep one of the two")
        found[key] = value
    return found


def _split(words: Sequence[str], option: str) -> Iterator[tuple[str, str]]:
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"{option} '{word}': not of the form key=value", hint=f"for example {option} vm.memory=2GiB"
            )
        yield key.strip(), value
