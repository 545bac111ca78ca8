"""A VM that runs goes to the trash with its memory: a process in it counts on after it came back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from tests.lab.zoobed import keys, vmlab
from tests.support import lab
from tests.support.lab import Vm
from vmlab_tui.guests.ssh import connect
from vmlab_tui.hosts.host import Host

pytestmark = pytest.mark.guest

COUNT = "nohup sh -c 'n=0; while :; do n=$((n+1)); echo $n > /tmp/count; sleep 0.5; done' >/dev/null 2>&1 &"


async def count(vm: Vm) -> int:
    async with connect(vm.endpoint, timeout=60) as guest:
        return int((await guest.execute("sleep 1; cat /tmp/count", timeout=60)).out)


async def test_a_process_counts_on_after_clean_and_undo(
    host: Host, tiny_template: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMLAB_STORE", str(tiny_template.store.root))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", lab.URI)
    vm = await lab.fork_of(host, tiny_template)
    gone = replace(vm)
    try:
        data = {"schema": 1, "uuid": vm.uuid, "name": vm.spec.name, "run_id": "never-was", "profile": "p"}
        data |= {"image": "tiny", "owner": "me", "created": "2020-01-01T00:00:00+00:00"}
        (vm.folder.path / "lease.json").write_text(json.dumps(data))
        async with connect(vm.endpoint, timeout=60) as guest:
            await guest.execute(COUNT, timeout=60)
        await asyncio.sleep(3)
        before = await count(vm)
        assert before > 1
        cleaned = await asyncio.to_thread(vmlab, "clean", "--yes", "--only", f"vm:{vm.uuid}")
        assert keys(cleaned, "results", state="done") == {f"vm:{vm.uuid}"}
        assert await host.domain(vm.uuid) is None
        assert not vm.folder.path.exists()
        await asyncio.to_thread(vmlab, "undo")
        await lab.wait_for(host, gone, 60)
        first = await count(vm)
        await asyncio.sleep(2)
        assert before <= first < await count(vm)
        snapshots = await host.snapshots(vm.uuid)
        assert [one.name for one in snapshots] == [lab.READY]
    finally:
        await lab.remove(host, vm)
