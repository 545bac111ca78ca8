"""Watches all runs, or one closely. Plans are read once; of journals only what was added."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import is_locked
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.lane import Lane
from vmlab_tui.journal.cache import follow_state
from vmlab_tui.journal.events import Event
from vmlab_tui.journal.log import Follower
from vmlab_tui.journal.state import RunState, fold
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.folder import JOURNAL, LOCK
from vmlab_tui.runs.plan import FILE as PLAN
from vmlab_tui.runs.plan import Plan, read_plan

T = TypeVar("T")
POLL = 0.25
"""Seconds between two looks at the live runs."""
SCAN = 1.0
"""Seconds between two looks at the directory, and at the runs that are not live."""
CLOSE = 0.08
"""Seconds between two looks at a run that is followed."""
_FIRST = 60
"""Runs told of before the rest are read: more than a screen shows."""
_YOUNG = 2.0
"""Seconds within which a directory without a plan is a run being made."""
_DEADLINE = 60.0


@dataclass(frozen=True)
class RunsView:
    """All runs at one moment, newest first. ``problems``: runs that cannot be read (any more), and why.

    ``changed``: ids of the runs that are new, different or gone since the view before. ``complete``: False
    while older runs are still being read for the first time.
    """

    runs: tuple[RunView, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    changed: frozenset[str] = field(default=frozenset(), compare=False)
    complete: bool = False


class _Run:
    """One run that is being watched; blocks."""

    def __init__(self, folder: Path, *, whole: bool = False) -> None:
        self.folder = folder
        self.whole = whole
        self.events: list[Event] = []
        """With ``whole``: every event, since the last time they were taken."""
        self.view: RunView | None = None
        self.problem = ""
        self._plan: Plan | None = None
        self._follower: Follower | None = None
        self._state = RunState()
        self._failed: tuple[int, ...] | None = None

    def look(self) -> bool:
        """Read what is new; whether the view or the problem is another one."""
        before = self.view, self.problem
        if self._failed is not None and self._sign() == self._failed:
            return False
        try:
            self.folder.stat()
            # asked before reading, so that a worker's last words are not missed
            live = is_locked(self.folder / LOCK)
            self._read()
            assert self._plan is not None
            self.problem, self._failed = "", None
            old = self.view
            if old is None or old.live != live or old.state is not self._state:
                self.view = RunView(self.folder.name, self.folder, self._plan, self._state, live)
        except (LabError, OSError) as error:
            text = error.message if isinstance(error, LabError) else f"{self.folder}: {error.strerror}"
            self._follower = None  # a journal that was put right is read from its beginning
            self._failed = self._sign()
            if self._plan is not None or not self._young():
                self.problem = clean_line(text, 300)
            else:
                self._failed = None
        return (self.view, self.problem) != before

    def _read(self) -> None:
        if self._plan is None:
            self._plan = read_plan(self.folder)
        if self._follower is None:
            if self.whole:
                self._follower, self._state = Follower(self.folder / JOURNAL), RunState()
                self.events.clear()
            else:
                self._state, self._follower = follow_state(self.folder)
                return
        new = self._follower.new()
        if new:
            self._state = fold(new, self._state)
            if self.whole:
                self.events += new

    def _sign(self) -> tuple[int, ...]:
        found: list[int] = []
        for path in (self.folder, self.folder / PLAN, self.folder / JOURNAL):
            with suppress(OSError):
                facts = path.stat()
                found += [facts.st_ino, facts.st_size, facts.st_mtime_ns]
        return tuple(found)

    def _young(self) -> bool:
        with suppress(OSError):
            return time.time() - self.folder.stat().st_ctime < _YOUNG
        return True


class _Watcher:
    """The part that both watchers share: a task, a thread of its own, the end of both."""

    def __init__(self, name: str) -> None:
        self._lane = Lane(name, threads=1)
        self._fault = ""
        """Why the last work in the thread was not done."""
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Begin; does nothing the second time."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End; no call of ``on_change`` comes after it."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._lane.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def refresh_soon(self) -> None:
        """Somebody has just started or changed a run: look now."""
        self._wake.set()

    async def _rest(self, seconds: float) -> bool:
        """Wait; True if woken before the time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        woken = self._wake.is_set()
        self._wake.clear()
        return woken

    async def _watch(self) -> None:
        raise NotImplementedError

    async def _off(self, work: Callable[[], T]) -> T | None:
        """``work()`` in the thread; None if the disk is slow or refuses: the next look may go better."""
        try:
            done = await self._lane.call(work, timeout=_DEADLINE, what="read runs")
        except (LabError, OSError) as error:
            self._fault = clean_line(error.message if isinstance(error, LabError) else str(error), 300)
            return None
        self._fault = ""
        return done


def _tell(on_change: Callable[[T], None], value: T) -> None:
    try:
        on_change(value)
    except Exception as error:  # a screen's mistake must not end the watching
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a screen failed to take in a run", "exception": error}
        )


class RunsWatch(_Watcher):
    """Calls ``on_change(view)`` on the present asyncio loop whenever a run is new, different or gone."""

    def __init__(self, lab: Lab, on_change: Callable[[RunsView], None]) -> None:
        super().__init__("runs")
        self.lab = lab
        self.view = RunsView()
        self._on_change = on_change
        self._runs: dict[str, _Run] = {}

    async def _watch(self) -> None:
        scanned = 0.0
        while True:
            begin = time.monotonic()
            if begin - scanned >= SCAN:
                await self._scan()
                scanned = time.monotonic()
            elif changed := await self._off(self._look_live):
                self._publish(changed)
            took = time.monotonic() - begin
            if await self._rest(max(POLL, 4 * took)):
                scanned = 0.0

    async def _scan(self) -> None:
        names = await self._off(self._names)
        if names is None:
            self._publish(frozenset(), complete=True)
            return
        gone = self._runs.keys() - set(names)
        for name in gone:
            del self._runs[name]
        changed = frozenset(gone)
        new = [name for name in names if name not in self._runs]
        changed |= await self._off(self._look_all) or frozenset()
        # a few first: a person sees the newest runs while the others are read
        batches = [new[:_FIRST], *(new[at : at + 4 * _FIRST] for at in range(_FIRST, len(new), 4 * _FIRST))]
        for at, batch in enumerate(batches):
            more = await self._off(lambda batch=batch: self._add(batch))  # type: ignore[misc]
            self._publish(changed | (more or frozenset()), complete=at + 1 == len(batches))
            changed = frozenset()

    # -- in the thread ---------------------------------------------------------------------------

    def _names(self) -> list[str]:
        """Newest first, as far as directories tell."""
        try:
            folders = list(self.lab.store.runs.iterdir())
        except FileNotFoundError:
            return []
        found = []
        for folder in folders:
            with suppress(OSError):  # gone meanwhile
                found.append((folder.stat().st_ctime, folder.name))
        return [name for _, name in sorted(found, reverse=True)]

    def _add(self, names: list[str]) -> frozenset[str]:
        for name in names:
            self._runs[name] = _Run(self.lab.store.runs / name)
        return frozenset(name for name in names if self._runs[name].look())

    def _look_all(self) -> frozenset[str]:
        return frozenset(name for name, run in tuple(self._runs.items()) if run.look())

    def _look_live(self) -> frozenset[str]:
        live = [(name, run) for name, run in self._runs.items() if not run.view or run.view.live]
        return frozenset(name for name, run in live if run.look())

    # -- back on the loop ------------------------------------------------------------------------

    def _publish(self, changed: frozenset[str], *, complete: bool | None = None) -> None:
        complete = self.view.complete if complete is None else complete
        views = [run.view for run in self._runs.values() if run.view]
        views.sort(key=lambda view: (view.plan.created, view.run_id), reverse=True)
        problems = sorted((name, run.problem) for name, run in self._runs.items() if run.problem)
        if self._fault:
            problems.append((self.lab.store.runs.name, self._fault))
        now = RunsView(tuple(views), tuple(problems), changed, complete)
        if now == self.view:
            return
        self.view = now
        _tell(self._on_change, self.view)


@dataclass(frozen=True)
class FollowView:
    """One run at one moment and the events that came since the view before.

    ``again``: the events begin anew, from the first. ``problem``: why it cannot be read (any more).
    """

    run: RunView | None
    events: tuple[Event, ...]
    problem: str = ""
    again: bool = False


class RunFollow(_Watcher):
    """Calls ``on_change(view)`` within about 0.1 s of each event of one run, beginning with all so far.

    It goes on after the run's end: a run that was kept may be ended, an interrupted one resumed.
    """

    def __init__(self, lab: Lab, run_id: str, on_change: Callable[[FollowView], None]) -> None:
        super().__init__("run")
        self.run_id = run_id
        self.view = FollowView(None, ())
        self._on_change = on_change
        self._run = _Run(lab.store.run(run_id), whole=True)

    async def _watch(self) -> None:
        while True:
            if await self._off(self._run.look):
                events = tuple(self._run.events)
                self._run.events.clear()
                again = bool(events) and events[0].seq == 1
                self.view = FollowView(self._run.view, events, self._run.problem, again)
                _tell(self._on_change, self.view)
            over = self.view.run is not None and not self.view.run.live
            await self._rest(4 * CLOSE if over else CLOSE)


def follow_run(lab: Lab, run_id: str, on_change: Callable[[FollowView], None]) -> RunFollow:
    """Follow one run closely; ``async with`` it, or ``start()`` and ``close()``. Raises UsageError."""
    return RunFollow(lab, run_id, on_change)
