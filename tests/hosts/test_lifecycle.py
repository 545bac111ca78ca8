"""A VM's life on the real libvirtd."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Accel, Mark, Power

pytestmark = pytest.mark.guest
NOBODY = "00000000-0000-4000-8000-00000000dead"


async def test_define_start_look_stop_undefine(bench: Any) -> None:
    host, spec = bench.host, bench.spec(bench.ticker())
    await host.define(spec)
    await host.define(spec)  # again: no harm
    assert await host.power(spec.uuid) is Power.OFF
    await host.start(spec.uuid)
    await host.start(spec.uuid)
    assert await host.power(spec.uuid) is Power.ON
    await bench.ticked(spec, 3)
    seen = await host.domain(spec.uuid)
    assert (seen.name, seen.cpus, seen.memory, seen.persistent) == (spec.name, 1, 32 << 20, True)
    assert seen.mark == Mark("0.1", "run-1", str(bench.root))
    assert seen.disks == (spec.disk, spec.seed)
    assert set(seen.files) == {spec.disk, spec.chain[0][0], spec.seed, spec.console_log}
    assert seen.uuid in {one.uuid for one in await host.domains()}
    await host.suspend(spec.uuid)
    await host.suspend(spec.uuid)
    assert await host.power(spec.uuid) is Power.PAUSED
    await host.resume(spec.uuid)
    assert await host.power(spec.uuid) is Power.ON
    assert await host.destroy(spec.uuid) is True
    assert await host.destroy(spec.uuid) is False
    assert await host.undefine(spec.uuid) is True
    assert await host.undefine(spec.uuid) is False
    assert await host.domain(spec.uuid) is None
    assert spec.disk.exists()


async def test_files_of_the_live_and_of_the_stored_definition_are_both_named(bench: Any) -> None:
    spec = bench.spec(bench.ticker())
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    await bench.host.define(replace(spec, seed=spec.disk.parent / "other.iso"))
    seen = await bench.host.domain(spec.uuid)
    assert {spec.seed, spec.disk.parent / "other.iso"} <= set(seen.files)


async def test_what_is_not_there_is_not_found_by_name(bench: Any) -> None:
    for call in (bench.host.start, bench.host.power, bench.host.snapshots):
        with pytest.raises(NotFound, match=NOBODY):
            await call(NOBODY)
    assert await bench.host.destroy(NOBODY) is False


async def test_image_and_layers_keep_owner_mode_and_content(bench: Any) -> None:
    spec = bench.spec(bench.ticker(), copies=1)
    image, layer = spec.chain[1][0], spec.chain[0][0]
    before = bench.fingerprint(image), bench.fingerprint(layer)
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    assert (bench.fingerprint(image), bench.fingerprint(layer)) == before
    await bench.ticked(spec, 1)
    await bench.host.create_snapshot(spec.uuid, "one")
    await bench.host.revert(spec.uuid, "one")
    await bench.host.destroy(spec.uuid)
    await bench.host.undefine(spec.uuid)
    assert (bench.fingerprint(image), bench.fingerprint(layer)) == before
    assert before[0][:3] == (0o100444, os.getuid(), os.getgid())


async def test_console_log_is_kept_over_stop_and_start(bench: Any) -> None:
    spec = bench.spec(bench.ticker())
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    await bench.ticked(spec, 3)
    await bench.host.destroy(spec.uuid)
    first = bench.numbers(spec.console_log)
    await bench.host.start(spec.uuid)
    second = await bench.ticked(spec, 2, since=len(first))
    assert first[:3] == [0, 1, 2]
    assert 0 in second  # the second boot counts from the beginning, after the first one's lines
    assert bench.numbers(spec.console_log)[: len(first)] == first


async def test_events_come_on_the_loop(bench: Any) -> None:
    spec, seen = bench.spec(bench.ticker()), []
    loop = asyncio.get_running_loop()

    def note(kind: str, uuid: str, detail: str) -> None:
        assert asyncio.get_running_loop() is loop
        if uuid == spec.uuid:
            seen.append((kind, detail))

    stop = bench.host.on_event(note)
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    await bench.host.destroy(spec.uuid)
    await bench.until(lambda: ("stopped", "destroyed") in seen)
    assert ("defined", "added") in seen
    assert ("started", "booted") in seen
    stop()
    await bench.host.undefine(spec.uuid)
    await asyncio.sleep(0.3)
    assert not [one for one in seen if one[0] == "undefined"]


_TRANSIENT = """
import asyncio, pickle, sys
from vmlab_tui.hosts.host import Host
async def main():
    host = await Host.connect({uri!r})
    await host.start_transient(pickle.loads(sys.stdin.buffer.read()))
    print("up", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_transient_vm_ends_with_a_killed_process(bench: Any) -> None:
    import pickle

    spec = bench.spec(bench.ticker())
    script = _TRANSIENT.format(uri=bench.uri)
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        child.stdin.write(pickle.dumps(spec))
        child.stdin.close()
        line = await asyncio.to_thread(child.stdout.readline)
        assert line == b"up\n"
        assert await bench.host.power(spec.uuid) is Power.ON
        os.kill(child.pid, signal.SIGKILL)
    for _ in range(200):
        if await bench.host.domain(spec.uuid) is None:
            break
        await asyncio.sleep(0.05)
    assert await bench.host.domain(spec.uuid) is None


async def test_transient_vm_ends_with_close(bench: Any) -> None:
    spec = bench.spec(bench.ticker())
    async with Host.open(bench.uri) as host:
        await host.start_transient(spec)
        seen = await host.domain(spec.uuid)
        assert seen and not seen.persistent
    for _ in range(200):
        if await bench.host.domain(spec.uuid) is None:
            break
        await asyncio.sleep(0.05)
    assert await bench.host.domain(spec.uuid) is None


async def test_errors_name_the_vm_and_what_to_do(bench: Any) -> None:
    spec = bench.spec(bench.ticker())
    with socket_on(spec.forwards[0].host_port):
        await bench.host.define(spec)
        with pytest.raises(LabError, match=spec.name) as caught:
            await bench.host.start(spec.uuid)
    assert "listens on that port" in caught.value.hint
    other = replace(bench.spec(bench.ticker()), name=spec.name)
    with pytest.raises(LabError, match=spec.name) as caught:
        await bench.host.define(other)
    assert "different" in caught.value.hint
    with pytest.raises(LabError) as caught:
        await bench.host.agent(spec.uuid, "guest-ping")
    assert spec.name in caught.value.message


async def test_the_overlay_of_a_running_vm_is_in_use(bench: Any) -> None:
    spec = bench.spec(bench.ticker())
    twin = replace(bench.spec(bench.ticker()), disk=spec.disk, seed=None)
    await bench.host.define(spec)
    await bench.host.define(twin)
    await bench.host.start(spec.uuid)
    with pytest.raises(LabError) as caught:
        await bench.host.start(twin.uuid)
    assert "another QEMU" in caught.value.hint


async def test_a_read_only_host_looks_but_does_not_touch(bench: Any) -> None:
    spec = bench.spec(bench.ticker())
    await bench.host.define(spec)
    async with Host.open(bench.uri, readonly=True) as host:
        seen = await host.domain(spec.uuid)
        assert seen and seen.name == spec.name
        assert (await host.facts()).qemu_uid == bench.qemu[0]
        with pytest.raises(LabError):
            await host.start(spec.uuid)


async def test_uefi_keeps_its_variables_in_the_vm_folder(bench: Any) -> None:
    spec = bench.spec(bench.ticker(), firmware="uefi", memory=256 << 20)
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    assert (spec.disk.parent / "nvram.fd").exists()
    assert (await bench.host.domain(spec.uuid)).firmware == "uefi"
    assert "UEFI" in await bench.host.can_time_travel("uefi", "qcow2")
    await bench.host.destroy(spec.uuid)
    await bench.host.undefine(spec.uuid)
    assert (spec.disk.parent / "nvram.fd").exists()


async def test_what_must_not_become_xml_is_refused(bench: Any) -> None:
    spec = bench.spec(bench.ticker())
    for change in (
        {"name": "a<b"}, {"name": "x\x1b[31m"}, {"mac": "52:54:00:00:00:00,hostfwd=tcp::1-:1"},
        {"disk": Path("relative.qcow2")}, {"disk_format": "vmdk"}, {"network": "default"},
        {"firmware": "coreboot"}, {"cpus": 0},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            await bench.host.define(replace(spec, **change))
    assert await bench.host.domain(spec.uuid) is None
    assert spec.accel is Accel.TCG


def socket_on(port: int) -> Any:
    import socket

    listening = socket.socket()
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening
