"""Real faults in real guests: each must be named, and nothing where nothing is wrong.

RECORD=1 keeps the evidence of each, on which the rules are tested without a guest.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.runs.diagnosis import bed
from tests.runs.diagnosis.faults import INSIDE, Fault
from tests.support import lab
from tests.support.lab import Vm
from vmlab_tui.guests.ssh import Guest, connect
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.diagnosis.bundle import Diagnosis, diagnose, lines_of
from vmlab_tui.runs.diagnosis.collect import LIMIT, Subject
from vmlab_tui.runs.diagnosis.evidence import Way

pytestmark = pytest.mark.guest

PATIENT = 60.0
"""Seconds for a look at a guest that answers: the machine may be busy."""


async def look(vm: Vm, host: Host, subject: Subject, name: str, limit: float = PATIENT) -> Diagnosis:
    done = await diagnose(Lab(lab.URI, vm.store), host, subject, limit=limit)
    if os.environ.get("RECORD"):
        bed.save(name, done.evidence)
    return done


def wrong(done: Diagnosis, fault: str, says: tuple[str, ...]) -> str:
    """What is not as it should be; empty if it is."""
    cause = done.judgement.cause
    right = (cause is not None and cause.fault == fault) if fault else cause is None
    if right and all(part in (cause.cause if cause else "") for part in says):
        return ""
    return f"{fault or 'nothing'} {says}:\n" + "\n".join(lines_of(done))


async def one(vm: Vm, host: Host, guest: Guest, number: int, fault: Fault) -> str:
    """Seed it, let the step fail, diagnose, undo it."""
    if fault.seed:
        seeded = await guest.execute(fault.seed, timeout=60)
        assert seeded.status == 0, (fault.name, seeded)
    run = bed.FailedRun(Lab(lab.URI, vm.store), vm, number, fault.step, fault.user)
    try:
        assert await run.run(guest) != 0, f"{fault.name}: the step did not fail"
        done = await look(vm, host, run.subject(network=fault.network), fault.name)
        assert done.evidence.way is Way.SSH
        assert done.folder is not None
    finally:
        if fault.undo:
            undone = await guest.execute(fault.undo, timeout=60)
            assert undone.status == 0, (fault.name, undone)
    return wrong(done, fault.fault, fault.says)


async def test_what_fails_inside_a_guest_is_named(host: Host, debian_template: Vm) -> None:
    vm = await lab.fork_of(host, debian_template)
    try:
        bed.lease(vm)
        problems = []
        async with connect(vm.endpoint, timeout=60) as guest:
            await guest.execute(f"date -s @{time.time():.0f}")  # a fork of a test goes on in the past
            healthy = await look(vm, host, bed.subject(vm), "healthy")
            problems.append(wrong(healthy, "", ()))
            assert not healthy.judgement.also
            for number, fault in enumerate(INSIDE):
                problems.append(await one(vm, host, guest, number, fault))
    finally:
        await lab.remove(host, vm)
    assert not any(problems), "\n\n".join(filter(None, problems))


async def test_what_becomes_of_the_machine_is_named(host: Host, debian_template: Vm) -> None:
    vm = await lab.fork_of(host, debian_template)
    problems = []

    async def told(number: int, name: str, fault: str, *says: str, limit: float = LIMIT) -> Diagnosis:
        run = bed.FailedRun(Lab(lab.URI, vm.store), vm, 0x100 + number, "true")
        run.finish(None)
        done = await look(vm, host, run.subject(), name, limit)
        problems.append(wrong(done, fault, says))
        return done

    try:
        bed.lease(vm)
        qemu = int(Path(f"/run/libvirt/qemu/{vm.spec.name}.pid").read_text())
        async with connect(vm.endpoint, timeout=60) as guest:
            keys = f"/home/{vm.endpoint.user}/.ssh/authorized_keys"
            await guest.execute(f"mv {keys} /root/keys")
            refused = await told(
                0, "ssh-key-refused", "ssh-key-refused", "authorized_keys is missing", limit=PATIENT
            )
            assert refused.evidence.way is Way.AGENT, "the agent is the next best way"
            assert not refused.evidence.late
            await guest.execute(f"mv /root/keys {keys}")

            os.kill(qemu, signal.SIGSTOP)
            try:
                await told(1, "guest-hung", "guest-hung", "no answer by SSH and guest agent")
            finally:
                os.kill(qemu, signal.SIGCONT)

            await guest.execute(
                "sysctl -q kernel.panic=0; (sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &"
            )
        await lab_console(vm, "end Kernel panic")
        await told(2, "kernel-panic", "kernel-panic", "sysrq triggered crash")

        os.kill(qemu, signal.SIGKILL)
        while (await host.vitals(vm.uuid)).cpu is not None:
            await asyncio.sleep(0.1)
        await told(3, "qemu-killed", "qemu-killed", "nobody asked libvirt")
    finally:
        await lab.remove(host, vm)
    assert not any(problems), "\n\n".join(filter(None, problems))


async def lab_console(vm: Vm, text: str) -> None:
    """Wait until the guest's console says ``text``."""
    async with asyncio.timeout(120):
        while text not in vm.folder.console.read_text(errors="replace"):
            await asyncio.sleep(0.1)
