"""A run's directory: names in it, and who writes there."""

from __future__ import annotations

import os
from pathlib import Path

JOURNAL = "journal.jsonl"
LOCK = "lock"
"""Held by the run's worker as long as it lives."""
RESERVE = ".reserve"
"""A file that is given up when a run is ended, so that this can be journaled on a full disk."""
RESERVE_BYTES = 1 << 16


def identity() -> dict[str, int | str]:
    """This process in a way that survives reuse of its pid: pid, boot id, start in clock ticks."""
    # proc(5): field 22 of /proc/PID/stat, counted after the command in parentheses
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": os.getpid(), "boot_id": boot_id, "start_ticks": ticks}
