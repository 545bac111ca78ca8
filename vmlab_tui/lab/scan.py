"""From a lab to a graph of what needs what: asks libvirt, then looks at the store and the watched folders."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.census import Recall, name_all, pool_folders
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.lane import Lane
from vmlab_tui.images.store import image_file, scan_images
from vmlab_tui.lab import leftovers, parts
from vmlab_tui.lab.bundles import add_bundles
from vmlab_tui.lab.census import Answer, Graph, names, watched
from vmlab_tui.lab.claims import GRACE, Claim, Policy, of_images, of_runs, of_trash
from vmlab_tui.lab.context import SYSTEM, Lab
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.memory import Memory
from vmlab_tui.lab.reach import Action, Thing, World
from vmlab_tui.lab.trash import list_entries
from vmlab_tui.lab.vmparts import OFF, PLAIN, owned_vms

DEADLINE = 120.0
"""Seconds that one look may take."""


class Scanner:
    """Looks at a lab again and again, reading only headers that have changed. Not for two tasks at once.

    ``beside``: more folders to look right into; those that adopted files lie in are known without.
    """

    def __init__(self, lab: Lab, policy: Policy, beside: Iterable[Path] = ()) -> None:
        self.lab, self.policy = lab, policy
        self._beside = tuple(beside)
        self._memory = Memory()
        self._recall: Recall | None = None
        self._others: dict[str, Host] | None = None

    async def look(self, host: Host, about: Key | None = None) -> World:
        """The graph as it is now. Raises LabError when the lab's own host cannot be asked.

        ``about``: the one thing that will be decided upon, so that less has to be looked at than for all.
        What is in use by others is then known of that thing alone, and definitions that cannot have changed
        since the last look of this scanner are not asked for again (`hosts.census.Recall`).
        """
        if about is None or self._recall is None:
            places = leftovers.folders(self.lab)
            self._recall = Recall(*places) if places else None
        answers = [Answer(self.lab.uri, True, tuple(await name_all(host, recall=self._recall)))]
        others = list(self.policy.hosts)
        if not self.lab.system and SYSTEM not in others and _local(self.lab.uri):
            others.append(SYSTEM)
        answers += await asyncio.gather(*(self._ask(uri) for uri in others if uri != self.lab.uri))
        pools = await pool_folders(host) if _local(self.lab.uri) else []
        saves = await leftovers.saved_files(self.lab, host, answers[0].domains)
        lane = Lane("files", threads=1)
        try:
            return await lane.call(
                lambda: _look(
                    self.lab, self.policy, self._memory, answers, pools, saves, about, self._beside
                ),
                timeout=DEADLINE,
                what=f"look at {self.lab.store.root}",
            )
        finally:
            lane.close()

    @asynccontextmanager
    async def staying(self) -> AsyncIterator[None]:
        """Stay connected to the other hosts from one look to the next."""
        self._others = {}
        try:
            yield
        finally:
            await asyncio.gather(*(host.close() for host in self._others.values()))
            self._others = None

    async def _ask(self, uri: str) -> Answer:
        try:
            async with AsyncExitStack() as once:
                host = self._others.get(uri) if self._others is not None else None
                if host is None:
                    host = await Host.connect(uri, readonly=True)
                    if self._others is None:
                        once.push_async_callback(host.close)
                    else:
                        self._others[uri] = host
                return Answer(uri, False, tuple(await name_all(host)))
        except LabError as error:
            return Answer(uri, False, problem=clean_line(error.message, 200))


def _local(uri: str) -> bool:
    return not urlsplit(uri).netloc


def _look(
    lab: Lab,
    policy: Policy,
    memory: Memory,
    answers: list[Answer],
    pools: Iterable[tuple[str, str]],
    saves: tuple[leftovers.Saved, ...],
    about: Key | None,
    beside: Iterable[Path],
) -> World:
    now = time.time()
    memory.begin()
    graph = Graph(lab.store, memory.headers)
    own = {one.uuid: one for one in answers[0].domains}
    runs = parts.read_runs(graph, lab.store)
    trashed = _trash(graph, memory, policy, now)
    _images(graph, policy, now)
    parts.add_staging(graph, lab.store)
    parts.add_templates(graph, lab.store, policy)
    folders = owned_vms(graph, lab, memory, own, runs, now)
    ended = of_runs(runs.values(), policy, now)
    parts.add_runs(graph, lab.store, runs, ended)
    for run in runs.values():
        if run.id not in ended and not run.live:
            add_bundles(graph, lab.store.run(run.id), graph.parts["run", run.id].files, run.id, now)
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
    places = [*((name, True) for name in dict.fromkeys(everywhere))]
    places += [(name, False) for name in _neighbours(graph, beside, everywhere)]
    for name, deep in places:
        if not memory.same_device(name):
            graph.blind(f"the folder {name}", "what was mounted there has changed meanwhile")
        watched(graph, Path(name), deep=deep)
    for answer in answers:
        _domains(graph, answer)
    known = {one.uuid for answer in answers for one in answer.domains}
    leftovers.add_stored(graph, lab, known, memory.stored)
    leftovers.add_left(graph, lab, own, saves)
    graph.follow()
    graph.hold(frozenset(one.uuid for one in own.values() if one.power not in OFF), about)
    if not own and any(key[0] == "vm" for key in graph.parts):
        mine = frozenset(key for key in graph.parts if key[0] == "vm")
        graph.blind(lab.uri, "it lists no VM at all, although there are VM directories of ours", mine)
    return graph.world()


def _neighbours(graph: Graph, beside: Iterable[Path], everywhere: Iterable[str]) -> list[str]:
    """The folders outside the store that files of ours lie in, or lay in before they came into the trash.

    Who stands on an adopted disk lies most likely right beside it. Without what is looked into anyway.
    """
    kinds = ("vm", "adopted")
    ours = [path for key, part in graph.parts.items() if key[0] in kinds for path in part.thing.paths]
    ours += [path for path, key in graph.came_from if graph.parts[key].thing.was in kinds]
    found = {os.path.realpath(folder) for folder in beside}
    found |= {graph.real(path.rpartition("/")[0] or "/") for path in ours}
    done = [os.path.realpath(folder) for folder in (str(graph.store.root), *everywhere)]
    return sorted(one for one in found if not any(one == at or one.startswith(f"{at}/") for at in done))


# -- the store -------------------------------------------------------------------------------------


def _trash(graph: Graph, memory: Memory, policy: Policy, now: float) -> set[str]:
    """What is in the trash; the uuids of the VMs there."""
    try:
        entries, problems = list_entries(graph.store, memory.entry)
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
            was=entry.key[0],
            action=Action.EMPTY,
            since=claim.since,
            paths=tuple(move.dst for move in entry.moves),
            stamp=parts.stamp_of(graph.store.trash / entry.id / "entry.json"),
        )
        graph.add(
            thing,
            files,
            folders=[graph.store.trash / entry.id, *(m.dst for m in entry.moves)],
            plain=(*PLAIN, "entry.json"),
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
