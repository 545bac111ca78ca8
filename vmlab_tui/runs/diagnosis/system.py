"""Rules on the guest's system: disk, memory, clock, units, ports, what scripts run into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vmlab_tui.base.units import size, span
from vmlab_tui.guests.cloudinit import errors_of
from vmlab_tui.runs.diagnosis.evidence import Evidence, FileSystem
from vmlab_tui.runs.diagnosis.finding import LAST, Finding, Weight, lines_of, now, said

_NO_SPACE = re.compile(r"No space left on device|don't have enough free space|ENOSPC|disk full", re.I)
_READ_ONLY = re.compile(r"[Rr]ead-only file system|EROFS")
_REMOUNTED = re.compile(
    r"EXT4-fs error|Remounting filesystem read-only|remount.*read-only|XFS.*[Ss]hutting down"
)
_NO_MEMORY = re.compile(
    r"Cannot allocate memory|virtual memory exhausted|MemoryError|[Oo]ut of memory|ENOMEM"
)
_KILLED = re.compile(r"^(?:\S+: )?(?:line )?(?:\d+: )?(?:\d+ )?Killed\b")
_OOM = re.compile(
    r"^\[ *(?P<at>\d+\.\d+)\].*?(?P<group>Memory cgroup o|O)ut of memory: Killed process "
    r"(?P<pid>\d+) \((?P<who>[^)]*)\)"
)
_CLOCK = re.compile(
    r"is not valid yet|not yet valid|certificate (?:has|is) expired|Clock skew detected|in the future|"
    r"clock (?:is )?(?:skew|wrong)",
    re.I,
)
_EARLY = re.compile(r"is not valid yet \(invalid for another|not yet valid")
_IN_USE = re.compile(
    r"[Aa]ddress (?:is )?already in use|EADDRINUSE|[Pp]ort \d+ is (?:already )?(?:in use|allocated)"
)
_PORT = re.compile(r"(?:[Pp]ort |[\d\]*]:|:)(\d{2,5})\b")
_NOT_FOUND = re.compile(
    r"^(?:\S*sh|script|[^\s:]*/[^\s:]+): (?:line )?\d+: (?:/\S+: )?(?P<a>[^:\s]+): (?:command )?not found$"
    r"|^(?:ba|da|z|k)?sh: (?P<b>[^:\s]+): (?:command )?not found$"
    r"|^(?:/usr/bin/)?env: [‘'\"]?(?P<c>[^:’'\"]+)[’'\"]?: No such file or directory$"
    r"|^sudo: (?P<d>[^:\s]+): command not found$"
)
_DENIED = re.compile(
    r"(?:: |\(1?\d: |Errno 1?\d\] )(?:Permission denied|Operation not permitted)\b|are you root\?", re.I
)
_REFUSED = re.compile(r"[Cc]onnection refused|ECONNREFUSED|Failed to connect|not listening|nothing listens")
_JOB = re.compile(
    r"(?:Job for|Failed to (?:start|stop|(?:try-)?re(?:load|start)|enable)) (?P<a>[\w@.\\-]+?)"
    r"(?:\.service)?(?: failed|:)"
    r"|^service (?P<b>[\w@.\\-]+?)(?:\.service)?: (?:there is no such unit|it is failed)"
)
_SKEWED = 300.0
"""Seconds by which clocks may differ."""
_RECENT = 600.0
"""Seconds after which a killed process is history for a VM without a step that failed."""


def disk_full(e: Evidence) -> Finding | None:
    """No space, or no inodes."""
    full = [fs for fs in e.file_systems() if fs.size and fs.free < 1024 and fs.free * 100 < fs.size]
    bare = [fs for fs in e.file_systems(inodes=True) if fs.size and fs.free == 0]
    words = said(e, _NO_SPACE)
    if not words and not full and not bare:
        return None
    near = sorted(e.file_systems(), key=lambda fs: fs.free * 1000 // max(1, fs.size))[:1]
    if full:
        cause = f"the disk is full: {_space(full[0])}"
    elif bare:
        cause = (
            f"the disk has no inodes left: {bare[0].where} holds {bare[0].size} files, and can hold no more"
        )
    else:
        cause = "the disk was full"
        cause += f"; now {_space(near[0])}" if near else ""
    return Finding.of(
        "disk-full",
        cause,
        [*lines_of(words), *(f"df: {_space(fs)}" for fs in [*full, *(near if not full else [])])],
        [
            "what takes the room, in the guest: sudo du -xh / | sort -h | tail",
            "or give the VM more in the profile: vm: {disk: ...}",
        ],
        # what cannot be written to keeps neither a script nor its end
        weight=Weight.SAID if words or e.unfinished else Weight.NOW,
    )


def _space(fs: FileSystem) -> str:
    return f"{fs.where} has {size(fs.free * 1024)} free of {size(fs.size * 1024)}"


def read_only(e: Evidence) -> Finding | None:
    """The root file system refuses to be written."""
    root = next((mount for mount in e.mounts() if mount.where == "/"), None)
    words = said(e, _READ_ONLY)
    is_so = root is not None and root.read_only
    if not words and not is_so:
        return None
    log = [line for line in e.lines("dmesg") if _REMOUNTED.search(line)]
    where = "the root file system is" if is_so else "a file system is, or was,"
    why = [*lines_of(words), *log[-3:]]
    why += [f"mounted: / {root.kind} {','.join(sorted(root.options))}"] if root and is_so else []
    return Finding.of(
        "read-only",
        f"{where} read-only" + (": its kernel found errors in it" if log and is_so else ""),
        why,
        [f"back to a snapshot from before: vmlab snapshot revert {e.vm}"]
        + (["look at the disk's errors: dmesg | grep -i ext4"] if log else []),
        # some systems are made like that: without a word of the step or the kernel it proves nothing
        weight=Weight.SAID
        if words or (is_so and e.unfinished)
        else Weight.NOW
        if log or not e.step
        else Weight.BESIDE,
    )


def out_of_memory(e: Evidence) -> Finding | None:
    """The kernel killed a process for want of memory, or an allocation failed."""
    kills = [found for line in e.lines("dmesg") if (found := _OOM.search(line))]
    step = e.step
    words = [*said(e, _NO_MEMORY), *said(e, _KILLED)]
    if not kills:
        plain = said(e, _NO_MEMORY, LAST)
        if not plain:
            return None
        return _oom(e, "the guest ran out of memory", lines_of(plain), Weight.SAID)
    last = kills[-1]
    ago = e.uptime - float(last["at"]) if e.uptime is not None else None
    since = _RECENT if step is None else step.began
    during = since is None or ago is None or ago <= since + 1
    died = step is not None and (step.status in (None, 9, 137) or words)
    weight = Weight.SAID if during and died else Weight.NOW if during else Weight.BESIDE
    limit = (
        " (the limit of its control group, not the guest's memory)" if last["group"].startswith("M") else ""
    )
    when = f" {span(ago)} ago" if ago is not None else ""
    cause = f"out of memory: the kernel killed {last['who']} (process {last['pid']}){when}{limit}"
    return _oom(e, cause, [*lines_of(words), *lines_of(kills)], weight)


def _oom(e: Evidence, cause: str, why: list[str], weight: Weight) -> Finding:
    memory = [
        line for line in e.lines("memory") if line.startswith(("MemTotal", "MemAvailable", "SwapTotal"))
    ]
    return Finding.of(
        "out-of-memory",
        cause,
        [*why, *memory],
        ["give the VM more in the profile: vm: {memory: ...}"],
        weight=weight,
    )


def clock(e: Evidence) -> Finding | None:
    """The guest lives in another time: certificates and package lists are not valid then."""
    off = e.skew is not None and abs(e.skew) > _SKEWED
    words = said(e, _CLOCK)
    if not off and not (e.skew is None and said(e, _EARLY)):
        return None
    cause = "the guest's clock is far off"
    if e.skew is not None:
        cause = f"the guest's clock is {span(abs(e.skew))} {'ahead' if e.skew > 0 else 'behind'}"
    return Finding.of(
        "clock",
        cause,
        lines_of(words),
        ["in the guest: sudo date -s @$(date +%s of this machine), or timedatectl set-ntp true"],
        weight=Weight.SAID if words else now(e),
    )


@dataclass(frozen=True)
class Unit:
    """A unit of the guest that failed, or starts again and again."""

    name: str
    result: str
    status: str
    log: tuple[str, ...]
    numbers: frozenset[str]

    @property
    def short(self) -> str:
        return self.name.removesuffix(".service")


def units(e: Evidence) -> Iterator[Unit]:
    """Those that the guest told of."""
    for block in re.split(r"^unit ", e.part("units"), flags=re.M)[1:]:
        name, *lines = block.splitlines()
        known = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("| "))
        yield Unit(
            name.strip(),
            known.get("Result", ""),
            known.get("ExecMainStatus", ""),
            tuple(line[2:] for line in lines if line.startswith("| ")),
            frozenset(line.split()[1] for line in lines if re.match(r"number \d+", line)),
        )


def _spoken_of(e: Evidence, unit: Unit) -> list[str]:
    """The step's words that the failure of the unit explains."""
    step = e.step
    if step is None:
        return []
    own = re.compile(rf"(?<![\w.-]){re.escape(unit.short)}(?![\w-])")
    named = [line for line in step.lines[-10:] if own.search(line)]
    refused = lines_of(said(e, _REFUSED, 5))
    silent = [step.title] if not step.lines and own.search(step.text) else []
    return named or refused or silent


def unit_failed(e: Evidence) -> Finding | None:
    """A systemd unit does not run."""
    found = [(unit, _spoken_of(e, unit)) for unit in units(e)]
    found.sort(key=lambda one: not one[1])
    jobs = said(e, _JOB, 6)
    if jobs and not (found and found[0][1]):
        return _job_failed(jobs)
    if not found:
        return None
    unit, words = found[0]
    how = f": {unit.result}" if unit.result not in ("", "success") else ""
    how += f", status {unit.status}" if unit.status not in ("", "0") else ""
    return Finding.of(
        "unit-failed",
        f"{unit.name} failed{how}",
        [
            *words,
            *(f"journal: {line}" for line in unit.log[-6:]),
            *(f"also failed: {other.name}" for other, _ in found[1:]),
        ],
        [f"in the guest: systemctl status {unit.short}; journalctl -u {unit.short}"],
        weight=Weight.SAID if words else now(e),
    )


def _job_failed(jobs: list[re.Match[str]]) -> Finding:
    """What systemctl has said of a unit that cannot be looked at, or does not exist."""
    absent = any(words in jobs[-1].string for words in ("not found", "does not exist", "no such unit"))
    short = jobs[-1]["a"] or jobs[-1]["b"]
    name = short + ".service" * ("." not in short)
    return Finding.of(
        "unit-failed",
        f"there is no unit {name}" if absent else f"{name} failed",
        lines_of(jobs),
        [f"in the guest: journalctl -u {short}"],
        weight=Weight.SAID,
    )


@dataclass(frozen=True)
class Listener:
    port: str
    line: str

    @property
    def who(self) -> str:
        found = re.search(r'users:\(\("([^"]+)",pid=(\d+)', self.line)
        return f"{found[1]} (process {found[2]})" if found else "another program"


def listeners(e: Evidence) -> Iterator[Listener]:
    for line in e.lines("listeners"):
        words = line.split()
        if len(words) >= 5 and (port := words[4].rpartition(":")[2]).isdigit():
            yield Listener(port, line)


def port_in_use(e: Evidence) -> Finding | None:
    """Something listens already where something else wants to."""
    words = said(e, _IN_USE)
    lines = lines_of(words)
    numbers = {port for line in lines for port in _PORT.findall(line)}
    about = bool(words)
    for unit in units(e):
        logged = [line for line in unit.log if _IN_USE.search(line)]
        if logged:
            lines += [f"{unit.name}: {logged[-1]}"]
            numbers |= {port for line in logged for port in _PORT.findall(line)} or unit.numbers
            about = about or bool(_spoken_of(e, unit))
    if not lines:
        return None
    taken = {one.port: one for one in listeners(e)}
    if not numbers & taken.keys() and e.step:
        numbers = set(re.findall(r"\b\d{2,5}\b", e.step.text))
    found = [taken[port] for port in sorted(numbers & taken.keys())]
    if len(found) == 1:
        cause = f"port {found[0].port} is in use already, by {found[0].who}"
    elif len(numbers) == 1:
        cause = f"port {next(iter(numbers))} is in use already"
    else:
        cause = "a port is in use already"
    return Finding.of(
        "port-in-use",
        cause,
        [*lines, *(f"ss: {' '.join(one.line.split())}" for one in found[:3])],
        ["in the guest: sudo ss -ltnp; stop that program, or take another port"],
        weight=Weight.SAID if about else now(e),
    )


def cloud_init(e: Evidence) -> Finding | None:
    """One of its modules failed."""
    parts = re.split(r"^(?:result|status)$", e.part("cloud-init"), flags=re.M)
    errors = list(dict.fromkeys(error for part in parts for error in errors_of(part.strip().encode())))
    its_step = e.step is not None and e.step.kind == "cloud-init"
    words = list(e.step.lines[-6:]) if e.step and its_step else []
    if not errors and not (its_step and words):
        return None
    log = [line for line in e.lines("cloud-init-log") if not line.startswith(("ci-info", "Cloud-init v."))]
    return Finding.of(
        "cloud-init",
        f"cloud-init failed: {(errors or words)[0]}",
        [*errors[1:3], *(words if not errors else []), *log[-5:]],
        ["in the guest: cloud-init schema --system; less /var/log/cloud-init-output.log"],
        weight=Weight.SAID if its_step else now(e),
    )


def command_not_found(e: Evidence) -> Finding | None:
    """A script calls what is not there."""
    if e.step is None:
        return None
    found = said(e, _NOT_FOUND, 5 if e.step.status == 127 else LAST)
    if not found:
        return None
    name = next(one for one in found[-1].groups() if one)
    return Finding.of(
        "command-not-found",
        f"command not found: {name}",
        lines_of(found),
        [f"install what has it in a step before, or give its path; in the guest: apt-file search bin/{name}"]
        if "/" not in name
        else [],
        weight=Weight.SAID,
    )


def permission_denied(e: Evidence) -> Finding | None:
    """The user of the step may not do that."""
    if e.step is None:
        return None
    found = said(e, _DENIED, 5 if e.step.status == 126 else LAST)
    if not found:
        return None
    user = "" if e.step.user == "root" else f" (the step runs as {e.step.user})"
    return Finding.of(
        "permission-denied",
        f"permission denied{user}: {found[-1].string}",
        lines_of(found),
        [f"run it as root (user: root in the profile), or let {e.step.user} do it"]
        if e.step.user != "root"
        else ["see owner and mode in the guest: ls -l"],
        weight=Weight.SAID,
    )
