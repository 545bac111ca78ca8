"""Watching runs: journals and locks written by hand, as workers write them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runs.samples import plan
from vmlab_tui.base.paths import Store
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.log import Journal
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.plan import write_plan
from vmlab_tui.runs.watch import FollowView, RunsView, RunsWatch, follow_run

ENDED = {
    "state": "passed",
    "exit": 0,
    "disposition": "destroyed",
    "seconds": 1.0,
    "detail": "",
    "until": None,
}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    store = Store(tmp_path)
    store.runs.mkdir()
    return Lab("test:///default", store)


def make(lab: Lab, name: str, created: str = "2026-01-02T13:14:15+00:00") -> Path:
    folder = lab.store.runs / name
    folder.mkdir()
    write_plan(folder, plan(lab.store.root).model_copy(update={"run_id": name, "created": created}))
    write(folder, "run_created", run_id=name, profile="sample", plan_sha="0" * 64)
    return folder


def write(folder: Path, kind: str, **data: object) -> None:
    with Journal.append(folder / "journal.jsonl") as journal:
        journal.write(kind, **data)


@contextmanager
def worker(folder: Path) -> Iterator[None]:
    """Holds the run's lock as a worker does."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        write(folder, "worker_started", pid=1, boot_id="b", start_ticks=1, resumed=False)
        yield
    finally:
        os.close(handle)


def notes(views: list[FollowView]) -> int:
    return len(views[-1].run.state.notes) if views[-1].run else 0


async def until(true: Callable[[], object], seconds: float = 5) -> float:
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - begin


async def test_runs_come_newest_first_change_and_go(lab: Lab) -> None:
    make(lab, "old", "2026-01-01T00:00:00+00:00")
    folder = make(lab, "new", "2026-02-01T00:00:00+00:00")
    seen: list[RunsView] = []
    async with RunsWatch(lab, seen.append) as watch:
        await until(lambda: watch.view.complete)
        assert [(run.run_id, run.status) for run in watch.view.runs] == [
            ("new", "interrupted"),
            ("old", "interrupted"),
        ]
        with worker(folder):
            await until(lambda: watch.view.runs[0].status == "running")
            assert seen[-1].changed == {"new"}
            write(folder, "note", text="hello", level="info")
            assert await until(lambda: watch.view.runs[0].state.notes) < 1
            write(folder, "ended", **ENDED)
            await until(lambda: watch.view.runs[0].status == "passed")
        await until(lambda: not watch.view.runs[0].live)
        shutil.rmtree(lab.store.runs / "old")
        await until(lambda: [run.run_id for run in watch.view.runs] == ["new"])
        assert seen[-1].changed == {"old"}
        make(lab, "third", "2026-03-01T00:00:00+00:00")
        await until(lambda: [run.run_id for run in watch.view.runs] == ["third", "new"])


async def test_nothing_is_told_while_nothing_happens(lab: Lab) -> None:
    with worker(make(lab, "one")):
        seen: list[RunsView] = []
        async with RunsWatch(lab, seen.append) as watch:
            await until(lambda: watch.view.complete)
            told = len(seen)
            await asyncio.sleep(2.5)
            assert len(seen) == told
        write(lab.store.runs / "one", "note", text="x", level="info")
        await asyncio.sleep(0.5)
        assert len(seen) == told  # nothing after close()


async def test_an_ended_run_that_is_ended_otherwise_is_read_on(lab: Lab) -> None:
    folder = make(lab, "kept")
    write(folder, "ended", **{**ENDED, "disposition": "kept"})
    load_state(folder, write=True)
    async with RunsWatch(lab, lambda _: None) as watch:
        await until(lambda: watch.view.complete)
        write(folder, "ended", **ENDED)
        await until(lambda: (end := watch.view.runs[0].state.ended) and end.disposition == "destroyed")


async def test_what_cannot_be_read_is_a_problem_with_a_reason_until_it_can(lab: Lab) -> None:
    damaged = make(lab, "damaged")
    (damaged / "plan.json").write_text("{")
    good = make(lab, "good")
    async with RunsWatch(lab, lambda _: None) as watch:
        await until(lambda: watch.view.problems)
        assert [name for name, _ in watch.view.problems] == ["damaged"]
        assert "plan.json" in watch.view.problems[0][1]
        assert [run.run_id for run in watch.view.runs] == ["good"]
        with (good / "journal.jsonl").open("ab") as file:
            file.write(b"rubbish\n")
        await until(lambda: len(watch.view.problems) == 2)
        assert [run.run_id for run in watch.view.runs] == ["good"]  # as it was last known
        shutil.copy(good / "plan.json", damaged / "plan.json")
        await until(lambda: [name for name, _ in watch.view.problems] == ["good"])


async def test_a_followed_run_tells_each_event_at_once_to_everybody(lab: Lab) -> None:
    folder = make(lab, "one")
    views: tuple[list[FollowView], list[FollowView]] = ([], [])
    with worker(folder):
        async with follow_run(lab, "one", views[0].append), follow_run(lab, "one", views[1].append):
            await until(lambda: views[0] and views[1])
            assert [event.seq for event in views[0][0].events] == [1, 2]
            assert views[0][0].again
            slow = []
            for number in range(10):
                write(folder, "note", text=f"n{number}", level="info")
                slow.append(await until(lambda at=number: all(notes(one) > at for one in views)))  # type: ignore[misc]
            assert sorted(slow)[5] < 0.15
            events = [event.seq for view in views[0] for event in view.events]
            assert events == list(range(1, 13))
            assert views[0][-1].run == views[1][-1].run


async def test_a_followed_run_goes_on_after_its_worker_has_died(lab: Lab) -> None:
    folder = make(lab, "one")
    seen: list[FollowView] = []
    with worker(folder):
        follow = follow_run(lab, "one", seen.append)
        follow.start()
        await until(lambda: seen and seen[-1].run and seen[-1].run.live)
    await until(lambda: seen[-1].run and seen[-1].run.status == "interrupted")
    with worker(folder):
        await until(lambda: seen[-1].run and seen[-1].run.state.workers == 2)
    shutil.rmtree(folder)
    await until(lambda: seen[-1].problem)
    await follow.close()


async def test_a_thousand_runs_cost_little(lab: Lab) -> None:
    first = make(lab, "r0000")
    write(first, "ended", **ENDED)
    load_state(first, write=True)
    for number in range(1, 1000):
        shutil.copytree(first, lab.store.runs / f"r{number:04}")
    seen: list[RunsView] = []
    async with RunsWatch(lab, seen.append) as watch:
        await until(lambda: seen, 2)
        assert len(seen[0].runs) == 60  # a screenful before the rest
        await until(lambda: watch.view.complete, 15)
        assert len(watch.view.runs) == 1000
        used = time.process_time()
        await asyncio.sleep(3)
        assert (time.process_time() - used) / 3 < 0.2
