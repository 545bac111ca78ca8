"""The serial console, copied into the run as it grows: masked, and across rotation by virtlogd."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from vmlab_tui.base.paths import write_durably
from vmlab_tui.base.text import Masker
from vmlab_tui.hosts.console import ConsoleTail

_EVERY = 0.25
_POSITION = ".console.position"


class ConsoleCapture:
    """Copies a VM's console log to ``console.log`` of a run until stopped."""

    def __init__(self, source: Path, folder: Path, masker: Masker) -> None:
        self._folder = folder
        self._tail = ConsoleTail(source)
        self._masker = masker
        self._position = folder / _POSITION
        if self._position.exists():
            self._tail.restore(json.loads(self._position.read_bytes()))
        handle = os.open(folder / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._out = os.fdopen(handle, "ab", buffering=0)

    def copy(self) -> None:
        """Copy what has come since the last time."""
        new = self._tail.read_new()
        if new:
            self._out.write(self._masker.feed(new))

    async def follow(self) -> None:
        """Copy until cancelled; the last bytes are copied then."""
        try:
            while True:
                self.copy()  # some KiB from the page cache: not worth a thread that cancelling would not stop
                await asyncio.sleep(_EVERY)
        finally:
            self.close()

    def close(self) -> None:
        """Copy the rest and note the place, so that another worker goes on from there."""
        if self._out.closed:
            return
        self.copy()
        self._out.write(self._masker.finish())
        write_durably(self._position, json.dumps(self._tail.position()))
        self._out.close()
