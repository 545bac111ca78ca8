"""From a lab to a graph of what needs what: asks libvirt, then looks at the store and the watched folders."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.census import Naming, name_all, pool_folders
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.lane import Lane
from vmlab_tui.hosts.model import Power
from vmlab_tui.images.store import image_file, scan_images
from vmlab_tui.lab import leftovers, parts
from vmlab_tui.lab.census import Answer, Graph, names, watched
from vmlab_tui.lab.claims import GRACE, Claim, Policy, RunFact, of_images, of_runs, of_trash, of_vm
from vmlab_tui.lab.context import SYSTEM, Lab
from vmlab_tui.lab.leases import FILE as LEASE
from vmlab_tui.lab.leases import Lease, read_lease
from vmlab_tui.lab.naming import Headers
from vmlab_tui.lab.reach import Action, Thing, World
from vmlab_tui.lab.sizes import comes_back
from vmlab_tui.lab.trash import list_entries

DEADLINE = 120.0
"""Seconds that one look may take."""
_PLAIN = ("lease.json", "seed.iso", "host_key", "known_host", "memory.save", "nvram.fd")
_OFF = (Power.OFF, Power.CRASHED)


class Scanner:
    """Looks at a lab again and again, reading only headers that have changed. Not for two tasks at once."""

    def __init__(self, lab: Lab, policy: Policy) -> None:
        self.lab, self.policy = lab, policy
        self._headers = Headers()

    async def look(self, host: Host) -> World:
        """The graph as it is now. Raises LabError when the lab's own host cannot be asked."""
        answers = [Answer(self.lab.uri, True, tuple(await name_all(host)))]
        others = list(self.policy.hosts)
        if not self.lab.system and SYSTEM not in others and _local(self.lab.uri):
            others.append(SYSTEM)
        answers += await asyncio.gather(*(_ask(uri) for uri in others if uri != self.lab.uri))
        pools = await pool_folders(host) if _local(self.lab.uri) else []
        saves = await leftovers.saved_files(self.lab, host, answers[0].domains)
        lane = Lane("files", threads=1)
        try:
            return await lane.call(
                lambda: _look(self.lab, self.policy, self._headers, answers, pools, saves),
                timeout=DEADLINE,
                what=f"look at {self.lab.store.root}",
            )
        finally:
            lane.close()


def _local(uri: str) -> bool:
    return not urlsplit(uri).netloc


async def _ask(uri: str) -> Answer:
    try:
        async with Host.open(uri, readonly=True) as host:
            return Answer(uri, False, tuple(await name_all(host)))
    except LabError as error:
        return Answer(uri, False, problem=clean_line(error.message, 200))


def _look(
    lab: Lab,
    policy: Policy,
    headers: Headers,
    answers: list[Answer],
    pools: Iterable[tuple[str, str]],
    saves: tuple[leftovers.Saved, ...],
) -> World:
    now = time.time()
    graph = Graph(lab.store, headers)
    own = {one.uuid: one for one in answers[0].domains}
    runs = parts.read_runs(graph, lab.store)
    trashed = _trash(graph, policy, now)
    _images(graph, policy, now)
    parts.add_staging(graph, lab.store)
    parts.add_templates(graph, lab.store, policy)
    folders = _vms(graph, lab, own, runs, now)
    parts.add_runs(graph, lab.store, runs, of_runs(runs.values(), policy, now))
    parts.add_ports(
        graph, lab.store, {*folders, *own, *trashed, *(uuid for run in runs.values() for uuid in run.uuids)}
    )
    parts.add_adopted(graph, lab.store, now)
    for folder, problem in pools:
        if problem:
            graph.blind(f"the folder {folder}", problem)
    for place in policy.watch:
        if not place.is_dir():  # a share that is not mounted looks like this
            graph.blind(f"the folder {place}", "it is to be watched, and is not there")
    everywhere = [*map(str, policy.watch), *(folder for folder, _ in pools), *leftovers.usual_folders(lab)]
    for name in dict.fromkeys(everywhere):
        watched(graph, Path(name))
    for answer in answers:
        _domains(graph, answer)
    known = {one.uuid for answer in answers for one in answer.domains}
    leftovers.add_stored(graph, lab, known)
    leftovers.add_left(graph, lab, own, saves)
    graph.follow()
    graph.hold(frozenset(one.uuid for one in own.values() if one.power not in _OFF))
    if not own and any(key[0] == "vm" for key in graph.parts):
        mine = frozenset(key for key in graph.parts if key[0] == "vm")
        graph.blind(lab.uri, "it lists no VM at all, although there are VM directories of ours", mine)
    return graph.world()


# -- the store -------------------------------------------------------------------------------------


def _trash(graph: Graph, policy: Policy, now: float) -> set[str]:
    """What is in the trash; the uuids of the VMs there."""
    try:
        entries, problems = list_entries(graph.store)
    except OSError as error:
        graph.blind(str(graph.store.trash), error.strerror or str(error))
        return set()
    claims = of_trash(entries, policy, now)
    for entry in entries:
        key = ("trash", entry.id)
        claim = claims.get(entry.id, Claim())
        files: dict[str, os.stat_result] = {}
        for move in entry.moves:
            files |= parts.files_of(graph, Path(move.dst), key)
            graph.was_at(move.src, key)
        unfinished = (
            "" if entry.state == "in" else "it is not finished: a clean-up or an undo was interrupted"
        )
        thing = Thing(
            key,
            entry.name,
            claim.rule,
            claim.why,
            unfinished,
            ours=True,
            trash=True,
            action=Action.EMPTY,
            since=claim.since,
            paths=tuple(move.dst for move in entry.moves),
            frees=comes_back(files),
            stamp=parts.stamp_of(graph.store.trash / entry.id / "entry.json"),
        )
        graph.add(
            thing,
            files,
            folders=[graph.store.trash / entry.id, *(m.dst for m in entry.moves)],
            plain=(*_PLAIN, "entry.json"),
        )
        for path in entry.names:
            graph.need(key, path, f"named by {entry.name} in the trash")
    for name, why in problems.items():
        graph.add(
            Thing(("left", str(graph.store.trash / name)), name, root=why),
            parts.files_of(graph, graph.store.trash / name, ("left", name)),
            folders=[graph.store.trash / name],
        )
    graph.searched.append(f"the trash, {graph.store.trash}")
    return {entry.key[1] for entry in entries if entry.key[0] == "vm"}


def _images(graph: Graph, policy: Policy, now: float) -> None:
    store = graph.store
    found, problems = scan_images(store)
    claims = of_images(found, policy, now)
    named = set()
    for image in found:
        path = image_file(store, image)
        named.add(path.name)
        sidecar = store.images / f"{image.name}.json"
        claim = claims.get(image.name, Claim())
        files = parts.plain_files(path)
        graph.add(
            Thing(
                ("image", image.name),
                image.name,
                claim.rule,
                claim.why,
                "" if claim.rule else "it is an image, and no rule calls it disposable",
                ours=True,
                since=claim.since,
                paths=(str(sidecar), str(path)),
                yields=True,
                frees=comes_back(files),
                stamp=parts.stamp_of(sidecar, path),
            ),
            files,
            plain=[path.name] if image.format == "raw" else [],
        )
    for path in (store.images / name for name in names(store.images)):
        if path.suffix not in (".qcow2", ".raw") or path.name.startswith(".") or path.name in named:
            continue
        files = parts.plain_files(path)
        made = max((facts.st_mtime for facts in files.values()), default=now)
        young = now - made < GRACE
        graph.add(
            Thing(
                ("file", path.name),
                path.name,
                "former",
                "no image points at this file of a former build",
                "it was put there only now" if young else "",
                ours=True,
                since=made,
                paths=(str(path),),
                frees=comes_back(files),
                stamp=parts.stamp_of(path),
            ),
            files,
            plain=[path.name] if path.suffix == ".raw" else [],
        )
    if problems:
        formers = frozenset(key for key in graph.parts if key[0] == "file")
        for name, why in problems.items():
            graph.blind(f"the sidecar of image {name}", why, formers)
    graph.searched.append(f"the images and their sidecars in {store.images}")


def _vms(
    graph: Graph, lab: Lab, own: dict[str, Naming], runs: dict[str, RunFact], now: float
) -> dict[str, Lease | None]:
    """Every VM directory, and every domain that carries our mark or lies in one; the leases by uuid."""
    store = lab.store
    found: dict[str, Lease | None] = {}
    try:
        listed = names(store.vms)
    except OSError as error:
        graph.blind(str(store.vms), error.strerror or str(error))
        listed = []
    for name in listed:
        folder = store.vms / name
        files = parts.files_of(graph, folder, ("vm", name))
        plain = (*_PLAIN, *(Path(path).name for path in files if Path(path).name.startswith("console.log")))
        lease, problem = _lease(folder)
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
                frees=comes_back(everything),
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
    graph.searched.append(f"the leases and disks in {store.vms}")
    for uuid, domain in own.items():
        if uuid not in found:
            _without_directory(graph, lab, domain, runs)
    return found


def _lease(folder: Path) -> tuple[Lease | None, str]:
    try:
        lease = read_lease(folder)
    except LabError as error:
        return None, error.message
    if lease.uuid != folder.name:
        return None, f"its lease is for {clean_line(lease.uuid, 60)}"
    return lease, ""


def _not_ours(lab: Lab, lease: Lease, domain: Naming) -> str:
    if lease.adopted or domain.problem:
        return f"its definition cannot be read: {domain.problem}" if domain.problem else ""
    if domain.mark is None or domain.mark.store != str(lab.store.root):
        return "its domain does not carry the mark of this lab"
    if not domain.persistent:
        return "its domain is transient: it cannot be had back"
    return ""


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
            folder.name,
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


def _without_directory(graph: Graph, lab: Lab, domain: Naming, runs: dict[str, RunFact]) -> None:
    """A domain in libvirt without a directory in the store: foreign, or one of ours that has lost it."""
    key = ("vm", domain.uuid)
    mark = domain.mark
    ours = bool(mark and mark.store == str(lab.store.root)) and not domain.problem
    run = runs.get(mark.run_id) if mark else None
    gone = ours and domain.power in _OFF and domain.persistent and not (run and (run.live or run.problem))
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


def _domains(graph: Graph, answer: Answer) -> None:
    """What the domains of a connection name."""
    if answer.problem:
        if answer.uri == SYSTEM:
            graph.closed(answer.uri, answer.problem)
        else:
            graph.blind(answer.uri, answer.problem)
        return
    for domain in answer.domains:
        key = ("vm", domain.uuid)
        if key not in graph.parts:
            graph.add(Thing(key, domain.name, root="" if answer.own else f"it is a VM of {answer.uri}"))
        if domain.problem:
            graph.blind(f"the definition of VM {domain.name}", domain.problem)
        graph.raw |= domain.raw
        for path, how in domain.files:
            graph.need(key, path, how)
    count = len(answer.domains)
    graph.searched.append(
        f"{answer.uri}: {count} VM{'s' if count != 1 else ''}: definitions, snapshots, checkpoints, memory"
    )
