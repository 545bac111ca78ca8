"""Daemon threads of our own for calls that block and cannot be cancelled.

asyncio's default executor is shared, small and joined at exit: one hung libvirt call would take the
program with it. A lane's threads are daemons; a call that passes its deadline is abandoned.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from vmlab_tui.base.errors import DeadlineError, LabError

T = TypeVar("T")


class Lane:
    """Up to ``threads`` daemon threads that work off one queue, started as they are needed."""

    def __init__(self, name: str, threads: int = 2) -> None:
        self.name = name
        self._limit = threads
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()
        self._closed = False

    @property
    def busy(self) -> int:
        """Calls that wait or run, abandoned ones that still run included."""
        return self._busy

    async def call(self, fn: Callable[[], T], *, timeout: float, what: str) -> T:
        """Run ``fn`` on the lane. Raises what it raises, or DeadlineError naming ``what``.

        After the deadline a call that has begun runs on in its thread (nothing can stop it); one that
        still waits in the queue is dropped.
        """
        if self._closed:
            raise LabError(f"{what}: the connection is closed")
        future: Future[T] = Future()
        with self._lock:
            self._busy += 1
            stuck = self._busy > self._limit
            if self._busy > len(self._threads) and len(self._threads) < self._limit:
                thread = threading.Thread(target=self._work, name=f"vmlab-{self.name}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queue.put((future, fn))
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_heard)  # when nobody waits any more, how it ended is no news
        try:
            done, _ = await asyncio.wait({waiting}, timeout=timeout)
        except asyncio.CancelledError:
            future.cancel()  # at once; cancelling ``waiting`` would take the loop's next turn
            raise
        if not done:
            future.cancel()
            raise DeadlineError(
                f"{what}: not done within {timeout:g} s",
                hint="libvirt does not answer; earlier calls still hang" if stuck else "",
            )
        return waiting.result()

    def close(self) -> None:
        """Let the threads end once their present call is over; does not wait for them."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        while job := self._queue.get():
            future, fn = job
            try:
                if future.set_running_or_notify_cancel():
                    try:
                        result = fn()
                    except BaseException as error:
                        future.set_exception(error)
                    else:
                        future.set_result(result)
            finally:
                with self._lock:
                    self._busy -= 1
                del future, fn, job


def _heard(ended: asyncio.Future[Any]) -> None:
    if not ended.cancelled():
        ended.exception()
