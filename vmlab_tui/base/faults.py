"""Named sync points, so that tests can stop or kill a process exactly there.

``VMLAB_FAULT=name:action[,name:action...]`` with action ``kill`` (SIGKILL to this process), ``stop``
(SIGSTOP: a test looks around and continues or kills), ``fail`` (raise LabError) or ``full`` (raise
OSError ENOSPC). Without the variable a point costs one dictionary look-up. Of several the first that is
passed acts; its name is added to the file that ``VMLAB_FAULT_TOLD`` names.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

from vmlab_tui.base.errors import LabError

POINTS: dict[str, str] = {}
"""Every declared point and what has happened by then."""


def declare(name: str, meaning: str) -> str:
    """Register a sync point at import time and return its name."""
    POINTS[name] = meaning
    return name


_ARMED: dict[str, str] = {}


def arm() -> None:
    """Take ``VMLAB_FAULT`` as it is now: done here at import, and wanted where a process has been forked."""
    pairs = (part.partition(":") for part in os.environ.get("VMLAB_FAULT", "").split(",") if part)
    _ARMED.clear()
    _ARMED.update({name: action or "kill" for name, _, action in pairs})


arm()


def point(name: str) -> None:
    """Pass the sync point ``name``; does nothing unless ``VMLAB_FAULT`` names it."""
    action = _ARMED.get(name)
    if action is None:
        return
    if told := os.environ.get("VMLAB_FAULT_TOLD"):
        with Path(told).open("a") as file:
            file.write(f"{name}\n")
    if action == "fail":
        raise LabError(f"fault injected at {name}")
    if action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    os.kill(os.getpid(), signal.SIGSTOP if action == "stop" else signal.SIGKILL)
