"""io_uring for a VM's disk: asked of this machine, and given up where QEMU may not have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import pytest

from vmlab_tui.base import proc
from vmlab_tui.hosts import iouring

NOW = (9, 0, 0)


def parts(domain: ET.Element) -> list[str]:
    """All of a definition, whatever order libvirt puts devices in."""
    found = [*domain.findall("devices/*"), *(one for one in domain if one.tag != "devices")]
    return sorted(ET.canonicalize(ET.tostring(one, encoding="unicode"), strip_text=True) for one in found)


async def test_an_old_libvirt_is_told_without_trying() -> None:
    tried: list[tuple[str, ...]] = []
    stop = proc.watch(tried.append)
    try:
        assert "6.2.0 does not know" in await iouring.why_not((6, 2, 0))
    finally:
        stop()
    assert tried == []


async def test_a_kernel_that_is_switched_off_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "io_uring_disabled"
    monkeypatch.setattr(iouring, "_SWITCH", switch)
    here = await iouring.why_not(NOW)  # no such switch: by trying it
    for value in ("1", "2"):
        switch.write_text(f"{value}\n")
        assert await iouring.why_not(NOW) == f"sysctl kernel.io_uring_disabled is {value}"
    switch.write_text("0\n")
    assert await iouring.why_not(NOW) == here


async def test_a_vms_disk_has_it_where_it_may_and_runs(bench: Any) -> None:
    may = not await iouring.why_not((await bench.host.facts()).libvirt)
    spec = bench.spec(bench.ticker())
    await bench.host.define(spec)
    assert ("io_uring" in await bench.host.domain_xml(spec.uuid)) is may
    await bench.host.start(spec.uuid)
    await bench.ticked(spec, 2)


async def test_it_is_taken_out_and_nothing_else(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fine(_: object) -> str:
        return ""

    monkeypatch.setattr(iouring, "why_not", fine)
    spec = bench.spec(bench.ticker())
    await bench.host.define(spec)
    before = ET.fromstring(await bench.host.domain_xml(spec.uuid, inactive=True, secrets=True))
    connection = libvirt.open(bench.uri)
    try:
        iouring.take_out(connection.lookupByUUIDString(spec.uuid))
    finally:
        connection.close()
    after = await bench.host.domain_xml(spec.uuid, inactive=True, secrets=True)
    (driver,) = before.findall("devices/disk/driver[@io]")
    del driver.attrib["io"]
    assert parts(ET.fromstring(after)) == parts(before)
    await bench.host.start(spec.uuid)
    await bench.ticked(spec, 2)
