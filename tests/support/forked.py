"""The command line as a process of its own that has nothing to import: a fork of one that has it all.

Imports are most of a short command's time, and the suite gives some thousand commands. What runs is the same
entry point with arguments, environment, folder and outputs of its own, sync points included. Tests of how
vmlab starts, and those that signal it, start an interpreter as people do.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

from vmlab_tui.base import faults

ROOT = Path(__file__).parents[2]
_MESSAGE = 1 << 17
"""Bytes that a request may have: more than any environment here."""


class Commands:
    """Runs commands until :meth:`close`; any number at once, from any thread."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # whoever looks for what works on a store goes by this variable
        environ = {name: value for name, value in os.environ.items() if name != "VMLAB_STORE"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked"],
                stdin=theirs.fileno(),
                env=environ,
                cwd=ROOT,
                start_new_session=True,
            )

    def run(
        self, words: tuple[str, ...], env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """``vmlab WORDS`` in the environment ``env``, without input.

        Raises TimeoutExpired after ``timeout`` seconds, when the command was killed.
        """
        call = json.dumps([words, dict(env), str(Path.cwd())]).encode()
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with theirs:
                socket.send_fds(self._ours, [call], [theirs.fileno(), out.fileno(), err.fileno()])
            ours.settimeout(timeout)
            try:
                told = ours.recv(16)
            except TimeoutError:
                raise subprocess.TimeoutExpired(["vmlab", *words], timeout, _all(out), _all(err)) from None
            if not told:
                raise RuntimeError(f"nobody runs vmlab {' '.join(words)}: {_all(err).decode()}")
            return subprocess.CompletedProcess(["vmlab", *words], int(told), _all(out), _all(err))

    def close(self) -> None:
        self._ours.close()
        self._process.wait(10)


def _all(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


_commands: list[Commands] = []
_starting = threading.Lock()


def run(
    *words: str | Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[bytes]:
    """:meth:`Commands.run` by the session's one process for it; the environment is ours, and ``env``."""
    environ = {**os.environ, **(env or {})}
    with _starting:
        if not _commands:
            _commands.append(Commands())
    return _commands[0].run(tuple(map(str, words)), environ, timeout)


def stop() -> None:
    """End that process, if there is one."""
    while _commands:
        _commands.pop().close()


# -- the other side ----------------------------------------------------------------------------------


def _serve(door: socket.socket) -> None:
    before = set(os.environ)
    package = importlib.import_module("vmlab_tui")
    for found in pkgutil.walk_packages(package.__path__, "vmlab_tui."):
        if not found.name.startswith("vmlab_tui.tui") and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    set_by_imports = {name: os.environ[name] for name in set(os.environ) - before}
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a keeper needs no burial
    while True:
        call, fds, _, _ = socket.recv_fds(door, _MESSAGE, 3)
        if not call:
            return
        if os.fork() == 0:
            door.close()
            _keep(call, set_by_imports, *fds)
        for fd in fds:
            os.close(fd)


def _keep(call: bytes, more: Mapping[str, str], asks: int, out: int, err: int) -> NoReturn:
    """Wait for the command and tell how it ended; kill it when nobody asks any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(asks)
        _become(call, more, out, err)
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([asks, ended], [], [])
    if ended not in ready:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(asks, str(status).encode())
    os._exit(0)


def _become(call: bytes, more: Mapping[str, str], out: int, err: int) -> NoReturn:
    """The command itself."""
    words, environ, folder = json.loads(call)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, fd in enumerate((null, out, err)):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update({**more, **environ})
    faults.arm()
    os.chdir(folder)
    sys.argv = ["vmlab", *words]
    status = 1
    try:
        runpy.run_module("vmlab_tui", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        if isinstance(end.code, int):
            status = end.code
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    with socket.socket(fileno=os.dup(0)) as _door:
        _serve(_door)
