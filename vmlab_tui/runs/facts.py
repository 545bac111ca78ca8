"""Facts of a guest, and what differs between two of its states.

Packages, enabled units, listening ports, users, and the paths that a profile declares. Read only when
somebody asks: a run does nothing for it. What a guest cannot tell is not known, which is not none.
"""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.checks.kinds.file import Params as FileCheck
from vmlab_tui.checks.kinds.port import listening
from vmlab_tui.guests.ssh import Guest, connect
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.events import Checkpoint
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.endpoint import endpoint_of
from vmlab_tui.lab.graph import VmEntry
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.plan import PlannedStep
from vmlab_tui.runs.scratch import kept_checkpoints, newest_before, scratch_fork, side_by_side
from vmlab_tui.spec.model import CopyStep, Profile

SECTIONS = ("packages", "units", "ports", "users", "files")
MOST_FILES = 5000
"""Files below one declared path that are looked at; of more none is."""
MOST_CONTENT = 64 << 20
"""Bytes of a file whose content is compared."""
TIMEOUT = 180.0
"""Seconds in which a guest must have told its facts."""

Fact = Mapping[str, str]
"""What is known of one thing: version, state, mode ... all text, cleaned."""

_OWN = re.compile(r"/etc/(hostname|hosts|machine-id|ssh/ssh_host_.*)|/var/lib/dbus/machine-id")
"""Files that a fork has of its own."""


@dataclass(frozen=True)
class Facts:
    """By section and name. A section that is not there is not known; ``unknown`` says why."""

    known: Mapping[str, Mapping[str, Fact]]
    unknown: Mapping[str, str]
    unread: frozenset[str] = frozenset()
    """Files whose content was not read: too large, or not readable."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was. ``before`` None: it is new; ``after`` None: it is gone."""

    section: str
    name: str
    before: Fact | None
    after: Fact | None


@dataclass(frozen=True)
class Diff:
    """What changed, in the order of :data:`SECTIONS`. ``unknown``: why a section could not be compared."""

    changes: tuple[Change, ...]
    unknown: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Moment:
    """A state of a run's VM: at a checkpoint, or (None) as it runs now."""

    checkpoint: Checkpoint | None

    @property
    def told(self) -> str:
        if self.checkpoint is None:
            return "the VM as it runs now"
        return f"checkpoint '{clean_line(self.checkpoint.name, 60)}', after step {self.checkpoint.after:02}"


# -- which states -----------------------------------------------------------------------------------


def moments(view: RunView, vm: VmEntry, number: int | None) -> tuple[Moment, Moment]:
    """The newest state before step ``number`` and the first one after it; None: all of the profile's steps.

    Raises UsageError when the step was not begun or nothing was kept of before, Refused when the VM would
    have to run and does not.
    """
    if number is not None and number not in view.state.steps:
        raise UsageError(
            f"run {view.run_id} has not got to step {number:02}", hint=f"vmlab runs show {view.run_id}"
        )
    kept = kept_checkpoints(vm, view.state.line)
    last = max((step.number for step in view.plan.steps if step.index is not None), default=0)
    before = newest_before(kept, number) if number is not None else next(iter(kept), None)
    if before is None:
        where = "" if number is None else f" before step {number:02}"
        has = ", ".join(clean_line(one.name, 60) for one in kept)
        why = f"no time travel: {view.plan.vm.time_travel}" if view.plan.vm.time_travel else ""
        raise UsageError(
            f"run {view.run_id} has no checkpoint{where} any more: there is nothing to compare with",
            hint=f"its checkpoints: {has}" if has else why or "its VM has no snapshot",
        )
    end = max(number if number is not None else last, before.after + 1)
    after = next((one for one in kept if one.after >= end), None)
    if after is None and vm.power != "on":
        paused = vm.power == "paused"
        raise Refused(
            f"VM {clean_line(vm.name, 60)} is {vm.power}, and there is no checkpoint after what is asked for",
            hint=f"vmlab {'unpause' if paused else 'start'} {vm.uuid}",
        )
    return Moment(before), Moment(after)


def also_between(view: RunView, number: int | None, states: tuple[Moment, Moment]) -> tuple[PlannedStep, ...]:
    """The profile's steps besides ``number`` that were done between the two states."""
    before, after = (one.checkpoint.after if one.checkpoint else len(view.plan.steps) for one in states)
    return tuple(
        step
        for step in view.plan.steps
        if step.index is not None
        and before < step.number <= after
        and step.number != number
        and step.number in view.state.steps
    )


async def facts_between(
    lab: Lab,
    host: Host,
    vm: VmEntry,
    profile: Profile,
    states: tuple[Moment, Moment],
    on_stage: Callable[[str], None],
) -> tuple[Facts, Facts]:
    """The facts of both states, read at the same time; checkpoints by short-lived forks.

    Raises LabError, DeadlineError.
    """
    paths = declared_paths(profile)

    async def one(state: Moment) -> Facts:
        def stage(text: str) -> None:
            on_stage(f"{state.told}: {text}")

        if state.checkpoint is None:
            stage("reading facts")
            async with connect(endpoint_of(lab, vm.uuid)) as guest:
                return await read_facts(guest, paths)
        async with scratch_fork(lab, host, vm, state.checkpoint.name, on_stage=stage) as guest:
            stage("reading facts")
            return await read_facts(guest, paths)

    first, second = await side_by_side([one(state) for state in states])
    return first, second


# -- reading ----------------------------------------------------------------------------------------


def declared_paths(profile: Profile) -> tuple[str, ...]:
    """The guest's paths that a profile speaks of: where it copies to, what it checks, what it fetches.

    The last may be globs.
    """
    copied = [step.to for step in profile.steps if isinstance(step, CopyStep)]
    checked = [one.params.path for one in profile.checks if isinstance(one.params, FileCheck)]
    return tuple(dict.fromkeys([*copied, *checked, *profile.artifacts]))


_SCRIPT = r"""
main() {
  LC_ALL=C; export LC_ALL
  cd / || exit 3
  if command -v dpkg-query >/dev/null 2>&1; then
    echo @packages
    dpkg-query -W -f '${db:Status-Status} ${binary:Package} ${Version}\n' ||
      echo '@unknown packages dpkg-query failed'
  elif rpm --version 2>/dev/null | grep -q '^RPM version'; then
    echo @packages
    rpm -qa --qf 'installed %{NAME}.%{ARCH} %{VERSION}-%{RELEASE}\n' || echo '@unknown packages rpm failed'
  elif command -v apk >/dev/null 2>&1; then
    echo '@packages apk'
    apk info -v 2>/dev/null || echo '@unknown packages apk failed'
  else echo '@unknown packages no package manager that is known (dpkg, rpm, apk)'; fi
  if [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
    echo @units
    systemctl list-unit-files --no-legend --no-pager --full --state=enabled,enabled-runtime ||
      echo '@unknown units systemctl failed'
  else echo '@unknown units no systemd'; fi
  if [ -r /proc/net/tcp ]; then
    for p in tcp udp; do echo "@ports $p"; cat /proc/net/$p /proc/net/${p}6 2>/dev/null; done
  else echo '@unknown ports no /proc/net/tcp'; fi
  if [ -r /etc/passwd ]; then echo @users; cat /etc/passwd; echo
  else echo '@unknown users no /etc/passwd'; fi
  if command -v stat >/dev/null 2>&1 && command -v find >/dev/null 2>&1; then
    echo @files
    paths
  else echo '@unknown files no stat or no find'; fi
  echo @end
}
look() {
  [ -e "$1" ] || [ -L "$1" ] || return 0
  if [ "$(find -H "$1" -xdev | head -n @MOST1@ | wc -l)" -gt @MOST@ ]; then echo "M $1"; return; fi
  find -H "$1" -xdev -exec stat -c 'S %a %s %f %n' {} +
  find -H "$1" -xdev -type l -exec sh -c 'for f; do echo "L $f"; echo "T $(readlink "$f")"; done' - {} +
  find -H "$1" -xdev -type f -size -@BLOCKS@ -exec sha256sum {} +
}
"""


def script(paths: Sequence[str]) -> bytes:
    """The program that tells the facts, for ``sh -s``: POSIX, so that BusyBox will do."""
    text = _SCRIPT.replace("@MOST1@", str(MOST_FILES + 1)).replace("@MOST@", str(MOST_FILES))
    text = text.replace("@BLOCKS@", str(MOST_CONTENT // 512 + 1))
    # without a field separator a glob is expanded, and nothing is split
    looks = "".join(f'  p={shlex.quote(path)}; for f in $p; do look "$f"; done\n' for path in paths)
    text += f"paths() {{\n  IFS=\n{looks}  :\n}}\nmain </dev/null 2>/dev/null\nexit\n"
    return text.encode(errors="surrogateescape")


async def read_facts(guest: Guest, paths: Sequence[str], *, timeout: float = TIMEOUT) -> Facts:
    """Ask the guest, in one channel. Raises LabError, DeadlineError."""
    told = await guest.execute("exec /bin/sh -s", data=script(paths), timeout=timeout)
    if not told.out.rstrip().endswith(b"@end"):
        said = clean_line(told.err.decode(errors="replace"), 200)
        raise LabError(
            f"{guest.endpoint.label}: the guest did not tell its facts to the end"
            + (f": {said}" if said else ""),
            hint=f"vmlab ssh {guest.endpoint.vm}   # and see whether a shell and its tools work there",
        )
    return parse(told.out)


def parse(out: bytes) -> Facts:
    """What :func:`script` printed. Lines that make no sense are left out."""
    known: dict[str, dict[str, Fact]] = {}
    unknown: dict[str, str] = {}
    section, how, ports, files = "", "", {"tcp": [""], "udp": [""]}, _Files()
    for raw in out.decode(errors="replace").split("\n"):
        if raw.startswith("@"):
            section, _, how = raw[1:].partition(" ")
            if section == "unknown":
                name, _, why = how.partition(" ")
                unknown[name] = clean_line(why, 120)
            elif section in SECTIONS:
                known.setdefault(section, {})
        elif section == "ports" and how in ports:
            ports[how].append(raw)
        elif section == "files":
            files.take(raw)
        elif section in ("packages", "units", "users"):
            found = _PARSE[section](raw, how)
            if found:
                known[section][clean_line(found[0], 200)] = {
                    name: clean_line(value, 200) for name, value in found[1].items()
                }
    if "ports" in known:
        for protocol, lines in ports.items():
            for port in sorted(listening("\n".join(lines), protocol)):
                known["ports"][f"{protocol}/{port}"] = {}
    if "files" in known:
        known["files"] = {**files.found}
    for name in unknown:
        known.pop(name, None)
    unread = frozenset(
        name for name, fact in files.found.items() if fact["kind"] == "file" and "sha256" not in fact
    )
    return Facts(known, unknown, unread, tuple(files.notes))


def _package(line: str, how: str) -> tuple[str, Fact] | None:
    if how == "apk":
        parts = line.rsplit("-", 2)
        return (parts[0], {"version": "-".join(parts[1:])}) if len(parts) == 3 else None
    words = line.split(" ")
    return (words[1], {"version": words[2]}) if len(words) == 3 and words[0] == "installed" else None


def _unit(line: str, _how: str) -> tuple[str, Fact] | None:
    words = line.split()
    return (words[0], {"state": words[1]}) if len(words) > 1 else None


def _user(line: str, _how: str) -> tuple[str, Fact] | None:
    fields = line.split(":")
    if len(fields) != 7:
        return None
    return fields[0], {"uid": fields[2], "gid": fields[3], "home": fields[5], "shell": fields[6]}


_PARSE = {"packages": _package, "units": _unit, "users": _user}
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


class _Files:
    """The section of the files, line by line."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, str]] = {}
        self.notes: list[str] = []
        self._link = ""

    def take(self, line: str) -> None:
        if match := re.fullmatch(r"S ([0-7]+) ([0-9]+) ([0-9a-f]+) (.+)", line):
            mode, bytes_, raw, name = match.groups()
            kind = _KINDS.get(stat.S_IFMT(int(raw, 16)), "special")
            fact = {"kind": kind, "mode": mode.zfill(4)}
            if kind == "file":
                fact["size"] = bytes_
            self.found[clean_line(name, 400)] = fact
        elif match := re.fullmatch(r"([0-9a-f]{64})  (.+)", line):
            if (known := self.found.get(clean_line(match[2], 400))) is not None:
                known["sha256"] = match[1]
        elif line.startswith("L "):
            self._link = clean_line(line[2:], 400)
        elif line.startswith("T ") and self._link in self.found:
            self.found[self._link]["to"] = clean_line(line[2:], 400)
        elif line.startswith("M "):
            self.notes.append(f"{clean_line(line[2:], 400)}: more than {MOST_FILES} files, not looked at")


# -- comparing --------------------------------------------------------------------------------------


def differences(before: Facts, after: Facts) -> Diff:
    """What of ``before`` is not so in ``after``; sections that either side does not know are not compared."""
    changes: list[Change] = []
    unknown: dict[str, str] = {}
    own: list[str] = []
    for section in SECTIONS:
        ours, theirs = before.known.get(section), after.known.get(section)
        if ours is None or theirs is None:
            why = before.unknown.get(section) or after.unknown.get(section)
            unknown[section] = why or "the guest did not tell"
            continue
        for name in sorted(ours.keys() | theirs.keys()):
            old, new = ours.get(name), theirs.get(name)
            if not _differ(old, new):
                continue
            if section == "files" and _OWN.fullmatch(name):
                own.append(name)
            else:
                changes.append(Change(section, name, old, new))
    notes = list(dict.fromkeys([*before.notes, *after.notes]))
    if unread := before.unread | after.unread:
        notes.append(f"the content of {len(unread)} files is not known, as of {min(unread)}")
    if own:
        notes.append(f"left out, since every fork has its own: {', '.join(own)}")
    return Diff(tuple(changes), unknown, tuple(notes))


def _differ(old: Fact | None, new: Fact | None) -> bool:
    if old is None or new is None:
        return old is not new
    # what one side could not read says nothing
    names = (old.keys() | new.keys()) - ({"sha256"} - (old.keys() & new.keys()))
    return any(old.get(name) != new.get(name) for name in names)
