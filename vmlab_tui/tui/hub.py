"""The one place that watches the lab and the runs, and tells the screens what changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual.signal import Signal

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean
from vmlab_tui.lab.watch import HostState

if TYPE_CHECKING:
    from vmlab_tui.lab.context import Lab
    from vmlab_tui.lab.inventory import Inventory
    from vmlab_tui.lab.watch import LabWatch
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.watch import RunsView, RunsWatch
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.tui.front import ScreenFront
    from vmlab_tui.verbs.verb import Context


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
        self._watchers: tuple[LabWatch, RunsWatch] | None = None

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
        if self._watchers:
            self._app.backend.submit(self._hurry())

    # -- on the backend's loop -------------------------------------------------------------------

    async def _hurry(self) -> None:
        for watcher in self._watchers or ():
            watcher.refresh_soon()

    async def _watch(self) -> None:
        from vmlab_tui.lab.context import open_lab
        from vmlab_tui.lab.watch import LabWatch
        from vmlab_tui.spec.settings import Settings, load_settings
        from vmlab_tui.verbs.verb import Context

        to_ui = self._app.backend.to_ui
        ctx = Context(None, self._uri, self._store)  # type: ignore[arg-type]  # asks nobody
        try:
            settings = load_settings()
            lab = ctx.lab
        except LabError as error:
            settings, lab = Settings(), open_lab(self._uri, self._store)
            to_ui(
                self._app.show_error,
                clean(error.message),
                clean(error.hint) or "correct it; until then the defaults hold",
            )
        to_ui(self._app.take_settings, settings)
        to_ui(self._set_lab, lab)
        watch = LabWatch(
            lab, lambda found: to_ui(self._set_inventory, found), lambda state: to_ui(self._set_host, state)
        )
        looking = asyncio.create_task(watch.run())
        # libvirt answers while this is imported
        from vmlab_tui.runs.watch import RunsWatch

        runs = RunsWatch(lab, lambda view: to_ui(self._set_runs, view))
        self._watchers = (watch, runs)
        async with runs:
            await looking

    # -- back on the drawing loop ----------------------------------------------------------------

    def _set_lab(self, lab: Lab) -> None:
        self.lab = lab
        self.host_changed.publish(self.host)

    def _set_host(self, state: HostState) -> None:
        self.host = state
        self.host_changed.publish(state)

    def _set_inventory(self, found: Inventory) -> None:
        self.inventory = found
        self.lab_changed.publish(found)

    def _set_runs(self, view: RunsView) -> None:
        before = self.runs
        self.runs, self.run_problems = view.runs, view.problems
        self.runs_changed.publish(view.runs)
        if view.complete:
            self._app.runs_moved(before, view.runs)
