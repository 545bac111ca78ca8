"""Runs as others see them: list, follow, end. None of these owns a run; `runs.launch` starts them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.errors import Exit, LabError, UsageError
from vmlab_tui.base.paths import Locked, Store, is_locked
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.events import Event
from vmlab_tui.journal.log import Follower, Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import FILE as LEASE_FILE
from vmlab_tui.lab.leases import keep
from vmlab_tui.lab.owned import Thing, remove_vm, things_of
from vmlab_tui.lab.templates import drop_unfinished
from vmlab_tui.lab.vmdir import vm_dir
from vmlab_tui.runs.asking import RunIsOver, ask
from vmlab_tui.runs.folder import JOURNAL, LAST_WORD, LOCK, RESERVE, identity, take_lock
from vmlab_tui.runs.plan import Plan, read_plan
from vmlab_tui.runs.report import Ending, write_reports

_POLL = 0.05


@dataclass(frozen=True)
class RunView:
    """A run at one moment. ``live``: a worker holds it."""

    run_id: str
    folder: Path
    plan: Plan
    state: RunState
    live: bool

    @property
    def at_work(self) -> bool:
        """Its worker hears requests: one that has ended its run is about to go, and hears nobody any more."""
        return self.live and not self.state.over

    @property
    def status(self) -> str:
        """The run's state in one word; *interrupted* when its worker died before the end."""
        return self.state.state if self.state.over or self.live else "interrupted"


@dataclass(frozen=True)
class EndResult:
    """What ending a run came to. ``asked``: its worker was asked and does it."""

    asked: bool
    removed: tuple[Thing, ...] = ()
    kept_until: str | None = None


def _view(folder: Path) -> RunView:
    live = is_locked(folder / LOCK)
    return RunView(folder.name, folder, read_plan(folder), load_state(folder), live)


def list_runs(lab: Lab) -> tuple[list[RunView], dict[str, str]]:
    """Every run, newest first, and the reasons by name where one cannot be read."""
    views, problems = [], {}
    for folder in sorted(lab.store.runs.iterdir()) if lab.store.runs.is_dir() else []:
        try:
            views.append(_view(folder))
        except LabError as error:
            problems[folder.name] = error.message
    views.sort(key=lambda view: view.plan.created, reverse=True)
    return views, problems


def get_run(lab: Lab, ref: str) -> RunView:
    """The run with this id, unique beginning of an id, VM name, or ``last``. Raises UsageError."""
    names = sorted(folder.name for folder in lab.store.runs.iterdir()) if lab.store.runs.is_dir() else []
    if ref in names:
        return _view(lab.store.run(ref))
    if ref == "last" and names and (views := list_runs(lab)[0]):
        return views[0]
    found = [name for name in names if name.startswith(ref)]
    if len(found) == 1:
        return _view(lab.store.run(found[0]))
    if not found:
        views = [view for view in list_runs(lab)[0] if ref in (view.plan.vm.name, view.plan.vm.uuid)]
        if len(views) == 1:
            return views[0]
        raise UsageError(f"no run '{ref}' in {lab.store.runs}", hint="vmlab runs list shows them")
    raise UsageError(
        f"'{ref}' is the beginning of {len(found)} runs: {', '.join(found[:5])}", hint="give more of it"
    )


async def follow(lab: Lab, run_id: str, *, since: int = 0) -> AsyncIterator[Event]:
    """The run's events after ``since`` as they come, until it has ended or its worker is dead."""
    folder = lab.store.run(run_id)
    follower = Follower(folder / JOURNAL)
    over = False
    while True:
        live = is_locked(folder / LOCK)
        for event in await asyncio.to_thread(follower.new):
            over = over or event.kind == "ended"
            if event.seq > since:
                yield event
        if over or not live:
            return  # ``live`` was asked first: what the last writer wrote has been read
        await asyncio.sleep(_POLL)


async def owned(host: Host, view: RunView) -> list[Thing]:
    """What exists of a run right now, asked of libvirt, the file system and the port registry."""
    return await things_of(Store(view.plan.store), host, view.plan.vm.uuid)


async def end(lab: Lab, ref: str, how: str = "destroy", by: str = "vmlab") -> EndResult:
    """End a run: ask its worker, or, where there is none, do it here.

    ``how``: ``table`` (the plan's on_fail), ``destroy`` or ``keep``. On a run that has ended with its VM
    kept, ``destroy`` removes exactly what the run owns and ``keep`` renews the lease.
    """
    view = get_run(lab, ref)
    patience = LAST_WORD if view.state.over else 0.2  # a worker whose run has ended is about to go
    try:
        lock = await asyncio.to_thread(take_lock, view.folder, patience=patience)
    except Locked:
        try:
            await ask(view.folder, verb="end", how=how, by=by, seq=view.state.seq)
        except LabError as error:
            if not isinstance(error, RunIsOver) and not load_state(view.folder).over:
                raise
            lock = await asyncio.to_thread(take_lock, view.folder, patience=LAST_WORD)
        else:
            return EndResult(asked=True)
    try:
        async with Host.open(view.plan.uri) as host:
            return await _end_here(lab, _view(view.folder), host, how, by)
    finally:
        os.close(lock)


async def _end_here(lab: Lab, view: RunView, host: Host, how: str, by: str) -> EndResult:
    plan, state = view.plan, view.state
    wish = how if how != "table" else "keep" if plan.on_fail in ("keep", "pause") else "destroy"
    store = lab.store
    until: str | None = None
    removed: list[Thing] = []
    (view.folder / RESERVE).unlink(missing_ok=True)
    with Journal.append(view.folder / JOURNAL) as journal:

        def write(kind: str, **data: object) -> None:
            nonlocal state
            state = state.apply(journal.write(kind, **data))

        write("worker_started", **identity(), resumed=True)
        write("end_requested", by=by, how=how)
        lease_there = (vm_dir(store, plan.vm.uuid).path / LEASE_FILE).exists()
        if wish == "keep" and lease_there and await host.domain(plan.vm.uuid):
            until = keep(store, plan.vm.uuid, plan.ttl)
        else:
            removed = await remove_vm(store, host, plan.vm.uuid, plan.run_id)
            drop_unfinished(store, plan.run_id)
            for what, ident in state.owns:
                write("removed", what=what, id=ident)
        last = view.state.ended
        ending = Ending(
            last.state if last else "ended",
            last.exit if last else int(Exit.INTERRUPTED),
            "kept" if until else "destroyed",
            last.detail if last else f"ended on request of {by}",
            until,
        )
        write_reports(view.folder, plan, state, ending)
        write(
            "ended",
            state=ending.state,
            exit=ending.exit,
            disposition=ending.disposition,
            seconds=round(view.state.active, 3),
            detail=ending.detail,
            until=until,
        )
    return EndResult(False, tuple(removed), until)
