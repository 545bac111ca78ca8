"""KVM or emulation: decided by the clock, because /dev/kvm opens on machines where guests crawl."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.errors import DeadlineError, LabError, Refused, UsageError
from vmlab_tui.base.paths import cache_dir, write_durably
from vmlab_tui.base.proc import arun
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.model import Accel
from vmlab_tui.hosts.payload import EXIT_PORT, EXIT_STATUS, counter

QEMU = "qemu-system-x86_64"
KVM_DEVICE = Path("/dev/kvm")
COUNT = 100_000_000
"""Rounds of the payload: about 0.9 s of emulation, 0.05 s of a real CPU."""
_FASTER = 0.8  # KVM must need at most this share of what emulation needs
_TCG_LIMIT = 60.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class AccelChoice:
    """What a VM is run with. ``kvm`` and ``tcg``: seconds of the payload, or None."""

    accel: Accel
    reason: str
    kvm: float | None = None
    tcg: float | None = None


async def choose_accel(wish: str, *, cache: Path | None = None) -> AccelChoice:
    """What ``auto``, ``kvm`` or ``tcg`` means on this machine, with the reason in one line.

    ``auto`` boots a 512-byte payload once per start of the host and version of QEMU (about 2 s, then
    cached). Raises UsageError for another word, Refused for ``kvm`` without /dev/kvm, LabError
    without QEMU.
    """
    if wish == Accel.TCG:
        return AccelChoice(Accel.TCG, "emulation (tcg), as asked for")
    lacking = _kvm_lacking()
    if wish == Accel.KVM:
        if lacking:
            raise Refused(f"accel: kvm is not possible: {lacking}", hint="use accel: auto or tcg")
        return AccelChoice(Accel.KVM, "KVM, as asked for")
    if wish != "auto":
        raise UsageError(f"accel: '{wish[:40]}' is not one of auto, kvm, tcg")
    if lacking:
        return AccelChoice(Accel.TCG, f"emulation (tcg): {lacking}")
    file = (cache or cache_dir()) / "accel.json"
    version = (await arun([QEMU, "--version"])).text.splitlines()[0]
    key = f"{_boot_id()} {version} {COUNT}"
    if known := _load(file, key):
        return known
    choice = await measure()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    record = {"schema": 1, "key": key, "accel": choice.accel, "reason": choice.reason}
    write_durably(file, json.dumps(record | {"kvm": choice.kvm, "tcg": choice.tcg}))
    return choice


def _kvm_lacking() -> str:
    if not KVM_DEVICE.exists():
        return f"{KVM_DEVICE} does not exist"
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return f"{KVM_DEVICE} may not be opened (usermod -aG kvm USER)"
    return ""


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _load(file: Path, key: str) -> AccelChoice | None:
    try:
        record = json.loads(file.read_bytes())
        if record["schema"] != 1 or record["key"] != key:
            return None
        return AccelChoice(Accel(record["accel"]), str(record["reason"]), record["kvm"], record["tcg"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it can be measured again


async def measure(count: int = COUNT) -> AccelChoice:
    """Time the payload under emulation, then under KVM for at most about as long. Not cached."""
    tcg = await time_payload(Accel.TCG, count, _TCG_LIMIT)
    if tcg.seconds is None:
        raise LabError(f"{QEMU} does not run a boot sector: {tcg.trouble}", hint=f"try: {QEMU} -display none")
    limit = max(1.0, tcg.seconds)
    kvm = await time_payload(Accel.KVM, count, limit)
    if kvm.seconds is not None and kvm.seconds > _FASTER * tcg.seconds:
        # done, yet not faster: a busy moment may have been to blame, and the answer is kept for long
        kvm = min(kvm, await time_payload(Accel.KVM, count, limit), key=lambda one: one.seconds or limit)
    slow, fast = f"emulation took {tcg.seconds:.2f} s", kvm.seconds
    if fast is None:
        reason = f"emulation (tcg): /dev/kvm opens, but a test payload {kvm.trouble}; {slow}"
        return AccelChoice(Accel.TCG, reason, None, tcg.seconds)
    if fast <= _FASTER * tcg.seconds:
        return AccelChoice(Accel.KVM, f"KVM: a test payload took {fast:.2f} s, {slow}", fast, tcg.seconds)
    reason = f"emulation (tcg): KVM is not faster, a test payload took {fast:.2f} s; {slow}"
    return AccelChoice(Accel.TCG, reason, fast, tcg.seconds)


@dataclass(frozen=True)
class Timing:
    """``seconds`` from starting QEMU to the payload's exit, or None and what went wrong."""

    seconds: float | None
    trouble: str = ""


async def time_payload(accel: Accel, count: int, limit: float, *, cpu: str = "") -> Timing:
    """Run the payload, on the CPU model that VMs get; QEMU is killed after ``limit`` seconds."""
    with tempfile.NamedTemporaryFile(prefix="vmlab-payload-") as file:
        file.write(counter(count))
        file.flush()
        argv = [
            *(QEMU, "-machine", f"pc,accel={accel}"),
            *("-cpu", cpu or ("host" if accel is Accel.KVM else "max")),
            *("-m", "16", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-drive", f"file={file.name},format=raw,if=floppy,readonly=on"),
            *("-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"),
        ]
        begin = time.monotonic()
        try:
            done = await arun(argv, timeout=limit, check=False, bound=True)
        except DeadlineError:
            return Timing(None, f"was not done after {limit:.1f} s")
        if done.status == EXIT_STATUS:
            return Timing(time.monotonic() - begin)
        words = clean_line(done.err.strip().split(b"\n")[0], 120).removeprefix(f"{QEMU}: ")
        return Timing(None, f"failed ({words or f'exit status {done.status}'})")
