"""Following a run in the foreground: events to the screen, Ctrl-C to the run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace

from vmlab_tui.base.errors import Interrupted, LabError
from vmlab_tui.cli.render import Renderer
from vmlab_tui.journal.events import Event
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import whoami
from vmlab_tui.runs import client
from vmlab_tui.runs.client import RunView
from vmlab_tui.verbs.shapes import next_commands
from vmlab_tui.verbs.verb import Interrupt
from vmlab_tui.verbs.words import commands

_TICK = 0.1
_ASK = 10.0
"""Seconds for which a worker that has only just been started may not answer yet."""


class Foreground:
    """One run being watched, and what the person's Ctrl-C have meant so far."""

    def __init__(
        self,
        lab: Lab,
        view: RunView,
        renderer: Renderer,
        emit: Callable[[Event], None] | None,
        mode: Interrupt,
    ) -> None:
        self._lab = lab
        self._view = view
        self._renderer = renderer
        self._emit = emit
        self._mode = mode
        self._state = RunState()
        self._presses = 0
        self._left = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()

    async def watch(self) -> RunView:
        """Until the run has ended or its worker has died. Raises Interrupted when the person leaves."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._pressed)
        self._renderer.ctrl_c("stop looking" if self._mode is Interrupt.LEAVE else "end the run")
        ticking = asyncio.create_task(self._tick())
        reading = asyncio.create_task(self._read())
        leaving = asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            tasks = {ticking, reading, leaving, *self._asking}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._renderer.close()
            loop.remove_signal_handler(signal.SIGINT)
        if self._left.is_set():
            raise self._leave()
        if self._presses > 1:
            await self._destroy_kept()
        return await asyncio.to_thread(client.get_run, self._lab, self._view.run_id)

    async def _read(self) -> None:
        async for event in client.follow(self._lab, self._view.run_id):
            self._state = self._state.apply(event)
            if self._emit:
                self._emit(event)
            self._renderer.event(event, self._state)
            if event.kind == "paused":
                view = replace(self._view, state=self._state, live=True)
                for line in commands(next_commands(view)):
                    self._renderer.notice(line)

    async def _tick(self) -> None:
        while True:
            self._renderer.tick()
            await asyncio.sleep(_TICK)

    def _pressed(self) -> None:
        """Ctrl-C."""
        self._presses += 1
        if self._mode is Interrupt.LEAVE or self._presses > 2:
            self._left.set()
            return
        vm = self._view.plan.vm.name
        if self._presses == 1:
            kept = "destroyed" if self._view.plan.on_fail == "destroy" else "kept"
            self._renderer.notice(f"Asked the run to end; its VM {vm} will be {kept}.")
            self._renderer.notice("Ctrl-C again destroys it at once.")
            self._renderer.ctrl_c(f"destroy {vm} at once")
        else:
            self._renderer.notice(f"Destroying VM {vm} now. Ctrl-C again leaves the run as it is.")
            self._renderer.ctrl_c("leave the run as it is")
        how = "table" if self._presses == 1 else "destroy"
        task = asyncio.get_running_loop().create_task(self._ask(how))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, how: str) -> None:
        """Ask the worker to end, again while it is still starting up."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + _ASK
        while True:
            try:
                await client.end(self._lab, self._view.run_id, how, whoami())
                return
            except LabError as error:
                if loop.time() > limit:
                    self._renderer.notice(f"{error.message}; Ctrl-C again leaves the run as it is")
                    return
            await asyncio.sleep(0.2)

    async def _destroy_kept(self) -> None:
        """A second Ctrl-C that came too late for the worker still means what it said."""
        view = await asyncio.to_thread(client.get_run, self._lab, self._view.run_id)
        ended = view.state.ended
        if ended and ended.disposition != "kept":
            return
        with contextlib.suppress(asyncio.CancelledError):
            result = await client.end(self._lab, view.run_id, "destroy", whoami())
            self._renderer.notice(f"removed {len(result.removed)} things of run {view.run_id}")

    def _leave(self) -> Interrupted:
        view = client.get_run(self._lab, self._view.run_id)
        run = view.run_id
        if self._mode is Interrupt.LEAVE or view.live:
            return Interrupted(
                f"run {run} goes on without you", hint=f"vmlab runs wait {run}\nvmlab runs end {run}"
            )
        owns = ", ".join(f"{what} {name}" for what, name in view.state.owns) or "nothing"
        return Interrupted(f"run {run} is {view.status} and owns: {owns}", hint=f"vmlab runs end {run}")
