"""The verbs on VMs on a real guest: under a live run through its worker, on a kept VM, on a foreign one."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runs.command import Said, vmlab
from vmlab_tui.base.ids import new_uuid
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power

pytestmark = pytest.mark.guest

PROFILE = """\
schema: 1
name: verbs
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
on_fail: pause
steps:
  - {{name: waits, run: "while ! test -e /root/go; do sleep 0.2; done; exit 1"}}
"""


async def until(store: Store, run: str, text: str) -> None:
    """Wait until the run's journal says ``text``."""
    async with asyncio.timeout(120):
        while text not in (store.run(run) / "journal.jsonl").read_text():
            await asyncio.sleep(0.2)


async def ok(store: Store, *words: str) -> Said:
    said = await vmlab(store, *words)
    assert said.status == 0, (words, said.out, said.err)
    return said


async def test_a_vm_from_its_live_run_to_its_end(
    lab_store: Store, tiny_image: str, tmp_path: Path, host: Host
) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE.format(image=tiny_image))
    started = await vmlab(lab_store, "run", path, "--detach", "--json")
    run = str(started.data["run"])
    await until(lab_store, run, '"kind":"step_started","data":{"number":10')
    shown = (await ok(lab_store, "show", run, "--json")).data
    uuid, name = shown["uuid"], shown["name"]
    assert (shown["power"], shown["run_status"]) == ("on", "running")

    # a step is in flight: harmless things are done by the worker, nothing is taken away from under it
    await ok(lab_store, "pause", name)
    assert await host.power(uuid) is Power.PAUSED
    silent = await vmlab(lab_store, "ssh", name, "--", "true")
    assert silent.status == 4
    assert "is paused" in silent.err
    await ok(lab_store, "unpause", name)
    await ok(lab_store, "snapshot", "create", name, "mid", "--description", "while it waits")
    refused = await vmlab(lab_store, "snapshot", "revert", name, "mid", "--yes")
    assert refused.status == 3
    assert "at step 10 'waits'" in refused.err
    notes = [note["text"] for note in (await ok(lab_store, "runs", "show", run, "--json")).data["notes"]]
    asked = [text.partition(", asked by ")[0] for text in notes]
    assert asked == ["pause", "unpause", "snapshot 'mid'"]
    commands = (await ok(lab_store, "runs", "logs", run, "commands")).out
    for part in (f"start {name}", f"suspend {name}", f"snapshot-create-as {name} mid", "qemu-img create"):
        assert part in commands, part
    assert f"snapshot-revert {name}" not in commands

    # paused after the failure: now one may go back, and the guest is where it was
    await ok(lab_store, "ssh", run, "--", "sudo", "touch", "/root/go")
    await until(lab_store, run, '"kind":"paused"')
    went = (await ok(lab_store, "snapshot", "revert", name, "mid", "--yes", "--json")).data
    assert (went["power"], went["clock"]) == ("on", None), "what the worker says of it arrives"
    notes = [note["text"] for note in (await ok(lab_store, "runs", "show", run, "--json")).data["notes"]]
    assert any(went["safety"] in text for text in notes)
    assert (await vmlab(lab_store, "ssh", run, "--", "sudo", "test", "-e", "/root/go")).status == 1
    assert (await ok(lab_store, "snapshot", "delete", name, "mid", "--yes", "--json")).data["freed"] > 0
    # deleting ends a run first, by its worker; what comes back is the VM as it was, and the run stays ended
    await ok(lab_store, "delete", name, "--yes")
    assert await host.domain(uuid) is None
    await ok(lab_store, "undo", name)
    assert await host.power(uuid) is Power.ON
    assert (await ok(lab_store, "runs", "show", run, "--json")).data["status"] == "failed"

    # a kept VM whose run is over: nobody but us works on it
    late = await vmlab(lab_store, "shutdown", "--wait", "0", name)
    assert late.status == 0
    await ok(lab_store, "off", name, "--yes")
    assert await host.power(uuid) is Power.OFF
    made = (await ok(lab_store, "snapshot", "create", name, "--json")).data["snapshot"]
    assert made["memory"] is False
    back = (await ok(lab_store, "snapshot", "revert", name, "clean-boot", "--yes", "--json")).data
    assert back["power"] == "on"
    await ok(lab_store, "ssh", run, "--", "true")
    await ok(lab_store, "reboot", "--reset", name, "--yes")
    listed = (await ok(lab_store, "snapshot", "list", name, "--json")).data["snapshots"]
    safeties = [went["safety"], back["safety"]]
    assert [one["name"] for one in listed if one["name"] not in safeties] == ["clean-boot", made["name"]]
    assert len(listed) == 4
    both = await vmlab(lab_store, "delete", name, "nobody", "--yes", "--json")
    assert both.status == 2
    assert [one["ok"] for one in json.loads(both.out)["vms"]] == [True, False]
    assert await host.domain(uuid) is None
    assert list(lab_store.vms.iterdir()) == []


@pytest.fixture
def stranger() -> Iterator[tuple[str, str]]:
    """A domain defined with plain virsh, without disk and lease: (name, uuid)."""
    uuid = new_uuid()
    name = f"stranger-{uuid[:8]}"
    xml = f"""<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory>
    <vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>"""
    virsh = ["virsh", "-q", "-c", "qemu:///system"]
    subprocess.run([*virsh, "define", "/dev/stdin"], input=xml, text=True, check=True, capture_output=True)
    try:
        yield name, uuid
    finally:
        subprocess.run([*virsh, "destroy", uuid], capture_output=True)
        subprocess.run([*virsh, "undefine", uuid], check=True, capture_output=True)


async def test_a_foreign_vm_is_used_with_consent_and_never_deleted(
    lab_store: Store, stranger: tuple[str, str], host: Host
) -> None:
    name, uuid = stranger

    async def power(*words: str) -> Any:
        said = await vmlab(lab_store, *words, "--json")
        assert said.status == 0, said.err
        return said.data["vms"][0]["power"]

    alone = await vmlab(lab_store, "start", name)
    assert alone.status == 3
    assert "carries no vmlab lease" in alone.err
    assert await host.power(uuid) is Power.OFF
    assert await power("start", name, "--yes") == "on"
    assert await power("pause", uuid, "--yes") == "paused"
    assert await power("unpause", name, "--yes") == "on"
    no = await vmlab(lab_store, "snapshot", "create", name, "--yes")
    assert no.status == 3
    assert "no time travel" in no.err
    assert await power("off", name, "--yes") == "off"
    for words in (("delete", name), ("snapshot", "revert", name, "x"), ("snapshot", "delete", name, "x")):
        kept = await vmlab(lab_store, *words, "--yes")
        assert kept.status == 3
        assert "vmlab leaves it alone" in kept.err
        assert "virsh -c" in kept.err
    assert await host.domain(uuid) is not None
