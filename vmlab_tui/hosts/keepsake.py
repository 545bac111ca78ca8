"""A domain as something that can be put away and brought back exactly: definition, snapshots, memory."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.connection import shown
from vmlab_tui.hosts.domains import read_power
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power
from vmlab_tui.hosts.xml import parse

_GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT)
_SAVING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)


@dataclass(frozen=True)
class Keepsake:
    """All that libvirt knows of a domain. ``snapshots``: (name, XML), parents first."""

    uuid: str
    name: str
    xml: str
    power: Power
    saved: bool
    autostart: bool
    snapshots: tuple[tuple[str, str], ...] = ()
    current: str = ""


async def take(host: Host, uuid: str, *, timeout: float = 30) -> Keepsake | None:
    """The domain ``uuid``, or None. Raises LabError for one that could not be brought back exactly."""

    def work(connection: Any) -> Keepsake | None:
        try:
            domain = connection.lookupByUUIDString(uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() in _GONE:
                return None
            raise
        if not domain.isPersistent():
            raise LabError(f"{shown(domain)} is transient: it has no definition to come back to")
        secure = libvirt.VIR_DOMAIN_XML_SECURE
        with contextlib.suppress(AttributeError, libvirt.libvirtError):
            if domain.listAllCheckpoints():
                raise LabError(f"{shown(domain)} has checkpoints, which cannot be brought back")
        order = libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL
        found = _snapshots(domain, order)
        current = domain.snapshotCurrent().getName() if found and domain.hasCurrentSnapshot() else ""
        return Keepsake(
            uuid,
            domain.name(),
            domain.XMLDesc(secure | libvirt.VIR_DOMAIN_XML_INACTIVE),
            read_power(domain),
            bool(domain.hasManagedSaveImage()),
            bool(domain.autostart()),
            tuple((one.getName(), one.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)) for one in found),
            current,
        )

    return await host._call(f"look at {uuid}", work, timeout)


def _snapshots(domain: Any, order: int) -> list[Any]:
    try:
        return list(domain.listAllSnapshots(order))
    except libvirt.libvirtError:
        found = list(domain.listAllSnapshots())  # a driver that knows no order
        names = {one.getName() for one in found}
        placed: list[Any] = []
        done: set[str | None] = {None}
        while len(placed) < len(found):
            before = len(placed)
            for one in found:
                parent = parse(one.getXMLDesc()).findtext("parent/name")
                if one.getName() not in done and (parent in done or parent not in names):
                    placed.append(one)
                    done.add(one.getName())
            if len(placed) == before:
                raise
        return placed


async def bring_back(host: Host, kept: Keepsake, *, timeout: float = 120) -> None:
    """Define it as it was, with its snapshots; what is there already stays. Raises LabError."""

    def work(connection: Any) -> None:
        try:
            domain = connection.lookupByUUIDString(kept.uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                raise
            with contextlib.suppress(libvirt.libvirtError):
                other = connection.lookupByName(kept.name)
                raise LabError(
                    f"another VM is called {clean_line(kept.name, 80)} now ({other.UUIDString()})",
                    hint="rename that one with virsh domrename, and try again",
                ) from error
            with host._virsh("define", f"{clean_line(kept.name, 80)}.xml"):
                domain = connection.defineXML(kept.xml)
        there = set(domain.snapshotListNames())
        for name, xml in kept.snapshots:
            if name not in there:
                flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
                if name == kept.current:
                    flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
                with host._virsh(
                    "snapshot-create", shown(domain), f"{clean_line(name, 80)}.xml", "--redefine"
                ):
                    domain.snapshotCreateXML(xml, flags)
        if kept.autostart:
            domain.setAutostart(1)

    await host._call(f"define {clean_line(kept.name, 80)}", work, timeout, slow=True)


async def save_memory(host: Host, uuid: str, path: Path, *, timeout: float = 600) -> None:
    """Stop a running or paused VM and write its memory to ``path``; it runs on if that fails.

    One that libvirt has saved itself is woken for it without a step of its CPUs.
    """

    def work(domain: Any) -> None:
        if not domain.isActive():
            if not domain.hasManagedSaveImage():
                return
            with host._virsh("start", "--paused", shown(domain)):
                domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        with host._virsh("save", shown(domain), str(path)):
            domain.save(str(path))

    await host._on("save the memory of", uuid, work, timeout, slow=True)


async def wake(host: Host, path: Path, *, timeout: float = 300) -> None:
    """Load saved memory; the VM stands still afterwards."""

    def work(connection: Any) -> None:
        with host._virsh("restore", "--paused", str(path)):
            connection.restoreFlags(str(path), None, libvirt.VIR_DOMAIN_SAVE_PAUSED)

    await host._call(f"restore {path.name}", work, timeout, slow=True)


async def save_for_later(host: Host, uuid: str, *, running: bool = False, timeout: float = 600) -> None:
    """Stop a VM with its memory saved by libvirt: its next start goes on from there.

    ``running``: it will run then, although it stands still now.
    """

    def work(domain: Any) -> None:
        if domain.isActive():
            with host._virsh("managedsave", shown(domain), *(["--running"] if running else [])):
                domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING if running else 0)

    await host._on("save", uuid, work, timeout, slow=True)


async def settled(host: Host, uuid: str, *, timeout: float = 600) -> Power:
    """Its state once libvirt has finished what it is doing with it; off if it is not defined."""
    deadline = Deadline(timeout)

    def work(domain: Any) -> Power | None:
        with contextlib.suppress(libvirt.libvirtError):  # one that is off has none
            if domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
                return None
        if tuple(domain.state()) == _SAVING:
            return None
        return read_power(domain)

    while True:
        try:
            power = await host._on("look at", uuid, work, 15)
        except NotFound:
            return Power.OFF
        if power is not None:
            return power
        deadline.check(f"what libvirt does with {uuid}")
        await asyncio.sleep(0.2)
