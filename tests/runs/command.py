"""The command line as another process, for tests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forked
from vmlab_tui.base.paths import Store, is_locked
from vmlab_tui.runs.folder import JOURNAL, LOCK


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


async def vmlab(store: Store, *words: str | Path, timeout: float = 240, **env: str) -> Said:
    """Run ``vmlab WORDS`` on ``store``; ``env`` is added to its environment."""
    there = {"CI": "", "VMLAB_STORE": str(store.root), **env}
    done = await asyncio.to_thread(forked.run, *words, env=there, timeout=timeout)
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def only_run(store: Store) -> Path:
    """The folder of the one run in the store."""
    (folder,) = store.runs.iterdir()
    return folder


async def show(store: Store, run: str) -> Any:
    """The run as a second process shows it."""
    said = await vmlab(store, "runs", "show", run, "--json")
    assert said.status == 0, said
    return said.data


async def at_rest(store: Store, run: str, seconds: float) -> Any:
    """The run as a second process shows it, once its worker is gone. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while is_locked(store.run(run) / LOCK):
            await asyncio.sleep(0.1)
    return await show(store, run)


async def show_when(store: Store, run: str, right: Callable[[Any], bool], seconds: float = 120) -> Any:
    """What :func:`show` says as soon as that is ``right``, asked when the journal grew or the worker went.

    Raises TimeoutError after ``seconds``.
    """
    folder, seen, end = store.run(run), None, time.monotonic() + seconds
    while time.monotonic() < end:
        now = ((folder / JOURNAL).stat().st_size, is_locked(folder / LOCK))
        if now != seen:
            seen = now
            if right(told := await show(store, run)):
                return told
        await asyncio.sleep(0.1)
    raise TimeoutError(f"run {run} after {seconds:g} s: {await show(store, run)}")
