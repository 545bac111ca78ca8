"""The boot filmstrip: pictures of a VM's screen while a run waits for its guest, changed ones only.

Each is a PNG in ``screens/`` of the run's folder, named by when it was taken, so that nothing else has to be
kept in step with them. One picture costs about 10 ms of QEMU and 5 ms of the worker for a text screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.picture import Picture, differs, png, shrink
from vmlab_tui.hosts.screen import NoScreen
from vmlab_tui.journal.events import moment
from vmlab_tui.journal.state import RunState
from vmlab_tui.runs.plan import Plan

FOLDER = "screens"
FRAMES = 40
"""The most pictures that a run keeps."""
BYTES = 4 << 20
"""The most that they take together."""
SIZE = (1024, 768)
"""Larger ones are kept at this size: letters of a text screen (720x400) stay as they are."""

_EVERY = 1.0
_SHARE = 10
"""Where a picture takes long (a host far off, or a busy one): the wait, as so many times that."""
_REST = 10.0
_CALM = 15
"""Pictures in a row like the one before, after which it is looked half as often."""
_LAST = 3.0
"""Seconds that the end of a wait that failed may be held up by its last picture."""
_NAME = re.compile(r"\d{8}-\d{6}-\d{3}\.png")
_STAMP = "%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class Frame:
    """A picture that is kept; ``taken`` in UTC, ``size`` in bytes."""

    path: Path
    taken: datetime
    size: int


def frames(folder: Path) -> tuple[Frame, ...]:
    """The pictures in a run's folder, oldest first; none where there are none. Blocks on files."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted((folder / FOLDER).iterdir()):
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError, ValueError):
                    when = datetime.strptime(path.stem[:15], _STAMP).replace(tzinfo=UTC)
                    when = when.replace(microsecond=1000 * int(path.stem[16:]))
                    found.append(Frame(path, when, path.stat().st_size))
    return tuple(found)


def after_boot(plan: Plan, state: RunState, frame: Frame) -> float | None:
    """Seconds from the beginning of the run's boot to a picture; None where that is not known."""
    known = state.steps.get(plan.phase("boot").number)
    return round(frame.taken.timestamp() - moment(known.started), 3) if known and known.started else None


class Film:
    """Takes and keeps pictures from :meth:`start` to :meth:`stop`. Never raises: a run does not fail for it.

    ``take`` gives the screen now; NoScreen ends it, any other LabError is tried again later.
    """

    def __init__(self, folder: Path, take: Callable[[], Awaitable[Picture]]) -> None:
        self._folder = folder
        self._take = take
        self._shown: Picture | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self._one = threading.Lock()

    def start(self) -> None:
        """Begin, or go on; does nothing where it is at it already."""
        if self._task is None and not self._over:
            self._task = asyncio.create_task(self._follow())

    async def stop(self, *, last: bool = False) -> None:
        """Stop; with ``last`` not without a look at how it stands now."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        if last and not self._over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look(), _LAST)

    async def _follow(self) -> None:
        same = 0
        while not self._over:
            began = time.monotonic()
            same = 0 if await self._look() else same + 1
            wait = max(_EVERY * (1 + (same > _CALM)), _SHARE * (time.monotonic() - began))
            await asyncio.sleep(min(wait, _REST))

    async def _look(self) -> bool:
        """One picture; whether it was another one."""
        try:
            now = await self._take()
            return await asyncio.to_thread(self._keep, now)
        except NoScreen:
            self._over = True
        except LabError:
            pass  # not started yet, off by now, or libvirt is busy with it
        except Exception:
            self._over = True  # a full disk, most likely; the worker's log has it
            traceback.print_exc()
        return False

    def _keep(self, now: Picture) -> bool:
        with self._one:  # a look that was cancelled ends in its thread
            return self._kept(shrink(now, *SIZE))

    def _kept(self, now: Picture) -> bool:
        if self._shown and not differs(self._shown, now):
            return False
        self._shown = now
        data, when = png(now), datetime.now(UTC)
        if len(data) > BYTES // 4:
            return True  # one alone must not take the room of all the others
        folder = self._folder / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{when.strftime(_STAMP)}-{when.microsecond // 1000:03}.png"
        new = folder / ".new"
        try:
            new.touch(mode=0o600)
            new.write_bytes(data)
            new.rename(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        self._thin()
        return True

    def _thin(self) -> None:
        """Take away those that tell least: the ones with the nearest neighbours, never the first or last."""
        kept = list(frames(self._folder))
        while len(kept) > FRAMES or sum(one.size for one in kept) > BYTES:
            gaps = [(kept[at + 1].taken - kept[at - 1].taken, at) for at in range(1, len(kept) - 1)]
            at = min(gaps)[1] if gaps else 0
            kept.pop(at).path.unlink(missing_ok=True)
