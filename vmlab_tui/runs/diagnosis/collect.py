"""Taking the evidence: by the best way into the guest that is open, and what this machine knows of it.

Nothing is changed, in the guest or here. Everything ends by one deadline; what did not come until then is
told as missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.proc import arun
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.guests.ssh import AuthError, Guest, HostKeyError
from vmlab_tui.hosts.agentexec import run_by_agent
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power
from vmlab_tui.hosts.vitals import Vitals, qemu_log
from vmlab_tui.journal.events import moment
from vmlab_tui.journal.state import StepState
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.endpoint import endpoint_of
from vmlab_tui.lab.vmdir import VmDir, vm_dir
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.diagnosis.evidence import Evidence, Ssh, Step, Way
from vmlab_tui.runs.diagnosis.script import PART_SECONDS, Told, parse, script
from vmlab_tui.runs.plan import PlannedStep
from vmlab_tui.spec.model import RunStep, WaitStep

LIMIT = 9.0
"""Seconds for all of it, unless somebody has more time; then its parts have more, too."""
_LOGIN = 2.5
"""Seconds after which the agent, where there is one, is not kept waiting for the SSH login any longer."""
_PING = 2.0
_TAIL = 64 << 10
_SCRIPT = re.compile(
    r"/\S*/units/vmlab-[^/\s]+/script(: (?:line )?\d+)?(?:: /\S*/units/vmlab-[^/\s]+/script)?"
)
"""How a shell names the file that a step's script is; some do it twice."""
_LINES = 60

Mask = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Subject:
    """What is diagnosed: a VM, and the run that made it if that is known. ``own``: we may enter its guest."""

    name: str
    uuid: str
    own: bool
    user: str = "lab"
    network: str = ""
    view: RunView | None = None

    @property
    def removed(self) -> bool:
        """Whether its run has removed the VM itself."""
        ended = self.view.state.ended if self.view else None
        return ended is not None and ended.disposition != "kept"


@dataclass
class Found:
    """The evidence, and the texts it was taken from as they came, masked."""

    evidence: Evidence
    raw: dict[str, bytes] = field(default_factory=dict)


async def collect(lab: Lab, host: Host | None, subject: Subject, mask: Mask, limit: float = LIMIT) -> Found:
    """Look at all that can be looked at within ``limit`` seconds. ``host``: None when libvirt is not there.

    Raises nothing that a fault of guest or host could cause.
    """
    deadline = Deadline(limit)
    found = Found(Evidence(clean_line(subject.name, 60), network=subject.network, host_time=time.time()))
    if host is None and subject.own and not subject.removed:
        await _look_inside(lab, None, subject, mask, found, deadline)
    elif host and not subject.removed:
        vitals = await _vitals(host, subject, found, deadline)
        if vitals and vitals.power is Power.ON and subject.own:
            await _look_inside(lab, host, subject, mask, found, deadline)
            await _measure(host, subject, vitals, found, deadline)
        elif vitals and vitals.power in (Power.OFF, Power.CRASHED):
            await _host_kernel(found, deadline)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(1.0, deadline.left)):
            await asyncio.to_thread(_files, lab, subject, mask, found)
    return found


def _share(seconds: float, deadline: Deadline) -> float:
    """As much of the whole allowance as ``seconds`` are of the usual one."""
    return seconds * deadline.seconds / LIMIT


def _know(found: Found, **what: object) -> None:
    found.evidence = replace(found.evidence, **what)  # type: ignore[arg-type]


# -- the domain ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    vitals: Vitals
    at: float
    cpus: int

    @property
    def power(self) -> Power:
        return self.vitals.power


async def _vitals(host: Host, subject: Subject, found: Found, deadline: Deadline) -> _Sample | None:
    try:
        vitals = await host.vitals(subject.uuid, timeout=deadline.part(3))
        domain = await host.domain(subject.uuid, timeout=deadline.part(3))
    except NotFound:
        _know(found, gone=True)
        return None
    except LabError as error:
        _know(found, agent_said=error.message)
        return None
    _know(found, power=vitals.power, reason=vitals.reason)
    return _Sample(vitals, time.monotonic(), max(1, domain.cpus if domain else 1))


async def _measure(host: Host, subject: Subject, first: _Sample, found: Found, deadline: Deadline) -> None:
    """How busy its CPUs were since ``first``, and whether it still runs."""
    with contextlib.suppress(LabError):
        last = await host.vitals(subject.uuid, timeout=max(1.0, deadline.part(2)))
        took = time.monotonic() - first.at
        _know(found, power=last.power, reason=last.reason)
        if first.vitals.cpu is not None and last.cpu is not None and took > 0:
            _know(found, cpu=min(1.0, max(0.0, last.cpu - first.vitals.cpu) / took / first.cpus))


async def _host_kernel(found: Found, deadline: Deadline) -> None:
    """Whether this machine's kernel has killed a QEMU: its log says so, where it may be read."""
    with contextlib.suppress(LabError):
        done = await arun(["dmesg"], check=False, timeout=max(1.0, deadline.part(2)))
        lines = [line for line in done.out.splitlines() if b"qemu" in line][-10:]
        if lines:
            found.raw["host-kernel"] = b"\n".join(lines) + b"\n"
            _know(found, parts={**found.evidence.parts, "host-kernel": clean(found.raw["host-kernel"])})


# -- the guest -------------------------------------------------------------------------------------------


async def _look_inside(
    lab: Lab, host: Host | None, subject: Subject, mask: Mask, found: Found, deadline: Deadline
) -> None:
    """Run the script by SSH; by the agent where SSH lets nobody in, or takes its time."""
    key = f"@{secrets.token_hex(6)}@"
    ping = asyncio.create_task(_ping(host, subject.uuid, deadline))
    login = asyncio.create_task(_log_in(lab, subject, found, deadline.part(deadline.seconds - 1)))
    told, way = None, Way.SSH
    try:
        await asyncio.wait({login}, timeout=_share(_LOGIN, deadline))
        if not (login.done() and login.result()):
            alive, said = await ping
            _know(found, agent=alive, agent_said=said)
            if alive and host:
                told, way = await _by_agent(host, subject, key, found, deadline), Way.AGENT
        guest = await login  # how it ends is evidence in any case
        if guest and told is None:
            told, way = await _by_ssh(guest, key, found, deadline), Way.SSH
    finally:
        await _let_go(login, ping)
    if told is not None:
        found.raw |= {name: mask(raw) for name, raw in told.raw.items()}
        texts = {name: clean(found.raw[name]) for name in told.raw}
        _know(found, way=way, parts=texts, late=told.late)


async def _let_go(login: asyncio.Task[Guest | None], ping: asyncio.Task[tuple[bool, str]]) -> None:
    login.cancel()
    ping.cancel()
    ended = await asyncio.gather(login, ping, return_exceptions=True)
    if isinstance(ended[0], Guest):
        await ended[0].close()


async def _ping(host: Host | None, uuid: str, deadline: Deadline) -> tuple[bool, str]:
    if host is None:
        return False, "libvirt does not answer"
    try:
        await host.agent(uuid, "guest-ping", timeout=deadline.part(_share(_PING, deadline)))
    except LabError as error:
        return False, error.message
    return True, ""


async def _log_in(lab: Lab, subject: Subject, found: Found, limit: float) -> Guest | None:
    """An open connection, or None: why there is none is in the evidence then."""
    try:
        guest = Guest(await asyncio.to_thread(endpoint_of, lab, subject.uuid))
    except LabError as error:
        _know(found, ssh_said=error.message)
        return None
    try:
        await guest.open(limit)
    except BaseException as error:
        await guest.close()
        if not isinstance(error, LabError):
            raise
        _know(found, ssh=_kind(error), ssh_said=error.message)
        return None
    _know(found, ssh=Ssh.IN)
    return guest


def _kind(error: LabError) -> Ssh:
    if isinstance(error, AuthError):
        return Ssh.REFUSED_KEY
    if isinstance(error, HostKeyError):
        return Ssh.OTHER_KEY
    return Ssh.SILENT if isinstance(error, DeadlineError) else Ssh.CLOSED


async def _by_ssh(guest: Guest, key: str, found: Found, deadline: Deadline) -> Told | None:
    # taken just before the script begins, whose first part asks for the guest's
    _know(found, host_time=time.time())
    text = script(key, seconds=_share(PART_SECONDS, deadline))
    told = parse(await _output(guest, text, deadline), key)
    if not told.raw:
        _know(found, ssh_said="logged in, but no command runs there")
        return None
    return told


async def _output(guest: Guest, text: str, deadline: Deadline) -> bytes:
    """What the script printed so far when it ended, the time was over or the connection dropped."""
    output = bytearray()
    with contextlib.suppress(TimeoutError, LabError):
        async with asyncio.timeout(deadline.left), guest.process(text) as process:
            with guest.translated():
                while chunk := await process.stdout.read(1 << 16):
                    output += chunk
    return bytes(output)


async def _by_agent(host: Host, subject: Subject, key: str, found: Found, deadline: Deadline) -> Told | None:
    _know(found, host_time=time.time())
    try:
        text = script(key, subject.user, _share(PART_SECONDS, deadline))
        told = parse(await run_by_agent(host, subject.uuid, text, deadline), key)
    except LabError as error:
        _know(found, agent_said=error.message)
        return None
    return told if told.raw else None


# -- files of this machine -------------------------------------------------------------------------------


def _files(lab: Lab, subject: Subject, mask: Mask, found: Found) -> None:
    folder = vm_dir(lab.store, subject.uuid) if subject.own else None
    console, silent = _console(folder, subject.view)
    log = qemu_log(lab.uri, subject.name)
    raw = {"console": mask(console), "qemu-log": mask(_tail(log) if log else b"")}
    step = _step(subject.view, mask, raw, found.evidence.host_time) if subject.view else None
    found.raw |= {name: text for name, text in raw.items() if text}
    _know(
        found,
        console=clean(raw["console"]),
        silent=silent,
        qemu_log=clean(raw["qemu-log"]),
        step=step,
    )


def _console(folder: VmDir | None, view: RunView | None) -> tuple[bytes, float | None]:
    """The end of the VM's own log, else of its run's copy; and how long it has been silent.

    Of a run with secrets its copy: the worker has masked them in that, and nobody else knows them.
    """
    copy = _tail(view.folder / "console.log") if view else b""
    if folder and (own := _tail(folder.console)):
        private = view is not None and bool(view.plan.secret_names)
        return (copy if private else own), max(0.0, time.time() - folder.console.stat().st_mtime)
    return copy, None


def _tail(path: Path) -> bytes:
    """The end of a file; nothing when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            return file.read()
    except OSError:
        return b""


def _step(view: RunView, mask: Mask, raw: dict[str, bytes], at: float) -> Step | None:
    """The step that failed, else the one in flight; its log goes into ``raw``."""
    states = view.state.steps.values()
    known = next((one for one in states if one.state == "failed"), None) or view.state.current
    if known is None or not 1 <= known.number <= len(view.plan.steps):
        return None
    planned = view.plan.step(known.number)
    log = mask(_tail(view.folder / "steps" / planned.log_name(known.attempt)))
    if log:
        raw["step"] = log
    bad = [one for one in view.state.checks if one.number == known.number and one.state != "passed"]
    if bad:
        text = "\n".join(f"{one.check}: {one.detail}\n{one.evidence}" for one in bad)
    else:
        # of a script it is the run's own words, which nothing in the guest has said
        text = clean(log) if log.strip() or planned.kind == "run" else known.detail
    text = _SCRIPT.sub(r"script\1", mask(text.encode()).decode(errors="replace"))
    lines = [line.rstrip() for line in text.splitlines()]
    ended = known.exit_status is not None or planned.kind == "cloud-init"
    return Step(
        number=known.number,
        name=planned.name,
        kind=planned.kind,
        status=known.exit_status,
        ended=ended or any(one.state == "failed" for one in bad),
        lines=tuple(line for line in lines if line and not line.startswith("+ "))[-_LINES:],
        told=mask(known.detail.encode()).decode(errors="replace").partition("\n")[0],
        began=max(0.0, at - moment(known.started)) if known.started else None,
        **_script_of(view, planned, known),
    )


def _script_of(view: RunView, planned: PlannedStep, known: StepState) -> dict[str, str]:
    """What it ran and as whom; not of a step that was amended since."""
    what = view.plan.profile.steps[planned.index] if planned.index is not None else None
    if isinstance(what, RunStep):
        return {"text": "" if known.amended else what.script, "user": what.user}
    if isinstance(what, WaitStep):
        return {"text": what.command or what.service or ""}
    return {}
