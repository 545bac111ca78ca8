"""What comes to be in the very instant in which a clean-up moves something: forced at its sync points."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.lab.test_sweep import _stopped, power
from tests.lab.zoobed import keys, vmlab
from tests.support import forked
from tests.support.zoo import Zoo, libvirt_state, overlay, state_of, virsh

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the system's libvirt")


def cleaning(faults: str) -> subprocess.Popen[str]:
    """A clean-up that is on its way, standing at the first point of ``faults``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vmlab_tui", "clean", "--yes", "--json"],
        env={**os.environ, "VMLAB_FAULT": faults},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _stopped(process)
    return process


def ended(process: subprocess.Popen[str]) -> dict[str, object]:
    process.send_signal(signal.SIGCONT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()  # if it stands at a point once more
    assert process.returncode == 1, (process.returncode, err)
    found: dict[str, object] = json.loads(out)
    return found


@pytest.mark.parametrize("point", ["looked", "intent", "saved", "undefined", "moved"])
def test_whoever_comes_to_stand_on_a_disk_meanwhile_keeps_it(zoo: Zoo, point: str) -> None:
    dead = zoo.vm("dead", "never-was")
    base = zoo.store.vms / dead / "disk.qcow2"
    process = cleaning(f"clean.{point}:stop")
    over = overlay(zoo.outside / "late.qcow2", base)
    assert keys(ended(process), "results", state="back") == {f"vm:{dead}"}
    assert dead in virsh("list", "--all", "--uuid")
    subprocess.run(["qemu-img", "check", "-q", over], check=True)


def test_a_base_stays_when_what_stood_on_it_came_back(zoo: Zoo) -> None:
    """And it has not moved for a moment: the next item is decided by a look after the coming back."""
    lower = zoo.vm("lower", "never-was")
    upper = zoo.vm("upper", "never-was", disk=zoo.store.vms / lower / "disk.qcow2")
    before = state_of([zoo.store.vms])
    # a second item that gets as far as being moved kills it, with the chain torn
    process = cleaning("clean.moved:stop")
    assert not (zoo.store.vms / upper).exists()
    over = overlay(zoo.outside / "late.qcow2", zoo.store.vms / upper / "disk.qcow2")
    found = ended(process)
    assert keys(found, "results", state="back") == {f"vm:{upper}"}
    assert keys(found, "results", state="skipped") == {f"vm:{lower}"}
    assert state_of([zoo.store.vms]) == before
    subprocess.run(["qemu-img", "check", "-q", over], check=True)


def test_a_domain_defined_meanwhile_and_an_image_used_meanwhile_keep_what_they_name(
    zoo: Zoo,
) -> None:
    zoo.image("ci-2", age=8e6)
    image = zoo.image("ci-1", age=9e6)
    process = cleaning("clean.intent:stop")
    other = zoo.define(f"zoo-late-{os.getpid()}", [image])
    assert keys(ended(process), "results", state="back") == {"image:ci-1"}
    virsh("start", other, "--paused")
    assert image.exists()


def test_killed_with_something_in_the_trash_that_is_in_use_the_next_call_brings_it_back(
    zoo: Zoo,
) -> None:
    lower = zoo.vm("lower", "never-was")
    upper = zoo.vm("upper", "never-was", disk=zoo.store.vms / lower / "disk.qcow2")
    folders, defined = [zoo.store.vms], libvirt_state([lower, upper])
    before = state_of(folders)
    process = cleaning("clean.looked:stop,clean.done:kill")
    over = overlay(zoo.outside / "late.qcow2", zoo.store.vms / upper / "disk.qcow2")
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (zoo.store.vms / upper).exists()
    again = vmlab("clean", "--yes")
    assert again["items"] == []
    assert state_of(folders) == before
    assert libvirt_state([lower, upper]) == defined
    subprocess.run(["qemu-img", "check", "-q", over], check=True)


def test_an_overlay_on_a_disk_in_the_trash_itself_is_left_alone(zoo: Zoo) -> None:
    """And what that disk stands on stays where it is."""
    lower = zoo.vm("lower", "never-was")
    upper = zoo.vm("upper", "never-was", disk=zoo.store.vms / lower / "disk.qcow2")
    vmlab("clean", "--yes", "--only", f"vm:{upper}")
    (lies,) = zoo.store.trash.glob("*/*/disk.qcow2")
    over = overlay(zoo.outside / "rescued.qcow2", lies)
    assert vmlab("clean", "--yes")["items"] == []
    assert lies.exists(), "to bring it back would take it away from there"
    assert keys(vmlab("trash", "empty", "--yes"), "skipped")
    assert not (zoo.store.vms / upper).exists()
    subprocess.run(["qemu-img", "check", "-q", over], check=True)


def test_a_paused_vm_comes_back_paused(zoo: Zoo) -> None:
    dead = zoo.vm("dead", "never-was")
    virsh("start", dead, "--paused")
    vmlab("clean", "--yes")
    vmlab("undo")
    assert power(dead) == "paused"


@pytest.mark.parametrize("point", ["saved", "done"])
def test_killed_while_stopping_an_expired_vm_a_second_call_finishes(
    zoo: Zoo,
    point: str,
) -> None:
    late = zoo.vm("late", "never-was", expires="2020-01-01T00:00:00+00:00", keep=True)
    virsh("start", late)
    process = cleaning(f"clean.intent:stop,clean.{point}:kill")
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    if point == "saved":
        vmlab("clean", "--class", "expired", "--yes")
    assert power(late) == "shut off"
    for killed in ("undo.intent", "undo.done"):
        done = forked.run("undo", env={"VMLAB_FAULT": f"{killed}:kill"})
        assert done.returncode == -signal.SIGKILL
    vmlab("undo")
    assert power(late) == "running"
    assert not list(zoo.store.trash.glob("[!.]*"))


def test_killed_while_emptying_the_next_call_gives_the_ports_up(zoo: Zoo) -> None:
    dead = zoo.vm("dead", "never-was")
    ports = zoo.store.root / "ports.json"
    ports.write_text(json.dumps({"schema": 1, "ports": {"22990": f"{dead}/ssh"}}))
    vmlab("clean", "--yes")
    done = forked.run("trash", "empty", "--yes", env={"VMLAB_FAULT": "clean.emptied:kill"})
    assert done.returncode == -signal.SIGKILL
    assert not list(zoo.store.trash.glob("[!.]*"))
    assert "22990" in ports.read_text()
    assert keys(vmlab("clean", "--yes"), "results", state="done") == {f"ports:{dead}"}
    assert "22990" not in ports.read_text()


def test_two_names_of_one_file_come_back_once_both_go(zoo: Zoo) -> None:
    one = zoo.former("one")
    os.link(one, one.with_name("two.qcow2"))
    shown = vmlab("clean")
    assert keys(shown, "items") == {"file:one.qcow2", "file:two.qcow2"}
    assert shown["frees"] == one.stat().st_blocks * 512
    assert vmlab("clean", "--only", "file:one.qcow2")["frees"] == 0
