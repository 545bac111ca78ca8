"""The worker is killed at every sync point; what it leaves is known, and both ways on from there work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import vmlab_tui.runs.client
import vmlab_tui.runs.worker  # noqa: F401 - declares the sync points of a run
from tests.runs.command import Said, at_rest, show, vmlab
from vmlab_tui.base import faults
from vmlab_tui.base.paths import Store
from vmlab_tui.base.proc import arun

AT_ONCE = 3
PROFILE = """\
schema: 1
name: killed
image: tiny
vm: {cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}
ports: {web: 8080}
env: {CASE: none}  # each case's own: else one starts from what the other left, which is just being removed
steps:
  - copy: {from: ./files, to: /root/files}
  - name: work
    run: |
      echo begun >> /root/begun
      echo working; sleep 1; echo done
checks:
  - {command: "wc -l < /root/begun", expect: "1"}
artifacts: [/root/begun]
on_pass: destroy
on_fail: destroy
"""
ONLY_KEPT = "lease.extended"
"""A point that a run passes only when its VM is kept."""
JOURNALED = (
    "run_created worker_started step_started stage waited intent done removed step_finished check_result "
    "checkpoint"
)
"""Kinds of events whose writing is a sync point that this run passes; with ``ended`` it is over."""
ONLY_WARM = ("inherited.dropped", "identity.set")
"""Points of a run that starts from a template."""
ALSO_WARM = (
    "lease.written",
    "overlay.made",
    "domain.defined",
    "domain.started",
    "ssh.ready",
    "snapshot.made",
)
ELSEWHERE = ("journal.", "image.", "fork.", "revert.", "back.", "clean.", "undo.")
"""Points that a run which passes by itself has nothing to do with; the tests of those rooms die at them."""
POINTS = sorted(
    [point for point in faults.POINTS if not point.startswith(ELSEWHERE)]
    + [f"journal.{kind}" for kind in JOURNALED.split()]
)


@dataclass(frozen=True)
class Case:
    """At the first of which points the worker of a run dies, and how that run differs from the others."""

    name: str
    points: tuple[str, ...]
    warm: bool = True
    words: tuple[str, ...] = ()

    def told(self, folder: Path) -> Path:
        """The file that gets the name of each point at which it died."""
        return folder / f"{self.name}.told"


def cases() -> list[Case]:
    """Every point in a warm run, which has no boot to wait for; those of making a VM in a cold one, too."""
    found = []
    for number, point in enumerate(POINTS):
        if point.startswith("template."):
            # of such a VM there is none yet
            words = ("--cold", "--set", f"vm.memory={193 + number}MiB")
            found.append(Case(slug(point), (point,), False, words))
        else:
            keep = ("--on-pass", "keep") if point == ONLY_KEPT else ()
            found.append(Case(slug(point) + "-warm", (point,), words=keep))
        if point in ALSO_WARM:
            found.append(Case(slug(point), (point,), False, ("--cold",)))
    return found


@dataclass(frozen=True)
class World:
    """What exists, as virsh, find and the registry see it."""

    domains: frozenset[str]
    files: frozenset[str]
    ports: frozenset[str]


async def begun(store: Store, folder: Path, case: Case) -> tuple[Said, str]:
    """Start a run whose worker dies at the first of the points; what was said, and the run."""
    own = ("--set", f"name={case.name}", "--set", f"env.CASE={case.name}")
    words = ("--detach", "--json", *own, *case.words)
    deaths, told = deadly(case.points), str(case.told(folder))
    said = await vmlab(
        store, "run", folder / "profile.yaml", *words, VMLAB_FAULT=deaths, VMLAB_FAULT_TOLD=told
    )
    (run,) = [one.name for one in store.runs.iterdir() if one.name.startswith(case.name + "-2")]
    return said, run


def deadly(points: Iterable[str]) -> str:
    return ",".join(f"{point}:kill" for point in points)


def slug(point: str) -> str:
    return point.replace(".", "-")


async def own_world(store: Store, shown: dict[str, Any]) -> World:
    """What exists of one run only: by its VM's uuid."""
    uuid = shown["vm_uuid"]
    uuids = (await arun(["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--uuid"])).text.split()
    files = (await arun(["find", store.vms, "-mindepth", "1", "-path", f"*{uuid}*"])).text.split()
    registry = json.loads(store.ports.read_bytes())["ports"] if store.ports.exists() else {}
    ports = {f"127.0.0.1:{port}" for port, owner in registry.items() if owner.startswith(uuid)}
    return World(frozenset(uuids) & {uuid}, frozenset(files), frozenset(ports))


def listed(shown: dict[str, Any]) -> World:
    """What the second process says that the run owns."""
    by: dict[str, set[str]] = {}
    for thing in shown["owns"]:
        by.setdefault(thing["what"], set()).add(thing["id"])
    files = by.get("file", set()) | by.get("vm-dir", set())
    return World(frozenset(by.get("domain", ())), frozenset(files), frozenset(by.get("port", ())))


EMPTY = World(frozenset(), frozenset(), frozenset())


async def interrupted(store: Store, shown: dict[str, Any]) -> str:
    """What is wrong about a run whose worker was killed; empty if nothing."""
    if shown["status"] != "interrupted":
        return f"the run is {shown['status']} ({shown['detail']}), not killed"
    there = await own_world(store, shown)
    return f"listed {listed(shown)} but there is {there}" if listed(shown) != there else ""


async def gone(store: Store, after: dict[str, Any]) -> str:
    """What is wrong about a run that is over; empty if nothing."""
    left = await own_world(store, after)
    if (store.templates / f".new-{after['run']}").exists():
        return "there is an unfinished template"
    return f"there is still {left}" if left != EMPTY or after["owns"] else ""


async def ended(store: Store, folder: Path, case: Case) -> str:
    """Kill it, compare, end it; the complaint, or nothing when all was right."""
    _, run = await begun(store, folder, case)
    shown = await at_rest(store, run, 180)
    if bool(shown["start"]) is not case.warm:
        return f"{case.name}: the run started from {shown['start']}: {shown['start_reason']}"
    if problem := await interrupted(store, shown):
        return f"{case.name}: {problem}"
    said = await vmlab(store, "runs", "end", run, "--yes", "--json")
    if said.status:
        return f"{case.name}: runs end ended with {said.status}: {(said.out + said.err)[-1500:]}"
    after = await show(store, run)
    if after["status"] != "ended":
        return f"{case.name}: afterwards the run is {after['status']}: {after['detail']}"
    problem = await gone(store, after)
    return f"{case.name}: afterwards {problem}" if problem else ""


async def resumed(store: Store, folder: Path, case: Case) -> set[str]:
    """Kill it at the first of the points, resume it, kill it at the next, until it passes; where it died."""
    told = case.told(folder)
    told.touch()
    left = set(case.points)
    deaths: list[str] = []
    said, run = await begun(store, folder, case)
    shown = await at_rest(store, run, 180)
    while len(names := told.read_text().split()) > len(deaths):
        deaths = names
        left.discard(deaths[-1])
        problem = await interrupted(store, shown)
        assert not problem, f"killed at {', then '.join(deaths)}: {problem}\n{(said.out + said.err)[-1500:]}"
        said = await vmlab(store, "runs", "resume", run, VMLAB_FAULT=deadly(left), VMLAB_FAULT_TOLD=str(told))
        shown = await at_rest(store, run, 180)
    assert (shown["status"], said.status) == ("passed", 0), f"killed at {deaths}: {shown}\n{said}"
    assert bool(shown["start"]) is case.warm, shown["start_reason"]
    if shown["owns"]:
        assert (await vmlab(store, "runs", "end", run, "--yes")).status == 0
    assert not (problem := await gone(store, await show(store, run))), problem
    return set(deaths)


@pytest.fixture
async def killed(lab_store: Store, tiny_image: str, tmp_path: Path) -> Path:
    """The folder of the profile; a first run of it has left its template."""
    assert len(POINTS) > 20
    (tmp_path / "files").mkdir()
    (tmp_path / "files/one").write_text("1\n")
    (tmp_path / "profile.yaml").write_text(PROFILE.replace("image: tiny", f"image: {tiny_image}"))
    first = await vmlab(lab_store, "run", tmp_path / "profile.yaml", "--set", "name=template")
    assert first.status == 0, first.err
    return tmp_path


@pytest.mark.guest
async def test_killed_at_every_sync_point_and_ended(lab_store: Store, killed: Path) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def guarded(case: Case) -> str:
        async with gate:
            return await ended(lab_store, killed, case)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(guarded(case)) for case in cases()]
    complaints = [text for task in asked if (text := task.result())]
    assert not complaints, "\n".join(complaints)


@pytest.mark.guest
async def test_killed_at_every_sync_point_one_after_the_other_and_resumed(
    lab_store: Store, killed: Path
) -> None:
    # the process that makes a run dies at one of two points, and only once
    cold = set(POINTS) - {*ONLY_WARM, ONLY_KEPT, "journal.run_created"}
    warm = {*ONLY_WARM, *ALSO_WARM, ONLY_KEPT, "journal.run_created"}
    unlike = ("--cold", "--set", "vm.memory=193MiB")  # of such a VM there is no template yet
    async with asyncio.TaskGroup() as group:
        one = group.create_task(resumed(lab_store, killed, Case("cold", tuple(cold), False, unlike)))
        two = group.create_task(
            resumed(lab_store, killed, Case("warm", tuple(warm), words=("--on-pass", "keep")))
        )
    assert (one.result(), two.result()) == (cold, warm)
