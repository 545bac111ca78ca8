"""A worker process before it has a run. Imports next to nothing, so that it can be started first of all."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class SpareWorker:
    """A worker process that starts up, imports and connects nothing, and waits to be given a run.

    Starting one while a run is still being prepared hides the start of an interpreter (some 0.6 s). Closed
    without a run, it exits. It is in a session of its own, so that closing the terminal is nothing to it.
    """

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vmlab_tui.runs.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )

    def __enter__(self) -> SpareWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def give(self, folder: Path, secrets: Mapping[str, str], lock: int) -> None:
        """Put it on the run in ``folder``. ``lock``, a held descriptor, is its from here on."""
        message = json.dumps({"folder": str(folder), "secrets": dict(secrets)}).encode()
        sent = socket.send_fds(self._ours, [message], [lock])
        self._ours.sendall(message[sent:])
        self.close()

    def close(self) -> None:
        """Let it go; without a run it ends by itself."""
        self._ours.close()
