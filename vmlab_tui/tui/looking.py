"""Looks at a VM's screen, or at the pictures of its boot, on the backend's loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.picture import Picture, decode
from vmlab_tui.base.text import clean_line
from vmlab_tui.runs.film import Frame, after_boot, frames
from vmlab_tui.verbs.screenshot import Subject, find

if TYPE_CHECKING:
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.verbs.verb import Context

Room = tuple[int, int]
EVERY = 0.7
"""Seconds between two pictures."""
_AGAIN = 2.0
"""Seconds after which is tried again what has failed."""
_MOST = 1 << 20


@dataclass(frozen=True)
class Seen:
    """What there is to show. ``at``: the number of a picture of the boot from 1, 0 for the screen as it is.

    ``picture``: at its full size; ``drawn``: what was made of it. ``taken``: by time.monotonic, or for
    a picture of the boot ``told`` says when. ``problem`` and ``hint``: why there is no newer one.
    """

    label: str = ""
    picture: Picture | None = None
    drawn: Any = None
    taken: float = 0.0
    at: int = 0
    frames: int = 0
    told: str = ""
    problem: str = ""
    hint: str = ""


class Looker:
    """``tell`` is called with each `Seen`; ``draw`` makes in a thread of a picture what is shown in a room.

    ``room``, ``asleep`` and ``step`` may be set and called from any thread.
    """

    def __init__(
        self, ctx: Context, ref: str, tell: Callable[[Seen], None], draw: Callable[[Picture, Room], object]
    ) -> None:
        self.room: Room = (80, 22)
        """Columns and rows that the picture may take."""
        self.asleep = False
        """Whether nobody can see it."""
        self._ctx, self._ref, self._tell, self._draw = ctx, ref, tell, draw
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subject: Subject | None = None
        self._frames: tuple[Frame, ...] = ()
        self._frame: Path | None = None
        self._steps: list[int] = []
        self._seen = Seen()
        self._sign: tuple[Path, Room] | None = None

    def step(self, by: int) -> None:
        """Go so many pictures of the boot back (below 0) or on; beyond the last is the screen as it is."""
        self._steps.append(by)
        self.hurry()

    def hurry(self) -> None:
        """Look now: what is asked for, or the room, has changed."""
        if self._loop and self._wake and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Until cancelled."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        while True:
            try:
                async with self._ctx.host() as host:
                    await self._with(host)
            except LabError as error:
                await self._problem(error)
                await self._rest(_AGAIN)

    async def _with(self, host: Host) -> None:
        while True:
            while self.asleep:
                await self._rest(_AGAIN)
            began = time.monotonic()
            wait = EVERY
            try:
                if self._subject is None:
                    first = not self._seen.label
                    self._subject = await find(self._ctx, host, self._ref)
                    await self._read_frames()
                    if first and self._subject.why_not and self._frames:
                        self._frame = self._frames[-1].path  # there is nothing else to see
                await self._read_frames()
                self._walk()
                if self._frame:
                    await self._show_frame()
                else:
                    await self._show_now(host)
            except LabError as error:
                await self._problem(error)
                self._subject, wait = None, _AGAIN
            await self._rest(max(wait, 3 * min(time.monotonic() - began, _AGAIN)))

    async def _rest(self, seconds: float) -> None:
        assert self._wake
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    async def _read_frames(self) -> None:
        run = self._subject.run if self._subject else None
        self._frames = await asyncio.to_thread(frames, run.folder) if run else ()

    def _walk(self) -> None:
        """Do the steps that were asked for."""
        paths = [one.path for one in self._frames]
        at = paths.index(self._frame) if self._frame in paths else len(paths)
        for by in self._steps:
            at = min(len(paths), max(0, at + by))
        self._steps.clear()
        self._frame = paths[at] if at < len(paths) else None

    async def _show_frame(self) -> None:
        assert self._subject
        number = next(at for at, one in enumerate(self._frames, 1) if one.path == self._frame)
        frame = self._frames[number - 1]
        sign = (frame.path, self.room)
        if sign == self._sign and self._seen.frames == len(self._frames):
            return

        def read() -> Picture:
            with frame.path.open("rb") as file:
                return decode(file.read(4 * _MOST))

        try:
            picture = await asyncio.to_thread(read)
        except OSError as error:
            raise LabError(f"{frame.path}: {error.strerror}") from error
        run = self._subject.run
        seconds = after_boot(run.plan, run.state, frame) if run else None
        told = frame.taken.astimezone().strftime("%H:%M:%S")
        told += f", {seconds:.1f} s into it" if seconds is not None else ""
        self._sign = sign
        await self._show(Seen(self._subject.label, picture, None, 0.0, number, len(self._frames), told))

    async def _show_now(self, host: Host) -> None:
        assert self._subject
        if self._subject.why_not:
            raise self._subject.why_not
        try:
            picture = await host.screenshot(self._subject.uuid)
        except DeadlineError as error:
            raise LabError(
                "libvirt is busy with this VM, or does not answer", hint="it is tried again"
            ) from error
        self._sign = None
        seen = Seen(self._subject.label, picture, None, time.monotonic(), 0, len(self._frames))
        await self._show(seen)

    async def _show(self, seen: Seen) -> None:
        assert seen.picture
        drawn = await asyncio.to_thread(self._draw, seen.picture, self.room)
        self._seen = replace(seen, drawn=drawn)
        self._tell(self._seen)

    async def _problem(self, error: LabError) -> None:
        """Say so; an older picture of the same VM stays, with its age."""
        label = self._subject.label if self._subject else self._seen.label
        self._sign = None
        # one of the boot is not the screen as it was last
        base = Seen() if self._seen.at else self._seen
        self._seen = replace(
            base,
            label=label,
            frames=len(self._frames),
            problem=clean_line(error.message, 300),
            hint=clean_line(error.hint, 300),
        )
        self._tell(self._seen)
