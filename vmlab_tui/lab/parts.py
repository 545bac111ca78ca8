"""The parts of a store beside VMs and images: runs, templates, unfinished images, ports, adopted files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store, is_locked
from vmlab_tui.images.staging import FOLDER as STAGING
from vmlab_tui.images.staging import is_owned, mounts_below
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.events import moment
from vmlab_tui.lab import ports
from vmlab_tui.lab.census import Graph, files_below, names
from vmlab_tui.lab.claims import Claim, Policy, RunFact, ago, of_templates, seconds
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.reach import Action, Thing
from vmlab_tui.lab.sizes import comes_back
from vmlab_tui.lab.templates import last_used

RUN_LOCK = "lock"
"""A run's lock in its directory, held by its worker."""
RUN_SOCKET = "ctl.sock"
ADOPTED = "adopted"


class Adopted(BaseModel):
    """``adopted/<id>.json``: files without a domain that a person has taken over."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: int = Field(1, alias="schema")
    id: str
    name: str
    owner: str
    created: str
    expires: str | None = None
    files: tuple[str, ...]
    inodes: tuple[tuple[int, int], ...]
    """Device and inode of each file when it was taken over: another file of that name is not ours."""


def stamp_of(*paths: Path) -> str:
    """Inode, size and time of change of each; another stamp means that something has changed."""
    found = []
    for path in paths:
        try:
            facts = path.lstat()
            size = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
            mtime = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_mtime_ns
            found.append(f"{facts.st_dev:x}.{facts.st_ino:x}.{size:x}.{mtime:x}")
        except OSError:
            found.append("gone")
    return "-".join(found)


def plain_files(path: Path) -> dict[str, os.stat_result]:
    """The plain file ``path``, if it is one."""
    with suppress(OSError):
        facts = path.lstat()
        if stat.S_ISREG(facts.st_mode):
            return {str(path): facts}
    return {}


def files_of(graph: Graph, path: Path, key: Key) -> dict[str, os.stat_result]:
    """The files at or below ``path``, which is ours; what cannot be read is a blind spot."""
    try:
        facts = path.lstat()
        if stat.S_ISDIR(facts.st_mode):
            return files_below(path)
        return {str(path): facts} if stat.S_ISREG(facts.st_mode) else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        graph.blind(str(path), error.strerror or str(error), but=key)
        return {}


# -- runs ------------------------------------------------------------------------------------------


def read_runs(graph: Graph, store: Store) -> dict[str, RunFact]:
    """Every run's directory by id."""
    try:
        found = {name: _run(store.runs / name) for name in names(store.runs)}
    except OSError as error:
        graph.blind(str(store.runs), error.strerror or str(error))
        return {}
    graph.searched.append(f"the journals of {len(found)} runs in {store.runs}")
    return found


def _run(folder: Path) -> RunFact:
    name = folder.name
    try:
        live = is_locked(folder / RUN_LOCK)
        state = load_state(folder)
        plan = _plan(folder)
        made = folder.stat().st_mtime if not state.started else moment(state.started)
        updated = moment(state.finished or state.updated) if state.updated else folder.stat().st_mtime
    except LabError as error:
        return RunFact(name, live=is_locked(folder / RUN_LOCK), problem=error.message)
    except (OSError, ValueError) as error:
        return RunFact(name, problem=str(error))
    owned = {ident.rstrip("/").rpartition("/")[2] for _, ident in state.owns}
    vm = plan.get("vm")
    image = plan.get("image")
    uuid = str(vm.get("uuid")) if isinstance(vm, dict) else ""
    return RunFact(
        name,
        live,
        state.over,
        made,
        updated,
        seconds(state.until) or 0.0 if state.state == "paused" else 0.0,
        str(image.get("file", "")) if isinstance(image, dict) and not state.over else "",
        frozenset() if state.over else frozenset({uuid, *owned} - {""}),
    )


def _plan(folder: Path) -> dict[str, object]:
    try:
        plan = json.loads((folder / "plan.json").read_bytes())
    except FileNotFoundError:
        return {}
    return plan if isinstance(plan, dict) else {}


def add_runs(graph: Graph, store: Store, runs: Mapping[str, RunFact], claims: Mapping[str, Claim]) -> None:
    """The directories of the runs; what a run that is not over works on or will, it keeps."""
    for run in runs.values():
        folder = store.run(run.id)
        key = ("run", run.id)
        claim = claims.get(run.id, Claim())
        root = f"it cannot be read: {run.problem}" if run.problem else "" if claim.rule else _alive(run)
        files = files_of(graph, folder, key)
        graph.add(
            Thing(
                key,
                run.id,
                claim.rule,
                claim.why,
                root,
                ours=True,
                since=claim.since,
                paths=(str(folder),),
                stamp=stamp_of(folder, folder / "journal.jsonl"),
                yields=not run.live and not run.problem,
            ),
            files,
            folders=[folder],
            plain=[Path(path).name for path in files],
        )
        if run.image:
            graph.need(key, run.image, "the plan of a run that is not over")
        if run.live:
            for uuid in run.uuids:
                graph.edge(key, ("vm", uuid), "it is at work on it")
        elif (folder / RUN_SOCKET).is_socket():
            graph.add(
                Thing(
                    ("socket", run.id),
                    run.id,
                    "stale",
                    "the run's worker is gone, so nobody answers there",
                    ours=True,
                    action=Action.FREE,
                    since=run.updated,
                    paths=(str(folder / RUN_SOCKET),),
                    stamp=stamp_of(folder / RUN_SOCKET),
                )
            )


def _alive(run: RunFact) -> str:
    if run.live:
        return "a worker is at work on it"
    return "it is among the newest, or young" if run.over else "it was interrupted and may be resumed"


# -- images in the making, templates ---------------------------------------------------------------


def add_staging(graph: Graph, store: Store) -> None:
    root = store.images / STAGING
    try:
        found = [root / name for name in names(root) if not name.startswith(".")]
    except OSError as error:
        graph.blind(str(root), error.strerror or str(error))
        return
    for folder in found:
        key = ("staging", folder.name)
        mounts = mounts_below(folder)
        files = {} if mounts else files_of(graph, folder, key)
        alive = is_owned(folder)
        graph.add(
            Thing(
                key,
                folder.name,
                "" if alive else "half-built",
                "" if alive else "the process that made it is dead, as its lock proves",
                "a process is at work on it" if alive else "",
                ours=True,
                since=folder.stat().st_mtime,
                paths=(str(folder),),
                stamp=stamp_of(folder),
                details=tuple(f"mounted in it, and unmounted first: {point}" for point in mounts),
                mounts=tuple(reversed(mounts)),
            ),
            files,
            folders=[folder],
        )


def add_templates(graph: Graph, store: Store, policy: Policy) -> None:
    """Every template names its image; only the budget calls one garbage."""
    root = store.templates
    try:
        found = names(root)
    except OSError as error:
        graph.blind(str(root), error.strerror or str(error))
        return
    usage: dict[str, tuple[float, int]] = {}
    told: dict[str, tuple[dict[str, object], dict[str, os.stat_result], str]] = {}
    for name in found:
        folder = root / name
        if not folder.is_dir():
            continue
        files = files_of(graph, folder, ("template", name))
        if name.startswith("."):
            made = Thing(("template", name), name, root="it is being made, or its run will take it away")
            graph.add(made, files, folders=[folder])
            continue
        note, problem = _note(folder / "template.json")
        told[name] = note, files, problem
        if not problem:
            usage[name] = _when(note, folder), comes_back(files)
    claims = of_templates(usage, policy)
    for name, (note, files, problem) in told.items():
        folder, key = root / name, ("template", name)
        claim = claims.get(name, Claim())
        root_why = problem or ("" if claim.rule else "templates are within their budget")
        graph.add(
            Thing(
                key,
                name,
                claim.rule,
                claim.why,
                root_why,
                ours=True,
                since=claim.since,
                paths=(str(folder),),
                stamp=stamp_of(folder, folder / "template.json"),
                yields=not problem,
            ),
            files,
            folders=[folder],
            plain=("template.json",),
        )
        if isinstance(image := note.get("image"), str):
            graph.edge(key, ("image", image), "template.json names it")
    if told:
        graph.searched.append(f"the templates in {root}")


def _note(path: Path) -> tuple[dict[str, object], str]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        return {}, f"its template.json cannot be read: {error}"
    return (data, "") if isinstance(data, dict) else ({}, "its template.json makes no sense")


def _when(note: Mapping[str, object], folder: Path) -> float:
    """When it was last started from, else made."""
    created = note.get("created")
    made = seconds(created) if isinstance(created, str) else None
    return last_used(folder) or made or folder.stat().st_mtime


# -- small things ----------------------------------------------------------------------------------


def add_ports(graph: Graph, store: Store, needed: Collection[str]) -> None:
    """Reserved ports by VM; ``needed``: the VMs that there are, or will be."""
    try:
        held = ports.all_held(store)
    except LabError as error:
        graph.blind(str(store.ports), error.message, frozenset())
        return
    for uuid, numbers in held.items():
        free = uuid not in needed
        shown = ", ".join(map(str, numbers))
        told = f"{shown} {'are' if len(numbers) > 1 else 'is'}"
        graph.add(
            Thing(
                ("ports", uuid),
                f"{shown} of VM {uuid[:8]}",
                "stale" if free else "",
                f"no VM, run or thing in the trash has the uuid that {told} reserved for" if free else "",
                "" if free else "its VM is there",
                ours=True,
                action=Action.FREE,
                stamp=shown,
                details=(f"ports {shown}",),
            )
        )


def list_adopted(store: Store) -> tuple[list[Adopted], dict[str, str]]:
    """What has been adopted without a domain, and why a register cannot be read. Raises OSError."""
    found, problems = [], {}
    for name in names(store.root / ADOPTED):
        if name.endswith(".json") and not name.startswith("."):
            try:
                found.append(Adopted.model_validate_json((store.root / ADOPTED / name).read_bytes()))
            except (OSError, ValidationError) as error:
                problems[name] = str(error).splitlines()[0]
    return found, problems


def add_adopted(graph: Graph, store: Store, now: float) -> None:
    try:
        found, problems = list_adopted(store)
    except OSError as error:
        graph.blind(str(store.root / ADOPTED), error.strerror or str(error), frozenset())
        return
    for name, why in problems.items():
        graph.blind(f"the register {name} of adopted files", why, frozenset())
    for one in found:
        register = store.root / ADOPTED / f"{one.id}.json"
        files = {path: facts for file in one.files for path, facts in plain_files(Path(file)).items()}
        same = all(
            path in files and (files[path].st_dev, files[path].st_ino) == tuple(ident)
            for path, ident in zip(one.files, one.inodes, strict=True)
        )
        until = seconds(one.expires)
        past = until is not None and until <= now
        root = "" if past else "a person has taken it over"
        if not same:
            root = "the files are not those any more that were taken over"
        graph.add(
            Thing(
                ("adopted", one.id),
                one.name,
                "adopted" if past else "",
                f"the time that {one.owner} gave it ended {ago(until, now)}" if past else "",
                root,
                ours=True,
                since=until,
                paths=(*one.files, str(register)),
                stamp=stamp_of(register, *map(Path, one.files)),
                yields=same,
            ),
            files,
        )
    if found:
        graph.searched.append(f"the register of adopted files in {store.root / ADOPTED}")
