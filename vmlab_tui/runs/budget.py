"""How much disk snapshots and templates take, and what goes first when that is too much."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.base.units import size
from vmlab_tui.images.header import BadImage, inspect
from vmlab_tui.lab import templates
from vmlab_tui.lab.leases import all_leases

if TYPE_CHECKING:  # who only measures needs no guest
    from vmlab_tui.runs.context import RunContext

RESERVE = 1 << 30
"""Bytes of disk that must stay free beyond what a run needs."""


@dataclass(frozen=True)
class Use:
    """Bytes that going back in time costs a store: templates by key, and the memory in VMs' snapshots."""

    templates: dict[str, int]
    snapshots: int

    @property
    def total(self) -> int:
        return sum(self.templates.values()) + self.snapshots


def measure(store: Store) -> Use:
    """What is used now, the templates longest unused first. Blocks on the file system.

    Of snapshots, whoever took them, their memory counts, as the disks' headers tell it: which blocks of a
    disk only a snapshot still needs nobody knows. The trash has a bound of its own.
    """
    found, _ = templates.scan_templates(store)
    # an adopted VM's disk is where it was before
    adopted = (Path(path) for lease in all_leases(store)[0].values() for path in lease.adopted)
    disks = {*store.vms.glob("*/*.qcow2"), *adopted}
    memory = sum(_memory(disk) for disk in disks)
    return Use({one.key: templates.size_of(store, one.key) for one in found}, memory)


def _memory(disk: Path) -> int:
    """Bytes of memory in a disk's internal snapshots; 0 for what is no disk."""
    try:
        return sum(held for _, held in inspect(disk).saved)
    except BadImage:
        return 0


def evict_templates(store: Store, use: Use, need: int, budget: int, keep: str = "") -> list[str]:
    """Remove templates, longest unused first, until ``need`` more bytes fit; a line for each that went."""
    total, lines = use.total, []
    for key, held in use.templates.items():
        if total + need <= budget and _free(store) >= need + RESERVE:
            break
        if key == keep:
            continue
        freed = templates.evict(store, key)
        total -= held
        lines.append(f"template {key[:12]} removed to stay within the budget: {size(freed)} are free again")
    return lines


def _free(store: Store) -> int:
    return shutil.disk_usage(store.root).free


async def make_room(run: RunContext, need: int) -> bool:
    """Free what is oldest until ``need`` more bytes fit into the budget and the disk; whether they do.

    First templates, longest unused first, then this run's automatic checkpoints, oldest first, but for its
    newest checkpoint: that is the one to go back to. Other VMs' checkpoints are their owners' business.
    Everything that goes is noted in the journal.
    """
    store, budget = run.store, run.plan.budget

    async def fits() -> bool:
        return await asyncio.to_thread(_fits, store, need, budget)

    if await fits():
        return True
    for line in await asyncio.to_thread(_evict, store, need, budget):
        run.note(line)
    newest = run.state.line[-1].name if run.state.line else ""
    for one in run.state.checkpoints:
        if one.why != "auto" or one.name == newest:
            continue
        if await fits():
            return True
        try:
            with run.wait("libvirt"):
                await run.host.delete_snapshot(run.plan.vm.uuid, one.name)
        except LabError as error:
            run.note(f"checkpoint {one.name} could not be removed: {error}", level="warn")
            continue
        run.write("checkpoint_dropped", name=one.name, reason="the budget")
        run.note(f"checkpoint {one.name} removed to stay within the budget: {size(one.size)}")
    return await fits()


def _fits(store: Store, need: int, budget: int) -> bool:
    return measure(store).total + need <= budget and _free(store) >= need + RESERVE


def _evict(store: Store, need: int, budget: int) -> list[str]:
    return evict_templates(store, measure(store), need, budget)


def excess(store: Store, budget: int) -> str:
    """By how much the store is over its budget, or that the disk is nearly full; empty where all is well.

    Blocks on the file system.
    """
    if (over := measure(store).total - budget) > 0:
        return f"over the budget of {size(budget)} by {size(over)}"
    free = _free(store)
    return f"only {size(free)} of disk are free" if free < RESERVE else ""
