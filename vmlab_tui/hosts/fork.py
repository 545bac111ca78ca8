"""Warm fork: a new VM that starts from another VM's memory snapshot, in about two seconds.

In pieces, each of which may be run again after a crash: find the origin, copy its disk, drop what else the
copy holds, define, and wake by reverting to the snapshot. What goes between, and what becomes of a half made
fork, is the caller's.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid5
from xml.etree import ElementTree as ET

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.proc import arun
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power, VmSpec
from vmlab_tui.hosts.vnc import new_password, set_password
from vmlab_tui.hosts.xml import (
    MARK_NS,
    QEMU_NS,
    check_spec,
    mark_element,
    parse,
    parse_domain,
    user_network,
)
from vmlab_tui.images import qemuimg

SOURCE_STILL = declare("fork.source-still", "the source of a fork stands still, its disk is being copied")
_POLL = 0.02


@dataclass(frozen=True)
class Origin:
    """What forks start from: a snapshot with memory, its XML as libvirt had it, the qcow2 that holds it.

    The domain it was taken of need not exist any more.
    """

    snapshot: str
    snapshot_xml: str
    disk: Path


async def fork(host: Host, source_uuid: str, snapshot: str, spec: VmSpec, *, timeout: float = 300) -> None:
    """Start the VM ``spec`` where ``snapshot`` of the VM ``source_uuid`` was.

    ``spec`` gives what is the new VM's own: uuid, name, disk (where the copy of the source's disk goes),
    seed, console log, forwards, mark, description. Everything else, memory and devices, has to stay the
    source's; its chain, CPUs, memory and MAC address in ``spec`` are not looked at. A running source stands
    still while its disk is copied. The guest wakes up with the source's host name, addresses and clock. The
    new VM has the snapshot too. Raises UsageError if that snapshot has no memory or the source sits on a
    libvirt network (its address would be there twice). After an error the new VM may be defined; its copy
    may be there.
    """
    deadline = Deadline(timeout)
    origin = await origin_of(host, source_uuid, snapshot, timeout=deadline.part(15))
    rewrite(origin.snapshot_xml, spec)  # refused before anything is copied
    await copy_disk(host, source_uuid, origin.disk, spec.disk, timeout=deadline.left)
    await drop_other_snapshots(spec.disk, snapshot, timeout=deadline.left)
    await define_fork(host, origin, spec, timeout=deadline.left)
    await host.revert(spec.uuid, snapshot, timeout=deadline.left)


async def origin_of(host: Host, source_uuid: str, snapshot: str, *, timeout: float = 15) -> Origin:
    """The snapshot of a VM as something to fork from. Raises NotFound, and UsageError if it cannot be."""
    xml = await host.snapshot_xml(source_uuid, snapshot, timeout=timeout)
    _, domains = _parts(xml)
    return Origin(snapshot, xml, parse_domain(ET.tostring(domains[0], encoding="unicode")).disks[0])


async def copy_disk(
    host: Host, source_uuid: str | None, origin_disk: Path, target: Path, *, timeout: float = 300
) -> None:
    """Copy the disk ``origin_disk`` of the VM ``source_uuid`` (None: nothing runs on it) to ``target``.

    A running source stands still meanwhile, and goes on even if this process is killed. ``target`` appears
    when it is whole, not durably: a power cut may still take it. One disk is copied once at a time, whoever
    asks. Raises LabError when the source was started, stopped or let go on by someone else meanwhile.
    """
    deadline = Deadline(timeout)
    half = target.with_name(f".{target.name}.new")
    options = ["--reflink=auto", "--sparse=always", "--no-target-directory"]
    try:
        async with _alone(origin_disk, deadline), _still(host, source_uuid):
            await arun(["cp", *options, "--", origin_disk, half], timeout=deadline.left, bound=True)
        half.rename(target)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


async def drop_other_snapshots(disk: Path, keep: str, *, timeout: float = 120) -> None:
    """Delete every snapshot in the qcow2 ``disk`` but ``keep``. No QEMU may have it open.

    What was copied along then takes neither room nor names. Raises LabError without a snapshot ``keep``.
    """
    deadline = Deadline(timeout)
    names = (await qemuimg.info(disk, "qcow2", timeout=deadline.part(30))).snapshots
    if keep not in names:
        raise LabError(
            f"{disk} holds no snapshot '{keep[:80]}'",
            hint="the disk and libvirt's list of its snapshots do not agree: virsh snapshot-list",
        )
    for name in names:
        if name != keep:
            await qemuimg.delete_snapshot(disk, name, timeout=deadline.left)


async def define_fork(host: Host, origin: Origin, spec: VmSpec, *, timeout: float = 180) -> None:
    """Define the VM ``spec`` on a copy of the origin's disk, and tell libvirt of the snapshot in it.

    ``spec`` as for :func:`fork`. The VM stays as it is, off if it is new; ``host.revert`` to the origin's
    snapshot wakes it. Raises UsageError as :func:`rewrite` does.
    """
    deadline = Deadline(timeout)
    snapshot_xml, domain_xml = rewrite(origin.snapshot_xml, spec, password=new_password())
    await host.define_xml(domain_xml, spec.name, timeout=deadline.part(120))
    await host.redefine_snapshot(spec.uuid, snapshot_xml, timeout=deadline.part(60))


# -- standing still ------------------------------------------------------------------------------


@asynccontextmanager
async def _alone(disk: Path, deadline: Deadline) -> AsyncIterator[None]:
    # two copies at once would each let the source go on under the other; QEMU's own locks are not flock's
    handle = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                deadline.check(f"wait for another copy of {disk}")
                await asyncio.sleep(_POLL)
        yield
    finally:
        os.close(handle)


@asynccontextmanager
async def _still(host: Host, uuid: str | None) -> AsyncIterator[None]:
    """Stopped CPUs also mean that QEMU has written its tables out: the file is whole."""
    if uuid is None:
        yield
        return
    before = await host.power(uuid)
    if before is not Power.ON:
        yield
        await _expect(host, uuid, before)
        return
    rescue = _rescue(host.uri, uuid)
    try:
        await host.suspend(uuid)
        try:
            point(SOURCE_STILL)
            yield
            await _expect(host, uuid, Power.PAUSED)
        finally:
            await host.resume(uuid)
    finally:
        rescue.communicate(b"\n")


async def _expect(host: Host, uuid: str, power: Power) -> None:
    found = await host.power(uuid)
    if found is not power:
        raise LabError(
            f"VM {uuid} was {power} and is {found}: its disk changed while it was copied", hint="try again"
        )


def _rescue(uri: str, uuid: str) -> subprocess.Popen[bytes]:
    """A process that lets the VM go on when this one dies; a line on its input ends it."""
    script = 'read -r line || exec virsh -q -c "$0" resume "$1"'
    return subprocess.Popen(
        ["sh", "-c", script, uri, uuid],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


# -- the new VM's XML ----------------------------------------------------------------------------


def _parts(snapshot_xml: str) -> tuple[ET.Element, list[ET.Element]]:
    """The snapshot's XML and the domain definitions in it. Raises UsageError if it cannot be forked."""
    root = parse(snapshot_xml)
    domains = [one for tag in ("domain", "inactiveDomain") if (one := root.find(tag)) is not None]
    memory = root.find("memory")
    if not domains or memory is None or memory.get("snapshot") != "internal":
        raise UsageError(
            f"snapshot '{root.findtext('name', '')[:80]}' holds no memory, so nothing can start from it",
            hint="take one while the VM runs",
        )
    if domains[0].find("devices/interface") is not None:
        name = domains[0].findtext("name", "")[:80]
        raise UsageError(
            f"{name} sits on a libvirt network: a fork would have its address",
            hint="use network: isolated or user",
        )
    return root, domains


def rewrite(snapshot_xml: str, spec: VmSpec, *, password: str = "") -> tuple[str, str]:
    """The snapshot's XML and its domain's for the new VM; ``password``: of its display."""
    root, domains = _parts(snapshot_xml)
    check_spec(replace(spec, network="isolated"))
    for domain in domains:
        _new_identity(domain, spec)
        set_password(domain, password)
    parent = root.find("parent")
    if parent is not None:
        root.remove(parent)
    stored = ET.fromstring(ET.tostring(domains[-1]))  # noqa: S314  # our own text
    stored.tag = "domain"
    return ET.tostring(root, encoding="unicode"), ET.tostring(stored, encoding="unicode")


def _new_identity(domain: ET.Element, spec: VmSpec) -> None:
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.uuid)
    if domain.find("genid") is not None:
        # the same at each call, since libvirt holds it against the snapshot; waking makes a fresh one
        _text(domain, "genid", str(uuid5(UUID(spec.uuid), "genid")))
    if domain.find("description") is None:
        ET.SubElement(domain, "description")
    _text(domain, "description", spec.description)
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(domain, "metadata")
    for old in metadata.findall(f"{{{MARK_NS}}}mark"):
        metadata.remove(old)
    if spec.mark:
        metadata.append(mark_element(spec.mark))
    for target, path in (("vda", spec.disk), ("vdb", spec.seed)):
        place = domain.find(f"devices/disk/target[@dev='{target}']/../source")
        if (place is None) != (path is None):
            raise UsageError(f"{spec.name}: the fork must have a seed exactly if its source has one")
        if place is not None:
            place.set("file", str(path))
    for log in (*domain.iterfind("devices/serial/log"), *domain.iterfind("devices/console/log")):
        log.set("file", str(spec.console_log))
    for channel in domain.iterfind("devices/channel"):
        for socket in channel.findall("source"):  # libvirt makes a socket of its own for each VM
            channel.remove(socket)
    arguments = domain.findall(f"{{{QEMU_NS}}}commandline/{{{QEMU_NS}}}arg")
    for argument in arguments:
        value = argument.get("value", "")
        if value.startswith("user,id=vmlab0,"):
            network = "isolated" if "restrict=on" in value.split(",") else "user"
            argument.set("value", user_network(replace(spec, network=network))[0])
            return
    raise LabError(f"{domain.findtext('name', '')[:80]}: the snapshot has no user network of vmlab's")


def _text(domain: ET.Element, tag: str, text: str) -> None:
    element = domain.find(tag)
    if element is None:
        raise LabError(f"unreadable snapshot XML: no <{tag}>")
    element.text = text
