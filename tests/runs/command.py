"""The command line as another process, for tests."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmlab_tui.base.paths import Store
from vmlab_tui.base.proc import arun


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
    done = await arun(
        [sys.executable, "-m", "vmlab_tui", *words],
        env={**os.environ, "CI": "", "VMLAB_STORE": str(store.root), **env},
        check=False,
        timeout=timeout,
    )
    return Said(done.status, done.out.decode(), done.err.decode())


def only_run(store: Store) -> Path:
    """The folder of the one run in the store."""
    (folder,) = store.runs.iterdir()
    return folder
