"""The password of a display: QEMU asks for it, and nobody else tells it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import pytest

from tests.hosts.test_snapshots import fork_spec
from tests.support.vnc import lets_in
from vmlab_tui.hosts import vnc
from vmlab_tui.hosts.fork import define_fork, fork, origin_of
from vmlab_tui.hosts.keepsake import save_for_later
from vmlab_tui.hosts.model import Display
from vmlab_tui.hosts.vnc import display_of, new_password, set_password


def arguments() -> bytes:
    """Those of all processes."""
    found = b""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += process.read_bytes()
        except OSError:
            continue
    return found


@pytest.mark.guest
async def test_only_who_asks_libvirt_is_let_in(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host, spec = bench.host, bench.spec(bench.ticker())

    async def display(uuid: str) -> Display:
        found = display_of(await host.domain_xml(uuid, secrets=True))
        assert found
        assert found.password not in repr(found)
        return found

    await host.define(spec)
    await host.start(spec.uuid)
    await bench.ticked(spec, 3)
    first = await display(spec.uuid)
    assert re.fullmatch("[A-Za-z0-9]{8}", first.password)
    assert lets_in(first.port, first.password)
    assert not lets_in(first.port)
    assert not lets_in(first.port, first.password.swapcase() + "1")
    assert first.password.encode() not in arguments()
    public = await host.domain_xml(spec.uuid)
    assert first.password not in public
    assert display_of(public) == Display(first.host, first.port)

    # going back: another QEMU, the same password; a fork has its own from a snapshot that tells none
    await host.create_snapshot(spec.uuid, "warm")
    await host.revert(spec.uuid, "warm", force=True)
    again = await display(spec.uuid)
    assert again.password == first.password
    assert lets_in(again.port, again.password)
    await save_for_later(host, spec.uuid)
    await host.start(spec.uuid)
    saved = await display(spec.uuid)
    assert saved.password == first.password
    assert lets_in(saved.port, saved.password), "memory saved by libvirt brings it back"
    origin = await origin_of(host, spec.uuid, "warm")
    assert first.password not in origin.snapshot_xml
    twin = fork_spec(bench, spec)
    await fork(host, spec.uuid, "warm", twin)
    its = await display(twin.uuid)
    assert its.password not in ("", first.password)
    assert lets_in(its.port, its.password)
    assert not lets_in(its.port, first.password)
    # a second define after a crash gives it another one, and the snapshot still loads
    await host.destroy(twin.uuid)
    await define_fork(host, origin, twin)
    await host.revert(twin.uuid, "warm")
    last = await display(twin.uuid)
    assert last.password not in ("", its.password)
    assert lets_in(last.port, last.password)
    # libvirt itself opens it past the password for who may: what virt-viewer --attach does
    connection = libvirt.open(bench.uri)
    handle = connection.lookupByUUIDString(twin.uuid).openGraphicsFD(
        0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH
    )
    assert handle >= 0
    connection.close()


def test_where_there_is_no_des_there_is_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "fips_enabled"
    monkeypatch.setattr(vnc, "_FIPS", switch)
    assert len(new_password()) == 8
    switch.write_text("0\n")
    assert len({new_password() for _ in range(50)}) == 50
    switch.write_text("1\n")
    assert new_password() == ""


def test_it_is_put_on_vnc_alone_and_taken_away_again() -> None:
    root = ET.fromstring("<domain><devices><graphics type='spice'/><graphics type='vnc'/></devices></domain>")
    before = ET.tostring(root)
    set_password(root, "secret12")
    assert ET.tostring(root).count(b"secret12") == 1
    set_password(root, "")
    assert ET.tostring(root) == before
