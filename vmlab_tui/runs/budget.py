"""How much disk checkpoints and templates take, and what goes first when that is too much."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.base.units import size
from vmlab_tui.journal.cache import load_state
from vmlab_tui.lab import templates
from vmlab_tui.lab.leases import all_leases
from vmlab_tui.runs.context import RunContext

RESERVE = 1 << 30
"""Bytes of disk that must stay free beyond what a run needs."""


@dataclass(frozen=True)
class Use:
    """Bytes that going back in time costs a store: templates by key, and the memory in VMs' snapshots."""

    templates: dict[str, int]
    checkpoints: int

    @property
    def total(self) -> int:
        return sum(self.templates.values()) + self.checkpoints


def measure(store: Store) -> Use:
    """What is used now, the templates longest unused first. Blocks on the file system.

    Of snapshots their memory counts, as the runs' journals tell it: which blocks of a disk only a snapshot
    still needs nobody knows.
    """
    found, _ = templates.scan_templates(store)
    memory = 0
    for lease in all_leases(store)[0].values():
        folder = store.run(lease.run_id)
        try:
            state = load_state(folder) if folder.is_dir() else None
        except LabError:
            continue
        memory += sum(one.size for one in state.checkpoints) if state else 0
    return Use({one.key: templates.size_of(store, one.key) for one in found}, memory)


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

    First templates, longest unused first, then this run's automatic checkpoints, oldest first but for the
    newest. Other VMs' checkpoints are their owners' business. Everything that goes is noted in the journal.
    """
    import asyncio

    store, budget = run.store, run.plan.budget
    use = await asyncio.to_thread(measure, store)
    fits = use.total + need <= budget and _free(store) >= need + RESERVE
    if fits:
        return True
    for line in await asyncio.to_thread(evict_templates, store, use, need, budget):
        run.note(line)
    for one in [one for one in run.state.checkpoints if one.why == "auto"][:-1]:
        use = await asyncio.to_thread(measure, store)
        if use.total + need <= budget and _free(store) >= need + RESERVE:
            return True
        with run.wait("libvirt"):
            await run.host.delete_snapshot(run.plan.vm.uuid, one.name)
        run.write("checkpoint_dropped", name=one.name, reason="the budget")
        run.note(f"checkpoint {one.name} removed to stay within the budget: {size(one.size)}")
    use = await asyncio.to_thread(measure, store)
    return use.total + need <= budget and _free(store) >= need + RESERVE
