"""Runs as others see them: start, list, follow, resume, end. None of these owns a run."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.errors import Exit, LabError, Refused, UsageError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import Locked, Store, fsync_dir, is_locked, write_durably
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import ensure_user_key
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.events import Event
from vmlab_tui.journal.log import Follower, Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import FILE as LEASE_FILE
from vmlab_tui.lab.leases import keep, read_lease
from vmlab_tui.lab.owned import Thing, remove_vm, things_of
from vmlab_tui.lab.templates import drop_unfinished
from vmlab_tui.lab.trash import make_store
from vmlab_tui.lab.vmdir import vm_dir
from vmlab_tui.runs.control import RunIsOver, ask
from vmlab_tui.runs.folder import JOURNAL, LOCK, RESERVE, RESERVE_BYTES, identity
from vmlab_tui.runs.plan import Plan, read_plan, write_plan
from vmlab_tui.runs.prepare import Prepared, lasting
from vmlab_tui.runs.report import Ending, write_reports
from vmlab_tui.runs.spare import SpareWorker

RUN_CREATED = declare("run.created", "the run's directory exists, no worker was started")
_POLL = 0.05
_LAST_WORD = 10.0
"""Seconds within which a worker is gone whose run is over."""


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


def create(lab: Lab, prepared: Prepared) -> Path:
    """Make the run's directory: profile, plan and the journal's first event."""
    plan = prepared.plan
    folder = lab.store.run(plan.run_id)
    folder.mkdir(mode=0o700)
    (folder / "steps").mkdir(mode=0o700)
    write_durably(folder / "profile.yaml", prepared.loaded.text)
    write_plan(folder, plan)
    with Journal.append(folder / JOURNAL) as journal:
        journal.write("run_created", run_id=plan.run_id, profile=plan.profile.name, plan_sha=plan.sha)
    fsync_dir(lab.store.runs)
    write_durably(folder / RESERVE, bytes(RESERVE_BYTES))
    point(RUN_CREATED)
    return folder


async def start(lab: Lab, prepared: Prepared, worker: SpareWorker | None = None) -> str:
    """Create the run, and the store if need be, and put a worker on it; returns the run's id.

    Raises Refused by the preflight.
    """
    prepared.raise_if_refused()
    uid, gid = prepared.facts.qemu_uid, prepared.facts.qemu_gid
    await asyncio.to_thread(make_store, lab.store, uid, gid, system=lab.system)
    prepared = await asyncio.to_thread(lasting, lab, prepared)
    folder = create(lab, prepared)
    _put_on(worker or SpareWorker(), folder, prepared.env.secret)
    return prepared.plan.run_id


def _put_on(worker: SpareWorker, folder: Path, secrets: Mapping[str, str]) -> None:
    """Give a run to a worker together with its lock, so that it never looks abandoned in between."""
    with worker:
        lock = take_lock(folder)
        try:
            worker.give(folder, secrets, lock)
        finally:
            os.close(lock)


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


async def resume(lab: Lab, ref: str, secrets: Mapping[str, str]) -> str:
    """Put a new worker on an interrupted run; returns the run's id once the worker has said that it is there.

    Raises UsageError when it has ended, Locked when it has a worker, Refused when secrets are missing.
    """
    view = get_run(lab, ref)
    if view.state.over:
        raise UsageError(
            f"run {view.run_id} has ended: {view.status}",
            hint=f"start another: vmlab run {view.plan.profile_file}",
        )
    missing = [name for name in view.plan.secret_names if name not in secrets]
    if missing:
        raise Refused(
            f"run {view.run_id} needs its secrets again: {', '.join(missing)}",
            hint="pass them with " + " ".join(f"--env {name}" for name in missing),
        )
    _put_on(SpareWorker(), view.folder, {name: secrets[name] for name in view.plan.secret_names})
    # until then the run looks as the dead one left it, a pause included that nobody is in any more
    limit = time.monotonic() + _LAST_WORD
    while load_state(view.folder).seq <= view.state.seq and is_locked(view.folder / LOCK):
        if time.monotonic() > limit:
            break
        await asyncio.sleep(_POLL)
    return view.run_id


async def end(lab: Lab, ref: str, how: str = "destroy", by: str = "vmlab") -> EndResult:
    """End a run: ask its worker, or, where there is none, do it here.

    ``how``: ``table`` (the plan's on_fail), ``destroy`` or ``keep``. On a run that has ended with its VM
    kept, ``destroy`` removes exactly what the run owns and ``keep`` renews the lease.
    """
    view = get_run(lab, ref)
    patience = _LAST_WORD if view.state.over else 0.2  # a worker whose run has ended is about to go
    try:
        lock = await asyncio.to_thread(take_lock, view.folder, patience=patience)
    except Locked:
        try:
            await ask(view.folder, verb="end", how=how, by=by, seq=view.state.seq)
        except LabError as error:
            if not isinstance(error, RunIsOver) and not load_state(view.folder).over:
                raise
            lock = await asyncio.to_thread(take_lock, view.folder, patience=_LAST_WORD)
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


def endpoint_of(lab: Lab, uuid: str) -> Endpoint:
    """Where SSH answers on a VM of ours with a forward. Raises LabError when it has none."""
    folder = vm_dir(lab.store, uuid)
    lease = read_lease(folder.path)
    port = lease.port("ssh")
    if port is None or not folder.known_host.exists():
        raise LabError(
            f"VM {lease.name} has no SSH forward and no pinned host key yet",
            hint="wait until its run has booted it",
        )
    return Endpoint(
        host="127.0.0.1",
        port=port,
        user=lease.user,
        key=ensure_user_key(lab.store.keys).private,
        host_key=folder.known_host.read_text().strip(),
        vm=lease.name,
    )
