"""The one place that watches the lab, the runs and the images, and tells the screens what changed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.signal import Signal

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line

if TYPE_CHECKING:
    from vmlab_tui.lab.context import Lab
    from vmlab_tui.lab.inventory import Inventory
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.tui.front import ScreenFront
    from vmlab_tui.verbs.verb import Context


@dataclass(frozen=True)
class HostState:
    """How the connection is: connecting, ok, busy or gone, with the reason and what to do about it."""

    state: str = "connecting"
    detail: str = ""
    hint: str = ""


class Hub:
    """Lives on the drawing loop; the watching is done on the backend's.

    The values are None until they are known for the first time. Signals carry the new value.
    """

    def __init__(self, app: LabApp, uri: str | None, store: Path | None) -> None:
        self._app = app
        self._uri = uri
        self._store = store
        self.lab: Lab | None = None
        self.host = HostState()
        self.inventory: Inventory | None = None
        self.runs: tuple[RunView, ...] | None = None
        self.run_problems: tuple[tuple[str, str], ...] = ()
        self.lab_changed: Signal[Inventory] = Signal(app, "lab")
        self.runs_changed: Signal[tuple[RunView, ...]] = Signal(app, "runs")
        self.host_changed: Signal[HostState] = Signal(app, "host")
        self._soon: asyncio.Event | None = None

    def start(self) -> None:
        self._app.backend.submit(self._watch())

    def context(self, front: ScreenFront) -> Context:
        """Where a verb works, with this hub's own lab once that is open."""
        from vmlab_tui.verbs.verb import Context

        ctx = Context(front, self._uri, self._store)
        if self.lab:
            ctx.__dict__["lab"] = self.lab
        return ctx

    def refresh_soon(self) -> None:
        """Something was just changed from here: look at once."""
        if self._soon:
            self._app.backend.submit(self._wake())

    async def _wake(self) -> None:
        if self._soon:
            self._soon.set()

    # -- on the backend's loop -------------------------------------------------------------------

    async def _watch(self) -> None:
        from vmlab_tui.hosts.host import Host
        from vmlab_tui.lab.inventory import take_inventory
        from vmlab_tui.runs import client
        from vmlab_tui.verbs.verb import Context

        self._soon = asyncio.Event()
        ctx = Context(None, self._uri, self._store)  # type: ignore[arg-type]
        lab = ctx.lab
        self._app.backend.to_ui(self._set_lab, lab)
        while True:
            try:
                async with Host.open(lab.uri, readonly=True) as host:
                    while True:
                        found = await take_inventory(lab, host, snapshots=True)
                        self._app.backend.to_ui(self._set_inventory, found)
                        self._app.backend.to_ui(self._set_host, HostState("ok"))
                        views, problems = await asyncio.to_thread(client.list_runs, lab)
                        self._app.backend.to_ui(self._set_runs, tuple(views), tuple(problems.items()))
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._soon.wait(), 1)
                        self._soon.clear()
            except LabError as error:
                state = HostState("gone", clean_line(error.message), error.hint)
                self._app.backend.to_ui(self._set_host, state)
                await asyncio.sleep(2)

    # -- back on the drawing loop ----------------------------------------------------------------

    def _set_lab(self, lab: Lab) -> None:
        self.lab = lab
        self.host_changed.publish(self.host)

    def _set_host(self, state: HostState) -> None:
        if state != self.host:
            self.host = state
            self.host_changed.publish(state)

    def _set_inventory(self, found: Inventory) -> None:
        if found != self.inventory:
            self.inventory = found
            self.lab_changed.publish(found)

    def _set_runs(self, views: tuple[RunView, ...], problems: tuple[tuple[str, str], ...]) -> None:
        if (views, problems) != (self.runs, self.run_problems):
            before = self.runs
            self.runs, self.run_problems = views, problems
            self.runs_changed.publish(views)
            self._app.runs_moved(before, views)
