"""One writer per VM: a change goes through the worker of its run, or is made here under the run's lock."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.paths import Locked
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.log import Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.endpoint import endpoint_of
from vmlab_tui.lab.inventory import VmEntry
from vmlab_tui.lab.vmverbs import ALTERS, REWINDS, Change, Result, carry_out
from vmlab_tui.runs.asking import RunIsOver, ask
from vmlab_tui.runs.folder import JOURNAL, LAST_WORD, take_lock

_LONGEST = 480.0
"""Seconds a worker may take for a change: more than the longest libvirt call is given."""


def run_folder(lab: Lab, vm: VmEntry) -> Path | None:
    """The directory of the run that made ``vm``; None for a foreign VM and where it is gone."""
    folder = lab.store.run(vm.lease.run_id) if vm.lease else None
    return folder if folder and folder.is_dir() else None


def seen_of(lab: Lab, vm: VmEntry) -> int:
    """The last event of the run of a VM of ours, at the moment a person is shown it; 0 without a run."""
    folder = run_folder(lab, vm)
    return _state(folder).seq if folder else 0


def _state(folder: Path) -> RunState:
    """The run's state; an empty one where the journal is damaged, which is no reason to leave a VM on."""
    try:
        return load_state(folder)
    except LabError:
        return RunState()


async def change_vm(
    lab: Lab, host: Host, vm: VmEntry, change: Change, *, by: str, seen: int | None = None
) -> Result:
    """Make ``change`` to ``vm``, asked for by ``by``, who has seen its run up to event ``seen``.

    Raises Refused when the run stands in the way or has moved on, LabError when it fails.
    """
    folder = run_folder(lab, vm)
    if folder is None:
        return await carry_out(host, vm.uuid, change, await _endpoint(lab, vm))
    state = await asyncio.to_thread(_state, folder)
    # of a run that is over, whoever has the lock is about to go
    lock = await _lock(folder, LAST_WORD if state.over else 0.2)
    if lock is None and not state.over:
        seq = state.seq if seen is None else seen
        try:
            reply = await ask(
                folder, timeout=_LONGEST, verb="vm", by=by, seq=seq, **change.model_dump(mode="json")
            )
        except RunIsOver:
            lock = await _lock(folder, LAST_WORD)
        else:
            return Result.model_validate(reply.get("result") or {})
    if lock is None:
        raise Refused(f"VM {vm.name}: another command is working on it", hint="try again when it is done")
    try:
        state = await asyncio.to_thread(_state, folder)
        if change.do in REWINDS and not state.over:
            raise Refused(
                f"VM {vm.name}: its run {folder.name} is interrupted, and would go on as if nothing had been",
                hint=f"vmlab runs resume {folder.name}   # or: vmlab runs end {folder.name} --keep",
            )
        if change.do in ALTERS and not state.over:
            _altered(folder, f"{change.text}, asked by {by}")
        return await carry_out(host, vm.uuid, change, await _endpoint(lab, vm))
    finally:
        os.close(lock)


async def visit(lab: Lab, vm: VmEntry, how: str) -> None:
    """Tell the run of ``vm`` that somebody goes into its guest, ``how`` in words.

    Nothing where it has none, or one that is over: of that, only what it took before can be started from.
    """
    folder = run_folder(lab, vm)
    if folder is None or (await asyncio.to_thread(_state, folder)).over:
        return
    lock = await _lock(folder, 0.2)
    # a worker that does not answer is about to end, or hangs, which is what one wants to look at; who would
    # read a damaged journal is told by all that reads it
    with contextlib.suppress(LabError):
        if lock is None:
            await ask(folder, verb="visit", visit=how)
            return
        try:
            _altered(folder, how)
        finally:
            os.close(lock)


def _altered(folder: Path, how: str) -> None:
    """Have a run without a worker, whose lock is held, know that its guest is something else from here on."""
    with contextlib.suppress(LabError), Journal.append(folder / JOURNAL) as journal:
        journal.write("altered", reason=how)


async def _endpoint(lab: Lab, vm: VmEntry) -> Endpoint | None:
    """Where its SSH answers; None for a foreign VM, and for one that has not come so far."""
    try:
        return await asyncio.to_thread(endpoint_of, lab, vm.uuid) if vm.lease else None
    except LabError:
        return None


async def _lock(folder: Path, patience: float) -> int | None:
    try:
        return await asyncio.to_thread(lambda: take_lock(folder, patience=patience))
    except Locked:
        return None
