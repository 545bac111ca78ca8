"""What a host names, while others change it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import libvirt
import pytest

from vmlab_tui.hosts.census import pool_folders
from vmlab_tui.hosts.host import Host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the system's libvirt")


async def test_pools_that_come_and_go_are_no_error(host: Host, tmp_path: Path) -> None:
    over = threading.Event()
    xml = f"<pool type='dir'><name>comes-{os.getpid()}</name><target><path>{tmp_path}</path></target></pool>"

    def come_and_go() -> None:
        connection = libvirt.open("qemu:///system")
        while not over.is_set():
            connection.storagePoolCreateXML(xml).destroy()
        connection.close()

    changing = threading.Thread(target=come_and_go)
    changing.start()
    found: set[str] = set()
    until = time.monotonic() + 2
    try:
        while time.monotonic() < until:
            found |= {path for path, problem in await pool_folders(host) if not problem}
    finally:
        over.set()
        changing.join()
    assert str(tmp_path) in found
