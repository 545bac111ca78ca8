"""Warm fork: a new VM that starts from another VM's memory snapshot, in about two seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.proc import arun
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power, VmSpec
from vmlab_tui.hosts.xml import (
    MARK_NS,
    QEMU_NS,
    check_spec,
    mark_element,
    parse,
    parse_domain,
    user_network,
)


async def fork(host: Host, source_uuid: str, snapshot: str, spec: VmSpec, *, timeout: float = 300) -> None:
    """Start the VM ``spec`` where ``snapshot`` of the VM ``source_uuid`` was.

    ``spec`` gives what is the new VM's own: uuid, name, disk (where the copy of the source's disk goes),
    seed, console log, forwards, mark. Everything else, memory and devices, has to stay the source's; its
    chain, CPUs, memory and MAC address in ``spec`` are not looked at. A running source stands still while
    its disk is copied. The guest wakes up with the source's host name, addresses and clock. The new VM
    has the snapshot too. Raises UsageError if that snapshot has no memory or the source sits on a libvirt
    network (its address would be there twice). After an error the new VM may be defined; its copy may
    be there.
    """
    deadline = Deadline(timeout)
    original = await host.snapshot_xml(source_uuid, snapshot)
    snapshot_xml, domain_xml, disk = rewrite(original, spec)
    await _copy(host, source_uuid, disk, spec.disk, deadline)
    await host.define_xml(domain_xml, spec.name, timeout=deadline.part(120))
    await host.redefine_snapshot(spec.uuid, snapshot_xml, timeout=deadline.part(60))
    await host.revert(spec.uuid, snapshot, timeout=deadline.left)


async def _copy(host: Host, source_uuid: str, disk: Path, target: Path, deadline: Deadline) -> None:
    # stopped CPUs also mean that QEMU has written its tables out: the file is whole
    running = await host.power(source_uuid) is Power.ON
    if running:
        await host.suspend(source_uuid)
    try:
        options = ["--reflink=auto", "--sparse=always", "--no-target-directory"]
        await arun(["cp", *options, "--", disk, target], timeout=deadline.left, bound=True)
    finally:
        if running:
            await host.resume(source_uuid)


def rewrite(snapshot_xml: str, spec: VmSpec) -> tuple[str, str, Path]:
    """The snapshot's XML and its domain's for the new VM, and the source's disk."""
    root = parse(snapshot_xml)
    domains = [one for tag in ("domain", "inactiveDomain") if (one := root.find(tag)) is not None]
    memory = root.find("memory")
    if not domains or memory is None or memory.get("snapshot") != "internal":
        raise UsageError(
            f"snapshot '{root.findtext('name', '')[:80]}' holds no memory, so nothing can start from it",
            hint="take one while the VM runs",
        )
    source = parse_domain(ET.tostring(domains[0], encoding="unicode"))
    if domains[0].find("devices/interface") is not None:
        raise UsageError(
            f"{source.name[:80]} sits on a libvirt network: a fork would have its address",
            hint="use network: isolated or user",
        )
    check_spec(replace(spec, network="isolated"))
    for domain in domains:
        _new_identity(domain, spec)
    parent = root.find("parent")
    if parent is not None:
        root.remove(parent)
    stored = ET.fromstring(ET.tostring(domains[-1]))  # noqa: S314  # our own text
    stored.tag = "domain"
    return ET.tostring(root, encoding="unicode"), ET.tostring(stored, encoding="unicode"), source.disks[0]


def _new_identity(domain: ET.Element, spec: VmSpec) -> None:
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.uuid)
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
