"""The thread where everything but drawing happens, with an event loop of its own.

Verbs and watchers call libvirt, read files and import large libraries. On their own loop none of that can
hold up the one that draws, whatever a library below does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Backend:
    """One daemon thread with a running event loop, from :meth:`start` to :meth:`stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ui: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="backend", daemon=True)

    def start(self) -> None:
        """Begin; must be called on the loop that draws."""
        self._ui = asyncio.get_running_loop()
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        with contextlib.suppress(RuntimeError):
            self._loop.close()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run ``work`` over there; the future can be cancelled from here, and is once nothing runs there."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # its loop is closed: the program is about to end
            work.close()
            gone: concurrent.futures.Future[T] = concurrent.futures.Future()
            gone.cancel()
            return gone

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` over there and wait for it here, without holding up anything."""
        return await asyncio.wrap_future(self.submit(work))

    def to_ui(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call something on the drawing loop soon; does nothing once that is gone."""
        if self._ui and not self._ui.is_closed():
            with contextlib.suppress(RuntimeError):
                self._ui.call_soon_threadsafe(callback, *arguments)

    async def from_ui(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Over there: run a coroutine on the drawing loop and wait for its result."""
        assert self._ui is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), self._ui))

    async def stop(self, patience: float = 1.0) -> None:
        """Cancel all that is going on there, give it ``patience`` seconds, and let go."""
        if not self._thread.is_alive():
            return

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=patience) if tasks else None

        # late is late: a daemon thread does not hold up the exit
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self.call(cancel_all()), patience + 0.5)
        self._loop.call_soon_threadsafe(self._loop.stop)
