"""Going back in time without losing the way: the present is kept first, and the clock set right after.

Policy; how a snapshot is loaded is `hosts.rewind`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import used_bytes
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.hosts.agentexec import JUST_BACK, agent_exec
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power, Snapshot, Then
from vmlab_tui.lab import safety
from vmlab_tui.lab.overlays import why_not_merged

if TYPE_CHECKING:
    from vmlab_tui.guests.ssh import Guest  # loaded late: asyncssh takes its time

SAFETY_TAKEN = declare("revert.safety-taken", "the safety snapshot exists, the VM is still in its present")
BEFORE_CLOCK = declare(
    "revert.before-clock", "the VM has gone back and is as asked; its clock is in the past"
)

RETURN = 120.0
"""Seconds that the way back to the present is given, whatever else took its time."""

_AGENT = 2.0
_SSH = 6.0
"""Seconds that the guest's agent, and its SSH server, may take to set the clock."""
_ALONE = 10.0
"""Seconds for the agent where there is no other way: a guest on a busy machine takes long to come round."""
_MORE = 0.3
"""Seconds for the agent once SSH is there: a command that way takes longer."""


@dataclass(frozen=True)
class WentBack:
    """How it went. ``in_place``: the VM's QEMU went on. ``safety``: the snapshot of the present, if taken.

    ``pruned``: older safety snapshots that were deleted. ``clock``: why the guest's clock is not right;
    empty where it is, or where the guest is off. ``warning``: what else did not work.
    """

    power: Power
    in_place: bool
    safety: str | None = None
    pruned: tuple[str, ...] = ()
    clock: str = ""
    warning: str = ""

    @property
    def data(self) -> dict[str, JsonValue]:
        """The same for programs."""
        return {
            "in_place": self.in_place,
            "safety": self.safety,
            "pruned": list(self.pruned),
            "clock": self.clock or None,
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """What a person should know of it beyond that it is done."""
        found: list[str] = []
        if self.safety:
            found.append(f"what was before is in the safety snapshot {self.safety}")
        if self.pruned:
            names = ", ".join(clean_line(name, 60) for name in self.pruned)
            found.append(f"deleted older safety snapshots ({safety.KEPT} are kept): {names}")
        if self.clock:
            found.append(f"! its clock is behind: {self.clock}")
        if self.warning:
            found.append(f"! {self.warning}")
        return tuple(found)


async def go_back(
    host: Host,
    uuid: str,
    name: str,
    *,
    then: Then | None = None,
    keep_present: bool = True,
    endpoint: Endpoint | None = None,
    guest: Guest | None = None,
    timeout: float = 300,
) -> WentBack:
    """Bring the VM ``uuid`` back to its snapshot ``name``; see :class:`WentBack`.

    ``then``: how it shall be afterwards (None: as it was when the snapshot was taken). ``keep_present``: in
    a safety snapshot, and return to that if the load fails. ``endpoint``: where its SSH answers, to set the
    clock where there is no guest agent. Connections into the guest must be made anew afterwards; ``guest``:
    one of the caller's that is wanted then, closed by now. It is opened while the clock is being set, if the
    guest lets it. Calling it again after a crash at any point is fine.

    Raises NotFound without VM or snapshot; Refused when nothing was touched, with the reason; LabError when
    it could not be loaded: the message says where the VM is then.
    """
    deadline = Deadline(timeout)
    target = await find(host, uuid, name)
    await refuse(host, uuid, target, keep_present=keep_present)
    before = await host.power(uuid)
    kept = await _keep_present(host, uuid, name, deadline) if keep_present else None
    point(SAFETY_TAKEN)
    try:
        in_place = await host.revert(uuid, name, then=then, timeout=max(1.0, deadline.left))
    except LabError as error:
        raise await _return(host, uuid, kept, before, error) from error
    power = await host.power(uuid)
    point(BEFORE_CLOCK)

    async def clock_of() -> str:
        if power is Power.ON and not target.memory:
            return ""  # it boots, and reads the machine's clock
        if power is Power.ON:
            return await set_clock(host, uuid, endpoint, guest)
        return "it is paused, and gets it with vmlab unpause" if power is Power.PAUSED else ""

    async def prune() -> tuple[tuple[str, ...], str]:
        return await _prune(host, uuid, name) if kept else ((), "")

    clock, (pruned, warning) = await asyncio.gather(clock_of(), prune())
    return WentBack(power, in_place, kept, pruned, clock, warning)


async def find(host: Host, uuid: str, name: str) -> Snapshot:
    """The snapshot of that name. Raises NotFound."""
    found = next((one for one in await host.snapshots(uuid) if one.name == name), None)
    if found is None:
        raise NotFound(f"it has no snapshot '{clean_line(name, 80)}'")
    return found


async def refuse(host: Host, uuid: str, target: Snapshot, *, keep_present: bool) -> None:
    """Raise Refused with the reason when going back to ``target`` cannot be, or would do harm."""
    told = f"snapshot '{clean_line(target.name, 80)}'"
    why = await host.why_not_back(uuid, target.name)
    if not why and target.external:
        why = await why_not_merged(host, uuid)
    if why:
        raise Refused(f"{told}: {why}", hint="the VM is left as it is")
    if target.external and keep_present:
        raise Refused(
            f"{told} is external: no safety snapshot of the present can be kept beside it",
            hint="with --no-safety the present is lost",
        )


async def _keep_present(host: Host, uuid: str, target: str, deadline: Deadline) -> str:
    name = safety.new_name({one.name for one in await host.snapshots(uuid)})
    try:
        await host.create_snapshot(uuid, name, safety.about(target), timeout=deadline.left)
    except NotFound:
        raise
    except LabError as error:
        raise Refused(
            f"no safety snapshot of the present can be taken, so it is left as it is: {error.message}",
            hint=error.hint or "without one the present is lost: --no-safety",
        ) from error
    return name


async def _return(host: Host, uuid: str, kept: str | None, before: Power, error: LabError) -> LabError:
    """Go back to the present if it was kept; the error that says where the VM is now."""
    if kept is None:
        try:
            now = (await host.power(uuid)).value
        except LabError:
            now = "in an unknown state"
        return LabError(
            f"{error.message}\nit is {now} now, and no safety snapshot was wanted",
            hint=error.hint or "go back to another snapshot",
        )
    then = {Power.ON: Then.RUNNING, Power.PAUSED: Then.PAUSED}.get(before, Then.OFF)
    try:
        await host.revert(uuid, kept, then=then, timeout=RETURN)
    except LabError as second:
        first = f"{second.hint}; then" if second.hint else "try that once more"
        return LabError(
            f"{error.message}\nand the way back to the safety snapshot {kept} failed too: {second.message}",
            hint=f"{first}: vmlab snapshot revert {uuid} {kept} --no-safety",
        )
    return LabError(
        f"{error.message}\nit is back in its present, from the safety snapshot {kept}",
        hint=error.hint or "the snapshot's data are damaged; delete it, or go back to another one",
    )


async def _prune(host: Host, uuid: str, target: str) -> tuple[tuple[str, ...], str]:
    gone: list[str] = []
    try:
        for name in safety.too_many(await host.snapshots(uuid), target):
            if await host.delete_snapshot(uuid, name):
                gone.append(name)
    except LabError as error:
        return tuple(gone), f"an older safety snapshot stays: {error.message}"
    return tuple(gone), ""


# -- the clock -----------------------------------------------------------------------------------


async def set_clock(host: Host, uuid: str, endpoint: Endpoint | None, guest: Guest | None = None) -> str:
    """Set a running guest's clock to now, by its agent, else over SSH. Empty if done, else why not.

    ``guest``: a connection of the caller's, which is opened while the agent is being asked: a guest that has
    just gone back takes a second or two for either.
    """
    other = guest is not None or endpoint is not None
    asked = asyncio.create_task(_by_agent(host, uuid, _AGENT if other else _ALONE))
    try:
        if guest is not None:
            with contextlib.suppress(LabError):
                await guest.open(_SSH)
                await asyncio.wait({asked}, timeout=_MORE)
                if not asked.done():
                    return await _over_ssh(guest)
        if await asked:
            return ""
    finally:
        asked.cancel()
    endpoint = guest.endpoint if guest else endpoint
    if endpoint is None:
        return "it has no guest agent that answers"
    from vmlab_tui.guests.ssh import connect  # late: asyncssh takes its time

    try:
        if guest is not None and guest.connected:
            return await _over_ssh(guest)
        async with connect(endpoint, timeout=_SSH) as made:
            return await _over_ssh(made)
    except LabError as error:
        return f"neither an agent nor SSH answers ({clean_line(error.message, 200)})"


async def _by_agent(host: Host, uuid: str, seconds: float) -> bool:
    try:
        # not guest-set-time: it also writes the hardware clock, which is right, and takes a second for it
        deadline = Deadline(seconds)
        for now in _times():
            words = ["date", "-u", "-s", now]
            if (await agent_exec(host, uuid, words, deadline, patience=JUST_BACK)).status == 0:
                return True
    except LabError:
        pass  # no agent, or one that may not
    return False


async def _over_ssh(guest: Guest) -> str:
    set_it = " 2>/dev/null || ".join(f"date -u -s {now}" for now in _times())
    done = await guest.execute(set_it, timeout=_SSH)
    return "" if done.status == 0 else f"date said: {clean_line(done.err.decode(errors='replace'), 200)}"


def _times() -> tuple[str, str]:
    """Now, as ``date -s`` takes it; some know no parts of a second."""
    now = time.time()
    return f"@{now:.2f}", f"@{now:.0f}"


# -- deleting ------------------------------------------------------------------------------------


async def why_not_delete(host: Host, uuid: str, target: Snapshot) -> str:
    """Why deleting a snapshot would do harm, to its VM or to another; empty where nothing is known of it."""
    why = await host.why_not_delete(uuid, target.name)
    return why if why or not target.external else await why_not_merged(host, uuid)


async def delete(host: Host, uuid: str, name: str) -> tuple[int | None, tuple[str, ...]]:
    """Delete a snapshot; the bytes that its VM's disk files became smaller by, and lines that say so.

    None where the files cannot be looked at. Raises NotFound, and Refused for an external one that this
    libvirt cannot delete safely, or that another VM stands on.
    """
    if why := await why_not_delete(host, uuid, await find(host, uuid, name)):
        raise Refused(f"snapshot '{clean_line(name, 80)}': {why}", hint="it is left as it is")
    before = await _used(host, uuid)
    if not await host.delete_snapshot(uuid, name):
        raise NotFound(f"it has no snapshot '{clean_line(name, 80)}'")
    after = await _used(host, uuid)
    if before is None or after is None:
        return None, ()
    return before - after, (f"its disk takes {size(after)} now, {size(before)} before",)


async def _used(host: Host, uuid: str) -> int | None:
    """What the disks of a VM that can hold snapshots take on this machine."""
    domain = await host.domain(uuid)
    if not host.local or domain is None:
        return None
    disks = [path for path, form in zip(domain.disks, domain.formats, strict=False) if form == "qcow2"]
    try:
        return sum(used_bytes(Path(path).stat()) for path in disks)  # noqa: ASYNC240  # an instant
    except OSError:
        return None
