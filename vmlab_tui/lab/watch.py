"""Watching a lab: the inventory and the state of the host, whenever either changes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.text import clean_line

# libvirt and pydantic come with the first look: a screen needs only the words below
if TYPE_CHECKING:
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.hosts.lane import Lane
    from vmlab_tui.lab.context import Lab
    from vmlab_tui.lab.inventory import Inventory, InventoryReader

POLL = 2.0
"""Seconds between two looks where no event calls for one: snapshots and files send none."""
DEBOUNCE = 0.1
"""Seconds that an event waits for others to come with it."""
BUSY = 1.5
"""Seconds after which a host that has not answered is called busy."""
DEADLINE = 60.0
"""Seconds after which a look is given up and another begun."""
_SHARE = 4
"""A look is followed by this many times its own length without one: a fifth of the time at most."""
_FEW = 8
"""Events that name less than one VM in so many call for a look at those alone."""
_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before the next look after one, two, ... that failed."""


@dataclass(frozen=True)
class HostState:
    """How the connection is, with the reason and what to do about it."""

    state: Literal["connecting", "ok", "busy", "gone"] = "connecting"
    detail: str = ""
    hint: str = ""
    since: float | None = None
    """When busy or gone: seconds since 1970 at which the inventory was last known to be right."""


@dataclass
class _Pace:
    """When the last look of a kind ended, and how long it took, in seconds."""

    ended: float = 0.0
    took: float = 0.0

    @property
    def rested(self) -> float:
        return self.ended + _SHARE * self.took

    def done(self, took: float) -> None:
        self.ended, self.took = time.monotonic(), took


class LabWatch:
    """Looks at a host and a store until it is cancelled; ``on_change`` and ``on_host`` get what is new.

    Both are called on the loop that :meth:`run` runs on, only when there is a change. Whatever hangs, hangs
    in a thread: the last good :attr:`inventory` stays, and all goes on by itself once the host answers.

    An event has only the VMs that it names read again, where there are many. That all is read every now and
    then makes up for what no event tells, or for one that was lost.
    """

    def __init__(
        self,
        lab: Lab,
        on_change: Callable[[Inventory], object],
        on_host: Callable[[HostState], object],
    ) -> None:
        self.lab = lab
        self.host = HostState()
        self.inventory: Inventory | None = None
        self.took = 0.0
        """Seconds of the last look that succeeded."""
        self._on_change, self._on_host = on_change, on_host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._urgent = False
        self._event_at: float | None = None
        self._named: set[str] = set()
        self._whole, self._part = _Pace(), _Pace()
        self._good: float | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the inventory was last known to be right; None before the first."""
        return None if self._good is None else max(0.0, time.time() - self._good)

    def refresh_soon(self) -> None:
        """Look at once; from any thread."""
        if self._loop and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._hurry)

    async def run(self) -> None:
        """Watch until cancelled. Raises nothing else."""
        from vmlab_tui.hosts.host import Host
        from vmlab_tui.hosts.lane import Lane
        from vmlab_tui.lab.inventory import InventoryReader

        self._loop = asyncio.get_running_loop()
        # it opens its connection again by itself when that has died, and registers for events anew
        host = Host(self.lab.uri, readonly=True)
        files = Lane("files", threads=1)
        reader = InventoryReader(self.lab)
        host.on_event(self._event)
        failed = 0
        named: frozenset[str] | None = None
        try:
            while True:
                start = time.monotonic()
                problem = await self._look(host, files, reader, named)
                took = time.monotonic() - start
                if problem is None:
                    failed = 0
                    # what a hung host made us wait was no work that calls for rest
                    took = min(took, self._patience)
                    if named is None:
                        self.took = took
                    (self._whole if named is None else self._part).done(took)
                    named = await self._rest(max(POLL, _SHARE * self.took))
                else:
                    self._tell(
                        HostState(
                            "busy" if isinstance(problem, DeadlineError) else "gone",
                            clean_line(problem.message, 400),
                            problem.hint,
                            self._good,
                        )
                    )
                    self._whole.done(0.1)
                    self._named.clear()
                    await self._rest(_BACK_OFF[min(failed, len(_BACK_OFF) - 1)])
                    named = None
                    failed += 1
        finally:
            files.close()
            await host.close()

    @property
    def _patience(self) -> float:
        """Seconds that a look may take; a large lab is not busy for being large."""
        return max(BUSY, 3 * self.took)

    async def _look(
        self, host: Host, files: Lane, reader: InventoryReader, named: frozenset[str] | None
    ) -> LabError | None:
        """One look, at the VMs of these uuids or at all; what went wrong, if anything did."""
        looking = asyncio.ensure_future(self._read(host, files, reader, named))
        try:
            await asyncio.wait({looking}, timeout=self._patience)
            if not looking.done() and self.host.state != "gone":
                self._tell(HostState("busy", f"{self.lab.uri} takes long to answer", since=self._good))
            found = await looking
        except LabError as error:
            return error
        finally:
            looking.cancel()
        self._good = time.time()
        self._tell(HostState("ok"))
        if found is not self.inventory:
            self.inventory = found
            self._on_change(found)
        return None

    async def _read(
        self, host: Host, files: Lane, reader: InventoryReader, named: frozenset[str] | None
    ) -> Inventory:
        what = f"read {self.lab.store.root}"
        if named is None:
            domains = await host.domains(snapshots=True, timeout=DEADLINE)
            return await files.call(lambda: reader.join(domains), timeout=DEADLINE, what=what)
        changed = {uuid: await host.domain(uuid, snapshots=True, timeout=DEADLINE) for uuid in named}
        return await files.call(lambda: reader.renew(changed), timeout=DEADLINE, what=what)

    def _tell(self, state: HostState) -> None:
        if state != self.host:
            self.host = state
            self._on_host(state)

    # -- when to look again ----------------------------------------------------------------------

    def _hurry(self) -> None:
        self._urgent = True
        self._wake.set()

    def _event(self, _kind: str, uuid: str, _detail: str) -> None:
        self._named.add(uuid)
        if self._event_at is None:
            self._event_at = time.monotonic()
            self._wake.set()

    @property
    def _few(self) -> bool:
        """Whether events have named so few of the VMs that looking at those alone pays."""
        return self.inventory is not None and len(self._named) * _FEW < len(self.inventory.vms)

    async def _rest(self, longest: float) -> frozenset[str] | None:
        """Wait until another look is due: after ``longest`` seconds, or sooner for a reason. Returns the
        uuids of the VMs that it has to be at, None for all."""
        while True:
            few, due = False, self._whole.ended + longest
            if self._event_at is not None:
                few = self._few and time.monotonic() < due
                due = min(due, max(self._event_at + DEBOUNCE, (self._part if few else self._whole).rested))
            if self._urgent:
                few, due = False, self._whole.ended + self._whole.took
            left = due - time.monotonic()
            if left <= 0:
                break
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)
        # what comes from here on is not in the look that begins now
        named = frozenset(self._named) if few else None
        self._urgent, self._event_at = False, None
        self._named.clear()
        return named
