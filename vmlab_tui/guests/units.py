"""A script step in the guest: runs once, outlives the connection, and is read back.

A unit's name is derived from run, step and attempt, so a worker that comes back finds what its predecessor
started. With systemd it is a transient service, otherwise a session of its own; everything else is the same.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError, StepError, UsageError
from vmlab_tui.base.ids import is_name
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.guests import unitshell as shell
from vmlab_tui.guests.ssh import AuthError, ConnectError, Dropped, Guest

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_AUTH_PATIENCE = 60.0  # seconds: a guest that goes down refuses logins before it is gone
_CHUNK = 1 << 16

OnBytes = Callable[[bytes], None]


class UnitPhase(StrEnum):
    ABSENT = "absent"
    """Never started in this guest (or the guest went back to before it was)."""
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"
    """Started, ended, and nobody knows how: the guest rebooted or the unit was killed from outside."""


@dataclass(frozen=True)
class UnitState:
    """Where a unit stands. ``status`` is the exit status once ended; ``size`` of its log in bytes."""

    phase: UnitPhase
    status: int | None = None
    size: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Place:
    """Where a script was when it ended: for a shell that goes on there. Secrets are not in ``env``.

    ``command`` is the one that ended it, as its shell writes it, or the line that stood there; empty when
    the shell does not tell (dash).
    """

    cwd: str
    env: Mapping[str, str]
    command: str = ""

    @property
    def known(self) -> bool:
        """Whether the script has told it: not one that was killed, is not shell, or has its own EXIT trap."""
        return bool(self.env)


class UnitLost(LabError):
    """The unit's end cannot be known; ``state`` says why."""

    def __init__(self, message: str, *, state: UnitState, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.state = state


@dataclass(frozen=True)
class UnitSpec:
    """One attempt at one script step.

    ``script`` is the file's content: with an interpreter line it is run by that, else by ``bash -e``, or by
    ``sh -e`` where there is no bash. ``env``
    is added to a plain environment; ``secrets`` too, but they travel on standard input to a root-only file in
    memory that is gone before the script runs. ``timeout`` in seconds is the caller's business
    (:func:`run_unit` takes a deadline; :func:`kill_unit` ends it).
    """

    run_id: str
    number: int
    attempt: int
    script: str
    user: str = "root"
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 1800

    def __post_init__(self) -> None:
        names = [*self.env, *self.secrets]
        if not is_name(self.run_id):
            raise UsageError(f"'{clean_line(self.run_id, 80)}' cannot be part of a unit's name")
        if not _USER.fullmatch(self.user):
            raise UsageError(f"'{clean_line(self.user, 80)}' is not a user name")
        if bad := [name for name in names if not _ENV_NAME.fullmatch(name)]:
            raise UsageError(f"'{clean_line(bad[0], 80)}' is not a name for an environment variable")
        if any("\0" in text for text in (self.script, *self.env.values(), *self.secrets.values())):
            raise UsageError(f"step {self.number}: a script or a variable contains a NUL byte")

    @property
    def name(self) -> str:
        return f"vmlab-{self.run_id}-{self.number:02}-{self.attempt}"

    @property
    def folder(self) -> str:
        return f"{shell.ROOT}/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it begins with, but for those of its user and the secrets."""
        about = {"VMLAB_RUN": self.run_id, "VMLAB_STEP": self.number, "VMLAB_ATTEMPT": self.attempt}
        return {**{name: str(value) for name, value in about.items()}, **self.env}


@dataclass
class _Report:
    """What a program said on standard error."""

    lines: list[list[str]] = field(default_factory=list)
    noise: bytes = b""

    @property
    def last(self) -> list[str]:
        return self.lines[-1] if self.lines else []

    def state(self, guest: Guest, spec: UnitSpec) -> UnitState:
        words = self.last
        if len(words) != 3 or words[0] not in UnitPhase.__members__.values():
            raise _failure(guest, spec, self)
        phase = UnitPhase(words[0])
        return UnitState(
            phase=phase,
            status=int(words[1]) if phase is UnitPhase.ENDED and words[1].isdigit() else None,
            size=int(words[2]) if words[2].isdigit() else 0,
            detail={
                "boot": "the guest has rebooted since",
                "died": "it was killed from outside, or the guest ran out of memory",
                "log": "its log is gone",
            }.get(words[1], ""),
        )


def _failure(guest: Guest, spec: UnitSpec, report: _Report) -> LabError:
    where = f"{guest.endpoint.label}: step {spec.number} ({spec.name})"
    match report.last[:2]:
        case ["failed", "user"]:
            return StepError(
                f"{where}: there is no user '{spec.user}' in the guest", hint="create it in an earlier step"
            )
        case ["failed", "secrets"]:
            return LabError(
                f"{where}: the guest has no file system in memory for the secrets, and makes none"
            )
        case ["failed", ("folder" | "write")]:
            return LabError(f"{where}: cannot write {spec.folder} in the guest", hint="is its disk full?")
        case ["failed", "start"]:
            return LabError(f"{where}: the guest did not start it within 15 s")
    said = clean(report.noise).strip().splitlines()[-3:]
    return LabError("\n  ".join([f"{where}: the guest cannot run it as root", *said]))


Complete = Callable[[list[str]], bool]


async def _talk(guest: Guest, program: bytes, complete: Complete, on_bytes: OnBytes | None) -> _Report:
    """Run ``program`` as root in one channel; standard output goes to ``on_bytes`` as it comes.

    Over as soon as ``complete`` says so of the last report: sshd can take most of a second to close.
    """
    report = _Report()
    pending = b""
    over = asyncio.Event()

    async def out() -> None:
        while chunk := await process.stdout.read(_CHUNK):
            if on_bytes is not None:
                on_bytes(chunk)
            if complete(report.last):
                over.set()

    async def err() -> None:
        nonlocal pending
        while chunk := await process.stderr.read(_CHUNK):
            *lines, pending = (pending + chunk).split(b"\n")
            pending = pending[-_CHUNK:]
            for line in lines:
                if line.startswith(shell.MARK.encode()):
                    words = clean_line(line).split()[1:]
                    if len(words) == 3 and words[2].isdigit():
                        report.lines.append(words)
                else:
                    report.noise = (report.noise + line + b"\n")[-4096:]
            if complete(report.last):
                over.set()

    async def feed() -> None:
        process.stdin.write(program)
        await process.stdin.drain()
        process.stdin.write_eof()

    async def everything() -> None:
        try:
            fed, *read = await asyncio.gather(feed(), out(), err(), return_exceptions=True)
            for result in (fed, *read):
                if isinstance(result, BaseException) and not isinstance(result, BrokenPipeError):
                    raise result
            await process.wait_closed()
        finally:
            over.set()

    async with guest.process("exec /bin/sh -s") as process:
        talking = asyncio.create_task(everything())
        try:
            await over.wait()
            if complete(report.last):
                return report
            with guest.translated():
                await talking
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        if process.exit_status is None and process.exit_signal is None:
            raise Dropped(f"{guest.endpoint.label}: the SSH connection dropped")
    return report


class _Patience:
    """How long connecting again is tried, and whether it is worth it."""

    def __init__(self, guest: Guest, deadline: Deadline, alive: Callable[[], Awaitable[bool]] | None) -> None:
        self.guest, self.deadline, self.alive = guest, deadline, alive
        self.refused: Deadline | None = None
        self.pause = 0.1

    async def after(self, error: LabError) -> None:
        """Wait before the next try; raises ``error`` when there should be none."""
        if self.deadline.expired:
            raise error
        if isinstance(error, AuthError):
            self.refused = self.refused or Deadline(_AUTH_PATIENCE)
            if self.refused.expired:
                raise error
        else:
            self.refused = None
        if self.alive is not None and not await self.alive():
            raise LabError(f"{self.guest.endpoint.label}: the VM stopped during the step") from error
        await self.guest.close()
        await asyncio.sleep(self.deadline.part(self.pause))
        self.pause = min(2.0, self.pause * 2)


_TRANSIENT = (Dropped, ConnectError, AuthError, DeadlineError)


async def _persist(
    guest: Guest,
    spec: UnitSpec,
    program: Callable[[], bytes],
    deadline: Deadline,
    complete: Complete = lambda words: len(words) == 3,
    on_bytes: OnBytes | None = None,
    alive: Callable[[], Awaitable[bool]] | None = None,
) -> _Report:
    """:func:`_talk` until it has been said to the end. ``program`` is made anew for each try."""
    patience = _Patience(guest, deadline, alive)
    try:
        async with asyncio.timeout(max(0.0, deadline.left)):
            while True:
                try:
                    return await _talk(guest, program(), complete, on_bytes)
                except _TRANSIENT as error:
                    await patience.after(error)
    except TimeoutError as error:
        where = f"{guest.endpoint.label}: step {spec.number} ({spec.name})"
        raise DeadlineError(f"{where}: not done within {deadline.seconds:g} s") from error


def _start_program(spec: UnitSpec, offset: int | None) -> bytes:
    ways = shell.starts(
        spec.script, f"{spec.folder}/script", spec.folder, list(spec.secrets), spec.env.get("BASH_ENV", "")
    )
    run = shell.wrapper(spec.folder, spec.user, spec.environment, spec.script, ways)
    return shell.start(spec.folder, spec.name, spec.user, run, shell.exports(spec.secrets), offset=offset)


async def start_unit(guest: Guest, spec: UnitSpec, *, timeout: float = 60) -> bool:
    """Start the unit; True if this call did, False if it had been started before (then it does nothing).

    Survives dropped connections. Raises StepError (no such user), LabError, DeadlineError.
    """
    report = await _persist(guest, spec, lambda: _start_program(spec, None), Deadline(timeout))
    if report.last[:1] not in (["started"], ["already"]):
        raise _failure(guest, spec, report)
    return report.last[0] == "started"


async def unit_state(guest: Guest, spec: UnitSpec, *, timeout: float = 60) -> UnitState:
    """Where the unit stands, from the guest's own records."""
    report = await _persist(guest, spec, lambda: shell.state(spec.folder), Deadline(timeout))
    return report.state(guest, spec)


async def follow_unit(
    guest: Guest,
    spec: UnitSpec,
    offset: int,
    on_bytes: OnBytes,
    deadline: Deadline,
    *,
    alive: Callable[[], Awaitable[bool]] | None = None,
) -> int:
    """Hand the log from ``offset`` on to ``on_bytes`` (raw) until the unit has ended; its exit status.

    One channel for all of it; after a drop it connects again and goes on at the byte it was at. ``alive``
    is asked then whether the VM still runs. Raises UnitLost (rebooted, killed, never started), DeadlineError
    (the unit runs on: see :func:`kill_unit`), LabError.
    """
    return await _to_the_end(guest, spec, offset, on_bytes, deadline, alive, start=False)


async def run_unit(
    guest: Guest,
    spec: UnitSpec,
    on_bytes: OnBytes,
    deadline: Deadline,
    *,
    offset: int = 0,
    alive: Callable[[], Awaitable[bool]] | None = None,
) -> int:
    """:func:`start_unit` and :func:`follow_unit` in one channel, which saves a slow guest a second."""
    return await _to_the_end(guest, spec, offset, on_bytes, deadline, alive, start=True)


async def _to_the_end(
    guest: Guest,
    spec: UnitSpec,
    offset: int,
    on_bytes: OnBytes,
    deadline: Deadline,
    alive: Callable[[], Awaitable[bool]] | None,
    *,
    start: bool,
) -> int:
    at = offset
    begun = not start

    def take(chunk: bytes) -> None:
        nonlocal at
        on_bytes(chunk)
        at += len(chunk)

    def program() -> bytes:
        # a guest that keeps no files forgets a unit when it reboots, and would begin it once more
        return shell.follow(spec.folder, at) if begun else _start_program(spec, at)

    def complete(words: list[str]) -> bool:
        nonlocal begun
        begun = begun or bool(words)
        # standard output and standard error come by different ways: the log may be behind the report
        return words[:1] not in ([], ["started"], ["already"]) and at >= int(words[2])

    report = await _persist(guest, spec, program, deadline, complete, take, alive)
    state = report.state(guest, spec)
    if state.phase is not UnitPhase.ENDED or state.status is None:
        why = state.detail
        if state.phase is UnitPhase.ABSENT:
            why = (
                "the guest does not know it any more: it rebooted, or went back"
                if start
                else "it was never started in this guest"
            )
        raise UnitLost(
            f"{guest.endpoint.label}: step {spec.number} ({spec.name}): its end is not known: {why}",
            state=state,
            hint="retry the step, or look into the guest",
        )
    return state.status


async def kill_unit(guest: Guest, spec: UnitSpec, *, grace: float = 5, timeout: float = 60) -> UnitState:
    """End the unit and everything it started: SIGTERM, SIGKILL after ``grace`` seconds.

    Its status is then 143 or 137 unless it had ended by itself. Nothing happens if it was never started.
    """
    report = await _persist(
        guest, spec, lambda: shell.kill(spec.folder, spec.name, grace), Deadline(timeout + grace)
    )
    return report.state(guest, spec)


# LINENO is a shell's own idea in a trap: BusyBox leaves it where the script was
_PLACE = r"""
cd %s 2>/dev/null || exit 0
cat cwd; printf '\0'; [ ! -e command ] || cat command; printf '\0'
case $(readlink -f /bin/sh) in */busybox) [ ! -e line ] || cat line ;; esac; printf '\0'
cat env
"""


async def unit_place(guest: Guest, spec: UnitSpec, *, timeout: float = 60) -> Place:
    """Working directory and environment at the script's end, and what ended it; all empty if not saved."""
    found = await guest.execute(_PLACE % spec.folder, timeout=timeout)
    cwd, command, line, *rest = [*found.out.split(b"\0"), b"", b"", b""]
    pairs = (entry.partition(b"=") for entry in rest if b"=" in entry)
    env = {os_text(name): os_text(value) for name, _, value in pairs if _ENV_NAME.fullmatch(os_text(name))}
    said = clean(command).strip()
    if not said and line.strip().isdigit():
        said = "".join(spec.script.splitlines()[int(line) - 1 : int(line)]).strip()
    return Place(cwd=os_text(cwd.removesuffix(b"\n")), env=env, command=said)


def os_text(raw: bytes) -> str:
    """Bytes of the guest as text that can be turned back into the same bytes."""
    return raw.decode(errors="surrogateescape")
