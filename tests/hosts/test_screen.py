"""Pictures of the screen of a real QEMU."""

from __future__ import annotations

import asyncio
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import pytest

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.picture import Picture, differs
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.screen import NoScreen, has_video, take

_HELLO = (
    "b8 00 b8  8e c0  31 ff"  # mov ax, 0xb800; mov es, ax; xor di, di  the screen of text mode
    "b8 db 1e  b9 d0 07  f3 ab"  # mov ax, 0x1edb; mov cx, 2000; rep stosw  yellow full blocks, everywhere
    "f4  eb fd"  # stop: hlt; jmp stop
)


@pytest.mark.guest
async def test_the_screen_is_what_the_guest_shows(bench: Any) -> None:
    from vmlab_tui.hosts.payload import sector

    spec = bench.spec(sector(bytes.fromhex(_HELLO)))
    await bench.host.define(spec)
    with pytest.raises(LabError, match="not running"):
        await bench.host.screenshot(spec.uuid)
    await bench.host.start(spec.uuid)
    yellow = Picture(720, 400, b"\xff\xff\x55" * 720 * 400)
    for _ in range(100):
        picture = await bench.host.screenshot(spec.uuid)
        if not differs(picture, yellow):
            break
        await asyncio.sleep(0.1)
    assert not differs(picture, yellow), (picture.width, picture.height, picture.rgb[:9])
    await bench.host.suspend(spec.uuid)
    assert await bench.host.screenshot(spec.uuid) == picture
    async with Host.open(bench.uri, readonly=True) as looking:
        with pytest.raises(LabError, match="read only"):
            await looking.screenshot(spec.uuid)
    await bench.host.destroy(spec.uuid)
    bare = ET.fromstring(await bench.host.domain_xml(spec.uuid, inactive=True))
    devices = bare.find("devices")
    assert devices is not None
    for tag in ("graphics", "video"):
        devices.remove(devices.find(tag))  # type: ignore[arg-type]
    await bench.host.define_xml(ET.tostring(bare, encoding="unicode"), spec.name)
    await bench.host.start(spec.uuid)
    with pytest.raises(NoScreen, match="no video device") as none:
        await bench.host.screenshot(spec.uuid)
    assert f"virsh edit {spec.name}" in none.value.hint


async def test_a_picture_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmlab_tui.hosts.screen.BYTES", 100)
    connection = libvirt.open("test:///default")
    with pytest.raises(LabError, match="refused"):
        take(connection.lookupByName("test"))
    monkeypatch.undo()
    assert take(connection.lookupByName("test")).width > 100
    connection.close()


def test_whether_there_is_a_screen_is_read_from_the_xml() -> None:
    def read(devices: str) -> bool:
        return has_video(f"<domain><devices>{devices}</devices></domain>")

    assert read("<video><model type='vga'/></video>")
    assert not read("<video><model type='none'/></video>")
    assert not read("<graphics type='vnc'/>")
