"""Short-lived forks of a run's VM at one of its checkpoints: to look into or try things in, then gone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.ids import new_uuid
from vmlab_tui.guests.ssh import Guest, connect
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.events import Checkpoint
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.forks import Fork, make_fork, source_of
from vmlab_tui.lab.graph import VmEntry
from vmlab_tui.lab.owned import remove_vm
from vmlab_tui.runs.reuse import is_snapshot_of

TTL = 3600.0
"""Seconds that the lease of such a fork keeps it: only a killed process leaves one behind."""

T = TypeVar("T")


def kept_checkpoints(vm: VmEntry, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Those that the VM still has the very snapshot of, in the order of the steps, of one step the newest
    last. The VM must have been read with its snapshots."""
    there = [one for one in checkpoints if any(is_snapshot_of(snap, one) for snap in vm.snapshots)]
    return sorted(there, key=lambda one: one.after)


def newest_before(checkpoints: Sequence[Checkpoint], number: int) -> Checkpoint | None:
    """The last of :func:`kept_checkpoints` that was taken before step ``number``."""
    return next((one for one in reversed(checkpoints) if one.after < number), None)


@asynccontextmanager
async def scratch_fork(
    lab: Lab, host: Host, vm: VmEntry, snapshot: str, *, ttl: float = TTL, on_stage: Callable[[str], None]
) -> AsyncIterator[Guest]:
    """A fork of ``vm`` at ``snapshot`` that one is logged in to; removed on leaving, whatever happened.

    ``ttl`` in seconds. Raises what :func:`source_of` and :func:`make_fork` raise.
    """
    source = await source_of(lab, host, vm, snapshot)
    name = f"{vm.name[:45]}-look-{secrets.token_hex(2)}"
    fork = await make_fork(lab, host, source, name, new_uuid(), ttl=ttl, on_stage=on_stage)
    try:
        async with connect(fork.endpoint) as guest:
            yield guest
    finally:
        on_stage("removing the fork")
        await _remove(lab, host, fork)


async def _remove(lab: Lab, host: Host, fork: Fork) -> None:
    removing = asyncio.ensure_future(remove_vm(lab.store, host, fork.lease.uuid, fork.lease.run_id))
    try:
        await asyncio.shield(removing)
    except asyncio.CancelledError:
        await asyncio.wait({removing})  # called off a second time: it still goes first
        raise
    except LabError as error:
        raise LabError(
            f"fork {fork.lease.name} could not be removed: {error.message}",
            hint=f"vmlab delete {fork.lease.uuid}",
        ) from error


async def side_by_side(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All of them at once. When one fails, or all are called off, the others have cleared away on return."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except asyncio.CancelledError:
        await asyncio.wait(tasks)  # gather has told them; telling twice would disturb what they clear away
        raise
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
