"""Rules on the machine: QEMU, the kernel, whether the guest answers."""

from __future__ import annotations

import re
from datetime import datetime

from vmlab_tui.base.units import span
from vmlab_tui.hosts.model import Power
from vmlab_tui.runs.diagnosis.evidence import Evidence, Ssh
from vmlab_tui.runs.diagnosis.finding import Finding, Weight, machine

_STARTED = re.compile(r"^(\S+ \S+): starting up\b", re.M)
_SIGNAL = re.compile(r"terminating on signal (\d+) from pid (\d+) \(([^)]*)\)")
_BOOT = re.compile(r"Linux version \d|SeaBIOS|GNU GRUB")
_AGAIN = re.compile(r"Linux version \d|login: ")
_PANIC = re.compile(r"Kernel panic - not syncing: (.*?)(?: \]---.*)?$", re.M)
_LOUD = re.compile(
    r"Kernel panic|BUG:|Oops|soft lockup|hung_task|blocked for more than|rcu.*stall|Call Trace|RIP:"
)
_SILENT = 10.0
"""Seconds without a word on the console after which a guest that does not answer counts as hung."""
_STARTING = 90.0
"""The same for one that has not come to a login yet."""


def qemu_gone(e: Evidence) -> Finding | None:
    """QEMU ended: killed, crashed, or stopped by somebody."""
    if e.gone:
        return Finding.of(
            "no-vm",
            f"VM {e.vm} does not exist any more: libvirt does not know it",
            todo=["start another run; vmlab clean shows what is left of this one"],
            weight=machine(e),
        )
    if e.power not in (Power.OFF, Power.CRASHED):
        return None
    starts = list(_STARTED.finditer(e.qemu_log))
    last = e.qemu_log[starts[-1].start() :].splitlines() if starts else e.qemu_log.splitlines()
    told = [
        line
        for line in last
        if line.strip() and not line.startswith((" ", "-", "/", "LC_ALL", "HOME", "XDG"))
    ]
    why = [f"libvirt: {e.power.value}, {e.reason or 'no reason given'}", *told[-4:]]
    todo = [f"vmlab start {e.vm}"]
    signal = next((found for line in reversed(last) if (found := _SIGNAL.search(line))), None)
    by_libvirt = signal is not None and "libvirt" in signal[3]
    if e.reason in ("crashed", "failed", "panicked") or (signal and not by_libvirt):
        by = (
            f", by signal {signal[1]} of process {signal[2]} ({signal[3]})"
            if signal and not by_libvirt
            else ""
        )
        return Finding.of(
            "qemu-killed",
            f"QEMU of VM {e.vm} was killed or crashed{by}: nobody asked libvirt to stop it",
            [*why, *(line for line in e.lines("host-kernel") if "qemu" in line)],
            [*todo, "look for an OOM kill on this machine: dmesg | grep -i killed"],
            weight=machine(e),
        )
    how = {
        "shutdown": "it was shut down from inside",
        "destroyed": "its plug was pulled (virsh destroy, vmlab off)",
        "saved": "its memory was saved and it was stopped (virsh managedsave)",
        "from snapshot": "it went back to a snapshot without memory",
        "daemon": "libvirt lost track of it when its daemon was restarted",
    }.get(e.reason, "nobody knows since when")
    return Finding.of("vm-off", f"VM {e.vm} is off: {how}", why, todo, weight=machine(e))


def paused(e: Evidence) -> Finding | None:
    """Its CPUs stand still: by somebody, or because the host's disk refused to write."""
    if e.power is not Power.PAUSED:
        return None
    if e.reason in ("I/O error", "watchdog", "crashed"):
        cause = f"QEMU has stopped VM {e.vm}: {e.reason}"
        hint = "see how full this machine's disk is: df -h; then vmlab unpause " + e.vm
        return Finding.of("vm-stopped", cause, [f"libvirt: paused, {e.reason}"], [hint], weight=machine(e))
    return Finding.of(
        "vm-paused",
        f"VM {e.vm} is paused: nothing in it answers",
        [f"libvirt: paused, {e.reason or 'no reason given'}"],
        [f"vmlab unpause {e.vm}"],
        weight=machine(e),
    )


def _since_boot(console: str) -> str:
    """The console from its last sign of a fresh start on."""
    starts = [found.start() for found in _BOOT.finditer(console)]
    return console[starts[-1] :] if starts else console


def panic(e: Evidence) -> Finding | None:
    """The kernel gave up."""
    found = list(_PANIC.finditer(e.console))
    if not found:
        return None
    last = found[-1]
    over = bool(_AGAIN.search(e.console, last.end())) or e.answers
    begin = e.console.rfind("\n", 0, max(0, last.start() - 1500)) + 1
    around = [line for line in e.console[begin : last.end() + 200].splitlines() if _LOUD.search(line)]
    return Finding.of(
        "kernel-panic",
        f"the guest's kernel panicked: {last[1].strip()}" + (" (it has started anew since)" if over else ""),
        around[-6:],
        [f"vmlab reboot --reset {e.vm}", "or back to a snapshot: vmlab snapshot revert " + e.vm],
        weight=Weight.BESIDE if over and not e.unfinished else machine(e),
    )


def hung(e: Evidence) -> Finding | None:
    """It runs, and answers neither by SSH nor by its agent."""
    if e.power is not Power.ON or e.answers or e.agent or e.ssh in (Ssh.REFUSED_KEY, Ssh.OTHER_KEY):
        return None
    if e.ssh is Ssh.UNTRIED or _PANIC.search(_since_boot(e.console)):
        return None
    enough = _STARTING if _is_starting(e) else _SILENT
    if e.silent is not None and e.silent < enough:
        return None  # it is at work on something, most likely on starting
    last = next((line for line in reversed(e.console.splitlines()) if line.strip()), "")
    silence = "no word on the console" if e.silent is None else f"the console is silent for {span(e.silent)}"
    cpu = "" if e.cpu is None else f", its CPUs are at {e.cpu:.0%}"
    return Finding.of(
        "guest-hung",
        f"the guest hangs: no answer by SSH and guest agent, {silence}{cpu}",
        [
            f"SSH: {e.ssh_said}",
            f"agent: {e.agent_said}",
            *_loud(e.console),
            f"console: {last}" if last else "",
        ],
        [f"look at its console: vmlab console {e.vm}", f"vmlab reboot --reset {e.vm}"],
        weight=machine(e),
    )


def _is_starting(e: Evidence) -> bool:
    """Whether it has not come to a login since its kernel, or its QEMU, started."""
    boots = [found.start() for found in _BOOT.finditer(e.console)]
    if boots:
        return "login:" not in e.console[boots[-1] :]
    starts = list(_STARTED.finditer(e.qemu_log))
    if not starts or "-loadvm" in e.qemu_log[starts[-1].start() :]:
        return False
    try:
        began = datetime.fromisoformat(starts[-1][1]).timestamp()
    except ValueError:
        return False
    return e.host_time - began < _STARTING


def _loud(console: str) -> list[str]:
    return [line for line in _since_boot(console).splitlines() if _LOUD.search(line)][-4:]


def key_refused(e: Evidence) -> Finding | None:
    """SSH answers, and lets the lab's key not in."""
    if e.ssh is not Ssh.REFUSED_KEY:
        return None
    told = e.lines("logins")
    home = next(
        (line.split()[-1] for line in told if line.startswith("user ") and len(line.split()) == 3), ""
    )
    missing = [line for line in told if "No such file" in line]
    detail = ""
    if missing:
        detail = f": {home}/.ssh/authorized_keys is missing"
    elif refused := next((line[2:] for line in told if "Authentication refused" in line), ""):
        detail = f": {refused}"
    elif told and not home:
        detail = ": the user does not exist in the guest"
    return Finding.of(
        "ssh-key-refused",
        "the guest refuses the lab's SSH key" + detail,
        [e.ssh_said, *(line for line in told if not line.startswith("user "))],
        ["back to a snapshot from before: vmlab snapshot revert " + e.vm]
        + ([f"the guest agent still works: virsh qemu-agent-command {e.vm} ..."] if e.agent else []),
        weight=machine(e),
    )


def no_ssh(e: Evidence) -> Finding | None:
    """The guest lives, and its SSH server does not, or is another's."""
    if e.ssh is Ssh.OTHER_KEY:
        return Finding.of(
            "ssh-host-key",
            "another SSH host key answers than the one pinned for this VM",
            [e.ssh_said],
            ["the guest has made new keys, or another program listens on the port: ss -ltnp"],
            weight=machine(e),
        )
    if e.ssh not in (Ssh.SILENT, Ssh.CLOSED) or not e.agent or e.power is not Power.ON:
        return None
    return Finding.of(
        "no-ssh-server",
        "the guest lives (its agent answers), but its SSH server does not",
        [e.ssh_said, *(line for line in e.lines("logins") if not line.startswith("user "))],
        ["in the guest: systemctl status ssh; journalctl -u ssh"],
        weight=machine(e),
    )
