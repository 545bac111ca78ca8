"""The one way to run another program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.commands import record
from vmlab_tui.base.errors import DeadlineError, LabError

Argv = Sequence[str | Path]


@dataclass(frozen=True)
class Done:
    """A finished program: argument list, exit status (negative: signal), and its output as bytes."""

    argv: tuple[str, ...]
    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace")


class ProgramError(LabError):
    """A program ended with a status other than 0, or is not installed."""

    def __init__(self, message: str, *, hint: str = "", done: Done | None = None) -> None:
        super().__init__(message, hint=hint)
        self.done = done


_watchers: list[Callable[[tuple[str, ...]], None]] = []


def watch(callback: Callable[[tuple[str, ...]], None]) -> Callable[[], None]:
    """Call ``callback`` with each argument list that is run; returns a function that stops it."""
    _watchers.append(callback)
    return lambda: _watchers.remove(callback)


def _prepare(argv: Argv, *, bound: bool) -> tuple[str, ...]:
    words = tuple(str(word) for word in argv)
    if not shutil.which(words[0]):
        raise ProgramError(f"{words[0]} is not installed", hint="run script/bootstrap")
    for callback in _watchers:
        callback(words)
    # setpriv rather than preexec_fn: the latter is not safe in a process with threads
    return ("setpriv", "--pdeathsig", "KILL", "--", *words) if bound else words


def _record(argv: Argv, status: int | None, began: float, check: bool) -> None:
    # who does not check reads another status than 0 as an answer; None: it was not there, or took too long
    ok = status == 0 or (status is not None and status > 0 and not check)
    record(shlex.join(map(str, argv)), ok=ok, seconds=time.monotonic() - began)


def _judge(done: Done, check: bool) -> Done:
    if check and done.status:
        last = done.err.decode(errors="replace").strip().splitlines()[-3:]
        raise ProgramError(
            "\n  ".join([f"{shlex.join(done.argv)[:300]}: exit status {done.status}", *last]),
            done=done,
        )
    return done


def start_detached(argv: Argv, *, patience: float = 0.5, env: Mapping[str, str] | None = None) -> None:
    """Start a program that goes on without us: a session of its own, no terminal, no output.

    ``env`` is added to the environment.
    Raises ProgramError when it is not installed, or ends with an error within ``patience`` seconds.
    """
    words = _prepare(argv, bound=False)
    began = time.monotonic()
    null = subprocess.DEVNULL
    process = subprocess.Popen(
        words,
        stdin=null,
        stdout=null,
        stderr=null,
        env={**os.environ, **env} if env else None,
        start_new_session=True,
    )
    status: int | None = 0
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = process.wait(patience)
    if process.returncode is None:  # somebody has to bury it
        threading.Thread(target=process.wait, name="bury", daemon=True).start()
    _record(argv, status, began, check=True)
    _judge(Done(tuple(map(str, argv)), status or 0, b"", b""), check=True)


def run(
    argv: Argv,
    *,
    timeout: float = 60,
    data: bytes | None = None,
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    bound: bool = False,
) -> Done:
    """Run a program to its end, its standard input being ``data`` or nothing.

    ``timeout`` in seconds. ``env`` is added to the environment. ``bound`` ties its life to the calling
    thread (SIGKILL when that dies). Raises ProgramError (``check`` and status not 0, or not installed)
    and DeadlineError.
    """
    words = _prepare(argv, bound=bound)
    began, status = time.monotonic(), None
    try:
        ended = subprocess.run(
            words,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            check=False,
        )
        status = ended.returncode
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"{shlex.join(map(str, argv))[:300]}: not done within {timeout:g} s") from error
    finally:
        _record(argv, status, began, check)
    return _judge(Done(tuple(map(str, argv)), ended.returncode, ended.stdout, ended.stderr), check)


async def arun(
    argv: Argv,
    *,
    timeout: float = 60,
    data: bytes | None = None,
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    bound: bool = False,
    on_line: Callable[[bytes], None] | None = None,
) -> Done:
    """The same without blocking the loop; ``on_line`` gets each line of both streams as it comes.

    With ``on_line`` standard error is merged into standard output. Cancelling or passing ``timeout``
    kills the program and everything in its process group.
    """
    words = _prepare(argv, bound=bound)
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL if data is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if on_line else asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **env} if env else None,
        start_new_session=True,
        limit=1 << 20,
    )

    async def follow() -> tuple[bytes, bytes]:
        if on_line is None:
            return await process.communicate(data)
        assert process.stdout is not None
        if data is not None and process.stdin is not None:
            process.stdin.write(data)
            process.stdin.close()
        kept: list[bytes] = []
        rest = b""
        while chunk := await process.stdout.read(65536):
            kept.append(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_line(line)
        if rest:
            on_line(rest)
        await process.wait()
        return b"".join(kept), b"".join(kept)[-4096:]

    try:
        out, err = await asyncio.wait_for(follow(), timeout)
    except TimeoutError as error:
        raise DeadlineError(f"{shlex.join(map(str, argv))[:300]}: not done within {timeout:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        _record(argv, process.returncode, began, check)
    return _judge(Done(tuple(map(str, argv)), process.returncode or 0, out, err), check)
