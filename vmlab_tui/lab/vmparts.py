"""The VMs of a lab: every directory in its store, and domains that carry its mark without one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import is_locked
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.census import Naming
from vmlab_tui.hosts.model import Power
from vmlab_tui.lab import console, parts
from vmlab_tui.lab.bundles import add_bundles, in_bundles
from vmlab_tui.lab.census import Graph, names
from vmlab_tui.lab.claims import GRACE, Claim, RunFact, of_vm, waits_for_worker
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import FILE as LEASE
from vmlab_tui.lab.leases import Lease, read_lease
from vmlab_tui.lab.memory import Memory
from vmlab_tui.lab.parts import ADOPTED
from vmlab_tui.lab.reach import Action, Thing

PLAIN = ("lease.json", "seed.iso", "host_key", "known_host", "memory.save", "nvram.fd")
OFF = (Power.OFF, Power.CRASHED)


def owned_vms(
    graph: Graph,
    lab: Lab,
    memory: Memory,
    own: dict[str, Naming],
    runs: dict[str, RunFact],
    now: float,
) -> dict[str, Lease | None]:
    """Every VM directory, and every domain that carries our mark or lies in one; the leases by uuid."""
    vms = lab.store.vms
    found: dict[str, Lease | None] = {}
    try:
        listed = names(vms)
    except OSError as error:
        graph.blind(str(vms), error.strerror or str(error))
        listed = []
    for name in listed:
        folder = vms / name
        files = parts.files_of(graph, folder, ("vm", name))
        plain = (
            *PLAIN,
            *(last for path in files if (last := path.rpartition("/")[2]).startswith("console.log")),
            *(path.rpartition("/")[2] for those in in_bundles(folder, files).values() for path in those),
        )
        lease, problem = _lease(folder, memory, files)
        found[name] = lease
        domain = own.get(name)
        if lease is None:
            _unleased(graph, folder, domain, problem, files, plain, now)
            continue
        claim = of_vm(lease, domain.power if domain else None, runs.get(lease.run_id), now)
        if domain and (why := _not_ours(lab, lease, domain)):
            claim = Claim(root=why)
        extra = {
            path: facts for path in lease.adopted for path, facts in parts.plain_files(Path(path)).items()
        }
        everything = {**files, **extra}
        graph.add(
            Thing(
                ("vm", name),
                lease.name,
                claim.rule,
                claim.why,
                claim.root,
                ours=True,
                action=claim.action,
                since=claim.since,
                paths=(str(folder), *lease.adopted),
                yields=claim.yields,
                run=lease.run_id,
                stamp=f"{parts.stamp_of(folder / LEASE, folder)}-{domain.stamp if domain else 'no domain'}",
                details=(
                    f"made by run {lease.run_id} of {lease.owner} on {lease.image}",
                    f"domain: {domain.power.value if domain else 'none'}",
                ),
            ),
            everything,
            folders=[folder],
            plain=plain,
        )
        graph.edge(("vm", name), ("run", lease.run_id), "its lease names the run")
        graph.edge(("vm", name), ("ports", name), "its forwards")
        if not claim.rule:
            add_bundles(graph, folder, files, lease.run_id, now)
            _add_console(graph, folder, lease.name)
        if domain:
            _add_broken(graph, domain, lease.name)
    graph.searched.append(f"the leases and disks in {vms}")
    for uuid, domain in own.items():
        if uuid not in found:
            _without_directory(graph, lab, domain, runs, now)
    return found


def _lease(folder: Path, memory: Memory, files: Mapping[str, os.stat_result]) -> tuple[Lease | None, str]:
    facts = files.get(path := str(folder / LEASE))
    return memory.leases.get(path, facts, lambda: _read_lease(folder)) if facts else _read_lease(folder)


def _read_lease(folder: Path) -> tuple[Lease | None, str]:
    try:
        lease = read_lease(folder)
    except LabError as error:
        return None, error.message
    if lease.uuid != folder.name:
        return None, f"its lease is for {clean_line(lease.uuid, 60)}"
    return lease, ""


def _not_ours(lab: Lab, lease: Lease, domain: Naming) -> str:
    if lease.adopted or lease.run_id == ADOPTED or domain.problem:
        return f"its definition cannot be read: {domain.problem}" if domain.problem else ""
    if domain.mark is None or domain.mark.store != str(lab.store.root):
        return "its domain does not carry the mark of this lab"
    if not domain.persistent:
        return "its domain is transient: it cannot be had back"
    return ""


def _add_console(graph: Graph, folder: Path, name: str) -> None:
    """The socket of a console that nobody holds any more; its lock stays, as flocks do."""
    left = folder / console.SOCKET
    if left.is_socket() and not is_locked(folder / console.LOCK):
        graph.add(
            Thing(
                ("console", folder.name),
                name,
                "stale",
                "the process that held the console is gone, so nobody answers there",
                ours=True,
                action=Action.FREE,
                since=left.lstat().st_mtime,
                paths=(str(left),),
                stamp=parts.stamp_of(left),
            )
        )


def _add_broken(graph: Graph, domain: Naming, name: str) -> None:
    """Snapshots of a VM that is there whose files are not: libvirt lists them, and nobody can go back to
    them. What could be lost with one is for a person to say, so they are only shown."""
    lost: dict[str, list[str]] = {}
    for path, how in domain.contents:
        if not Path(path).exists():
            lost.setdefault(how, []).append(path)
    for how, paths in lost.items():
        key = ("snapshot", domain.uuid, how.removeprefix("snapshot ").strip("'"))
        graph.add(Thing(key, f"{key[2]} of {name}", "broken", "its file is gone", ours=True))
        graph.blind(f"{how} of VM {name}", f"{', '.join(paths[:3])} is gone", frozenset({key}))


def _unleased(
    graph: Graph,
    folder: Path,
    domain: Naming | None,
    problem: str,
    files: dict[str, os.stat_result],
    plain: tuple[str, ...],
    now: float,
) -> None:
    key = ("vm", folder.name) if domain else ("left", str(folder))
    empty = folder.is_dir() and not names(folder) and domain is None
    made = folder.stat().st_mtime if folder.exists() else now
    claimed = empty and now - made > GRACE
    graph.add(
        Thing(
            key,
            domain.name if domain else folder.name,
            "empty-dir" if claimed else "",
            "the directory is empty, and no domain has this uuid" if claimed else "",
            "" if claimed else f"nobody knows whose it is: {problem}",
            ours=claimed,
            action=Action.FREE,
            since=made,
            paths=(str(folder),),
            stamp=parts.stamp_of(folder),
        ),
        files,
        folders=[folder],
        plain=plain,
    )


def _without_directory(graph: Graph, lab: Lab, domain: Naming, runs: dict[str, RunFact], now: float) -> None:
    """A domain in libvirt without a directory in the store: foreign, or one of ours that has lost it."""
    key = ("vm", domain.uuid)
    mark = domain.mark
    ours = bool(mark and mark.store == str(lab.store.root)) and not domain.problem
    run = runs.get(mark.run_id) if mark else None
    busy = run and (run.live or run.problem or waits_for_worker(run, now))
    gone = ours and domain.power in OFF and domain.persistent and not busy
    place = lab.store.vms / domain.uuid
    # whatever it still has elsewhere is somebody's
    inside = all(
        Path(path).is_relative_to(place) or not Path(path).exists()
        for path, _ in domain.files
        if not Path(path).is_relative_to(lab.store.images)
    )
    claimed = gone and inside and not domain.saved
    graph.add(
        Thing(
            key,
            domain.name,
            "no-directory" if claimed else "",
            f"it carries our mark, and its directory {place} is gone" if claimed else "",
            "" if claimed or not ours else "its directory is gone, but it runs or has files elsewhere",
            ours=ours,
            since=run.updated if run else None,
            stamp=domain.stamp,
            details=(f"domain: {domain.power.value}",),
        ),
        folders=[place],
    )
