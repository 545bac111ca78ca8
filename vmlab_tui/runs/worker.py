"""The worker: the process that carries a run out, and its only writer while it lives.

``python -m vmlab_tui.runs.worker`` with a socket as standard input, over which it is given one JSON message,
``{"folder": ..., "secrets": {...}}``, and with it the descriptor of the run's lock, already held, so that
there is no instant at which a new run looks abandoned. An empty message means: not needed after all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from pathlib import Path

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.text import Masker
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.log import Journal
from vmlab_tui.runs.commandlog import keep_commands
from vmlab_tui.runs.context import RunContext
from vmlab_tui.runs.control import ControlServer
from vmlab_tui.runs.engine import Engine
from vmlab_tui.runs.folder import JOURNAL, identity
from vmlab_tui.runs.plan import read_plan

WORKER_STARTED = declare("worker.started", "the worker has the run, nothing is made")
_CHUNK = 1 << 16


async def work(folder: Path, secrets: dict[str, str]) -> None:
    """Carry out the run in ``folder`` from where its journal stands."""
    plan = read_plan(folder)
    state = load_state(folder)
    mask = Masker(secrets.values()).mask_text
    with keep_commands(folder, mask), Journal.append(folder / JOURNAL, mask=mask) as journal:
        async with Host.open(plan.uri) as host:
            run = RunContext(plan, folder, journal, state, host, secrets)
            run.write("worker_started", **identity(), resumed=state.workers > 0)
            point(WORKER_STARTED)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, run.stop.ask, "table", "SIGTERM")
            server = ControlServer(run)
            await server.start()
            try:
                await Engine(run).execute()
            finally:
                await server.stop()
                if run.connected:
                    with contextlib.suppress(LabError):
                        await run.guest.close()
    load_state(folder, write=True)


def _redirect(log: Path) -> None:
    """Standard output and error to the run's own log, standard input to nothing."""
    for target, path, flags in (
        (0, "/dev/null", os.O_RDONLY),
        (1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        handle = os.open(path, flags, 0o600)
        os.dup2(handle, target)
        os.close(handle)


def main() -> None:
    """Entry point of the worker process."""
    # closing the terminal, or Ctrl-C in it, is not for us
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as caller:
        message, lock, *_ = socket.recv_fds(caller, _CHUNK, 1)
        while more := caller.recv(_CHUNK):
            message += more
    if not message:
        return
    assert len(lock) == 1, "the lock comes with the run"
    os.set_inheritable(lock[0], False)
    task = json.loads(message)
    folder = Path(task["folder"])
    _redirect(folder / "worker.log")
    os.umask(0o077)
    asyncio.run(work(folder, task["secrets"]))


if __name__ == "__main__":
    main()
