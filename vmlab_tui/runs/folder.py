"""A run's directory: names in it, and who writes there."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from vmlab_tui.base.paths import Locked

JOURNAL = "journal.jsonl"
LOCK = "lock"
"""Held by the run's worker as long as it lives."""
RESERVE = ".reserve"
"""A file that is given up when a run is ended, so that this can be journaled on a full disk."""
RESERVE_BYTES = 1 << 16

LAST_WORD = 10.0
"""Seconds within which a worker is gone whose run is over."""


def identity() -> dict[str, int | str]:
    """This process in a way that survives reuse of its pid: pid, boot id, start in clock ticks."""
    # proc(5): field 22 of /proc/PID/stat, counted after the command in parentheses
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": os.getpid(), "boot_id": boot_id, "start_ticks": ticks}


def take_lock(folder: Path, *, patience: float = 0.2) -> int:
    """A held descriptor on the run's lock. Raises Locked when a worker has it ``patience`` seconds longer."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(int(patience / 0.02)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)  # whoever asks whether it is held, holds it for an instant
        else:
            return handle
    os.close(handle)
    raise Locked(f"run {folder.name} has a worker", hint=f"follow it: vmlab runs logs -f {folder.name}")
