"""Reading domains and snapshots over a connection. Everything here blocks: call it on a lane."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts.model import Domain, HostFacts, Power, Snapshot
from vmlab_tui.hosts.xml import files_of, parse, parse_domain

POWER = {
    libvirt.VIR_DOMAIN_RUNNING: Power.ON,
    libvirt.VIR_DOMAIN_BLOCKED: Power.ON,
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.STOPPING,
    libvirt.VIR_DOMAIN_SHUTOFF: Power.OFF,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.SLEEPING,
}
_SNAPSHOT_POWER = {
    "running": Power.ON,
    "blocked": Power.ON,
    "paused": Power.PAUSED,
    "shutdown": Power.STOPPING,
    "shutoff": Power.OFF,
    "crashed": Power.CRASHED,
    "pmsuspended": Power.SLEEPING,
    "disk-snapshot": Power.OFF,
}
_LIVE = re.compile(r"<domain\b[^>]*\bid=")
"""How the XML of a running domain begins."""
_GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT)


@dataclass(frozen=True)
class _Known:
    """What was asked of all domains at once, by uuid; ``shot``: those with snapshots."""

    power: dict[str, Power]
    persistent: frozenset[str]
    shot: frozenset[str]


def read_power(domain: Any) -> Power:
    return POWER.get(domain.state()[0], Power.UNKNOWN)


def read_domain(domain: Any, *, snapshots: bool = False, known: _Known | None = None) -> Domain | None:
    """One domain with the files of its live and its stored definition; None if it is gone by now.

    A domain whose XML cannot be read comes with ``problem`` set, so that nobody takes its files for free.
    """
    uuid, name = domain.UUIDString(), domain.name()
    try:
        power = known.power.get(uuid) if known else None
        power = power or read_power(domain)
        persistent = uuid in known.persistent if known else bool(domain.isPersistent())
        texts = [domain.XMLDesc()]
        if persistent and _LIVE.match(texts[0]):
            texts.append(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        asked = snapshots and (known is None or uuid in known.shot)
        snaps, named = _read_snapshots(domain) if asked else ((), ())
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return None
        raise
    try:
        seen = [parse_domain(text) for text in texts]
    except LabError as error:
        return Domain(uuid, name, power, persistent, 0, 0, None, (), snapshots=snaps, problem=error.message)
    first = seen[0]
    return Domain(
        uuid=uuid,
        name=name,
        power=power,
        persistent=persistent,
        memory=first.memory,
        cpus=first.cpus,
        mark=next((one.mark for one in seen if one.mark), None),
        disks=first.disks,
        files=tuple(dict.fromkeys([*(path for one in seen for path in one.files), *named])),
        snapshots=snaps,
        formats=first.formats,
        firmware=first.firmware,
    )


def read_domains(connection: Any, *, snapshots: bool = False) -> list[Domain]:
    """All of them. What libvirt tells of all at once is not asked of each: there may be a thousand."""
    found = connection.listAllDomains()
    known = _Known(
        {
            domain.UUIDString(): POWER.get(stats.get("state.state"), Power.UNKNOWN)
            for domain, stats in connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
        },
        _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT),
        _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT) if snapshots else frozenset(),
    )
    read = (read_domain(domain, snapshots=snapshots, known=known) for domain in found)
    return [domain for domain in read if domain]


def _uuids(connection: Any, flag: int) -> frozenset[str]:
    return frozenset(domain.UUIDString() for domain in connection.listAllDomains(flag))


def _external_files(root: ET.Element) -> tuple[Path, ...]:
    """The files that an external snapshot lies in, by its XML; none for an internal one."""
    parts = [*root.findall("memory"), *root.iterfind("disks/disk")]
    found: list[Path] = []
    for part in parts:
        if part.get("snapshot") == "external":
            source = part.find("source")
            name = part.get("file") or (source.get("file") or source.get("dev") if source is not None else "")
            found.append(Path(name or f"of {part.get('name', 'its memory')}"))
    return tuple(found)


def read_snapshot(root: ET.Element, current: str | None = None) -> Snapshot:
    """A snapshot from its XML; ``current``: the name of the one that is."""
    memory = root.find("memory")
    # libvirt of old writes no <memory> for an internal snapshot of a running VM: then the state tells
    state, name = root.findtext("state", ""), root.findtext("name", "")
    kind = memory.get("snapshot", "no") if memory is not None else "internal" if state == "running" else "no"
    files = _external_files(root)
    return Snapshot(
        name=name,
        parent=root.findtext("parent/name"),
        description=root.findtext("description", ""),
        created=int(root.findtext("creationTime") or 0),
        power=_SNAPSHOT_POWER.get(state, Power.UNKNOWN),
        memory=kind != "no",
        external=bool(files),
        current=name == current,
        files=files,
    )


def _read_snapshots(domain: Any) -> tuple[tuple[Snapshot, ...], tuple[Path, ...]]:
    roots = [parse(one.getXMLDesc()) for one in domain.listAllSnapshots()]
    if not roots:
        return (), ()
    current = domain.snapshotCurrent().getName() if domain.hasCurrentSnapshot() else None
    found = [read_snapshot(root, current) for root in roots]
    found.sort(key=lambda one: (one.created, one.name))
    return tuple(found), tuple(path for root in roots for path in files_of(root))


def read_snapshots(domain: Any) -> tuple[Snapshot, ...]:
    """The snapshots of a domain, oldest first."""
    return _read_snapshots(domain)[0]


def version(number: int) -> tuple[int, int, int]:
    """libvirt's number for a version as (major, minor, micro)."""
    return number // 1_000_000, number // 1000 % 1000, number % 1000


def read_facts(connection: Any, uri: str) -> HostFacts:
    """What the host is. ``memory_free`` counts what the kernel can give back (buffers, page cache)."""
    root = parse(connection.getCapabilities())
    uid, gid, dac = os.getuid(), os.getgid(), False  # a session's QEMU runs as whoever asks
    for model in root.iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            dac = True
            owner, _, group = model.findtext("baselabel", "").partition(":")
            if owner.startswith("+"):
                uid, gid = int(owner), int(group)
    memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    return HostFacts(
        uri=uri,
        libvirt=version(connection.getLibVersion()),
        qemu=version(connection.getVersion()),
        qemu_uid=uid,
        qemu_gid=gid,
        cpus=connection.getInfo()[2],
        memory_total=memory["total"] * 1024,
        memory_free=sum(memory.get(part, 0) for part in ("free", "buffers", "cached")) * 1024,
        dac=dac,
    )
