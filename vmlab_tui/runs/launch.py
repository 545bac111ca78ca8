"""Runs begin here: their directory, and a worker put on it; also one that was interrupted goes on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path

from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import fsync_dir, is_locked, write_durably
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.log import Journal
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.trash import make_store
from vmlab_tui.runs.client import get_run
from vmlab_tui.runs.folder import JOURNAL, LAST_WORD, LOCK, RESERVE, RESERVE_BYTES, take_lock
from vmlab_tui.runs.plan import write_plan
from vmlab_tui.runs.prepare import Prepared, lasting
from vmlab_tui.runs.spare import SpareWorker

RUN_CREATED = declare("run.created", "the run's directory exists, no worker was started")
_POLL = 0.05


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
    limit = time.monotonic() + LAST_WORD
    while load_state(view.folder).seq <= view.state.seq and is_locked(view.folder / LOCK):
        if time.monotonic() > limit:
            break
        await asyncio.sleep(_POLL)
    return view.run_id
