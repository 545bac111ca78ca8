"""The worker is killed at every sync point; what it leaves is known, and both ways on from there work."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import vmlab_tui.runs.client
import vmlab_tui.runs.worker  # noqa: F401 - declares the sync points of a run
from tests.runs.command import vmlab
from vmlab_tui.base import faults
from vmlab_tui.base.paths import Store, is_locked
from vmlab_tui.base.proc import arun

AT_ONCE = 3
PROFILE = """\
schema: 1
name: killed
image: tiny
vm: {cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}
ports: {web: 8080}
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
REACHED_ONLY = {
    "lease.extended": "keep",
}
"""Points that a run passes only when its VM is kept."""
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
    """Where the worker of a run dies, and how that run differs from the others."""

    point: str
    words: tuple[str, ...] = ("--cold",)
    warm: bool = False

    @property
    def name(self) -> str:
        return slug(self.point) + "-warm" * self.warm


def cases() -> list[Case]:
    """Every point in a cold run, and those of a warm start in a warm one."""
    found = [Case(point, (), warm=True) for point in (*ONLY_WARM, *ALSO_WARM)]
    for number, point in enumerate(POINTS):
        if point.startswith("template."):
            # of such a VM there is none yet
            found.append(Case(point, ("--cold", "--set", f"vm.memory={193 + number}MiB")))
        elif point not in ONLY_WARM:
            found.append(Case(point))
    return found


@dataclass(frozen=True)
class World:
    """What exists, as virsh, find and the registry see it."""

    domains: frozenset[str]
    files: frozenset[str]
    ports: frozenset[str]


async def killed_run(store: Store, folder: Path, case: Case) -> dict[str, Any]:
    """Start a run whose worker dies at the point; the run as a second process shows it."""
    words = ["run", str(folder / "profile.yaml"), "--detach", "--json", "--set", f"name={case.name}"]
    keep = REACHED_ONLY.get(case.point)
    more = [*case.words, *(["--on-pass", keep] if keep else [])]
    await vmlab(store, *words, *more, VMLAB_FAULT=f"{case.point}:kill")
    (run,) = [one.name for one in store.runs.iterdir() if one.name.startswith(case.name + "-2")]
    async with asyncio.timeout(180):
        while is_locked(store.run(run) / "lock"):
            await asyncio.sleep(0.2)
    return await show(store, run)


async def show(store: Store, run: str) -> dict[str, Any]:
    said = await vmlab(store, "runs", "show", run, "--json")
    assert said.status == 0, said
    return dict(said.data)


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


async def one_point(store: Store, folder: Path, case: Case, then: str) -> str:
    """Kill, compare, go on; the complaint, or nothing when all was right."""
    shown, point = await killed_run(store, folder, case), case.point
    if bool(shown["start"]) is not case.warm:
        return f"{case.name}: the run started from {shown['start']}: {shown['start_reason']}"
    run = shown["run"]
    if shown["status"] != "interrupted":
        return f"{point}: the run is {shown['status']}: the point was not reached, or the worker lived on"
    there = await own_world(store, shown)
    if listed(shown) != there:
        return f"{point}: listed {listed(shown)} but there is {there}"
    if then == "end":
        said = await vmlab(store, "runs", "end", run, "--yes", "--json")
    else:
        said = await vmlab(store, "runs", "resume", run)
    if said.status:
        return f"{point}: runs {then} ended with {said.status}: {(said.out + said.err)[-1500:]}"
    after = await show(store, run)
    if after["status"] != ("ended" if then == "end" else "passed"):
        return f"{point}: after {then} the run is {after['status']}: {after['detail']}"
    if then == "resume" and point in REACHED_ONLY:
        await vmlab(store, "runs", "end", run, "--yes")
        after = await show(store, run)
    left = await own_world(store, shown)
    if (store.templates / f".new-{run}").exists():
        return f"{point}: after {then} there is an unfinished template"
    return f"{point}: after {then} there is still {left}" if left != EMPTY or after["owns"] else ""


@pytest.mark.guest
@pytest.mark.parametrize("then", ["end", "resume"])
async def test_killed_at_every_sync_point(
    lab_store: Store, tiny_image: str, tmp_path: Path, then: str
) -> None:
    assert len(POINTS) > 20
    (tmp_path / "files").mkdir()
    (tmp_path / "files/one").write_text("1\n")
    (tmp_path / "profile.yaml").write_text(PROFILE.replace("image: tiny", f"image: {tiny_image}"))
    gate = asyncio.Semaphore(AT_ONCE)

    first = await vmlab(lab_store, "run", tmp_path / "profile.yaml", "--set", "name=template")
    assert first.status == 0, first.err

    async def guarded(case: Case) -> str:
        async with gate:
            return await one_point(lab_store, tmp_path, case, then)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(guarded(case)) for case in cases()]
    complaints = [text for task in asked if (text := task.result())]
    assert not complaints, "\n".join(complaints)
