"""Disks by io_uring, where QEMU may use it.

QEMU reads the memory in a snapshot from the disk in pieces of 32 KiB, and hands each to a thread of its own
and back, or to the kernel by io_uring, which is much quicker: libvirt's way back to a snapshot takes 0.6 s
instead of 0.85 with 1 GiB of memory, and 0.65 instead of 1.05 with 4 (QEMU 7.2, medians of 15). What is
cached, and when it is safe on the disk, is the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.proc import arun
from vmlab_tui.hosts.xml import parse

LIBVIRT = (6, 3, 0)
"""The libvirt from which on a domain's disk can have ``io='io_uring'``."""
KERNEL = (5, 12)
"""The Linux from which on the rings do not count as locked memory, of which QEMU's user may have little."""
_SWITCH = Path("/proc/sys/kernel/io_uring_disabled")
_BYTES = 4096


async def why_not(libvirt_version: tuple[int, int, int]) -> str:
    """Why VMs on this machine do not get it; empty where QEMU may use it. Tries it out, in some 10 ms."""
    if libvirt_version < LIBVIRT:
        return f"libvirt {'.'.join(map(str, libvirt_version))} does not know io_uring (6.3 does)"
    release = os.uname().release
    if tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()) < KERNEL:
        return f"Linux {release} counts io_uring as locked memory (5.12 does not)"
    try:
        switch = _SWITCH.read_text().strip()  # noqa: ASYNC240  # an instant
        if switch != "0":  # 1: only root, which QEMU is not
            return f"sysctl kernel.io_uring_disabled is {switch}"
    except OSError:
        pass  # Linux before 6.6 has no such switch
    with tempfile.NamedTemporaryFile(prefix="vmlab-io-") as file:
        file.truncate(_BYTES)
        try:
            once = ("-c", "1", "-s", str(_BYTES))
            words = ["qemu-img", "bench", "-i", "io_uring", *once, "-f", "raw", file.name]
            await arun(words, timeout=10, bound=True)
        except LabError as error:
            return error.message
    return ""


def take_out(domain: Any) -> None:
    """Define ``domain`` anew, its disks by QEMU's own threads. Blocks. Raises libvirtError."""
    root = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    for driver in root.iterfind("devices/disk/driver"):
        if driver.get("io") == "io_uring":
            del driver.attrib["io"]
    domain.connect().defineXML(ET.tostring(root, encoding="unicode"))
