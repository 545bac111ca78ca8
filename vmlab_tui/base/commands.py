"""The commands really run: what changed something, as one would have typed it.

Programs are recorded as they were started, changing libvirt calls as the virsh command that does the same.
Reading calls are not. Argument lists never carry secrets, so neither does this.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from vmlab_tui.base.text import clean_line

_KEPT = 500
_LONGEST = 2000


@dataclass(frozen=True)
class Record:
    """One command. ``at``: when it began (ISO 8601, UTC); ``seconds`` it took; ``ok``: it did not fail."""

    at: str
    command: str
    ok: bool
    seconds: float

    @property
    def outcome(self) -> str:
        return "ok" if self.ok else "failed"


Callback = Callable[[Record], None]

_recent: deque[Record] = deque(maxlen=_KEPT)
_callbacks: list[Callback] = []
_lock = threading.Lock()


def record(command: str, *, ok: bool = True, seconds: float = 0.0) -> Record:
    """Note a command that has just ended. Safe in any thread; so must the callbacks be."""
    began = datetime.fromtimestamp(time.time() - seconds, UTC).isoformat(timespec="milliseconds")
    made = Record(began, clean_line(command, _LONGEST), ok, round(seconds, 3))
    with _lock:
        _recent.append(made)
        told = tuple(_callbacks)
    for callback in told:
        callback(made)
    return made


@contextmanager
def recording(words: Iterable[str]) -> Iterator[None]:
    """Note ``words`` as a command that takes as long as the block, and fails if that raises."""
    command, began, ok = shlex.join(words), time.monotonic(), False
    try:
        yield
        ok = True
    finally:
        record(command, ok=ok, seconds=time.monotonic() - began)


def recent() -> tuple[Record, ...]:
    """The last commands of this process, oldest first."""
    with _lock:
        return tuple(_recent)


def subscribe(callback: Callback) -> Callable[[], None]:
    """Call ``callback`` with every command from now on, in the thread that ran it; returns what ends that."""
    with _lock:
        _callbacks.append(callback)

    def stop() -> None:
        with _lock:
            if callback in _callbacks:
                _callbacks.remove(callback)

    return stop
