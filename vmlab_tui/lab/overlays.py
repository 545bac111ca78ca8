"""Whether somebody else's disks stand on the files that external snapshots of a VM are made of.

Where libvirt can go back to or delete such snapshots at all, it merges or removes those files, and asks
nobody but the VM itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Domain
from vmlab_tui.lab.chains import ChainReader, DiskNode


async def why_not_merged(host: Host, uuid: str) -> str:
    """Which other VM stands on the files of the external snapshots of ``uuid``; empty where none does.

    Of a host that is not this machine, only what its definitions name can be known.
    """
    domains = await host.domains(snapshots=True)
    own = next((one for one in domains if one.uuid == uuid), None)
    others = [one for one in domains if one.uuid != uuid]
    return "" if own is None else await asyncio.to_thread(_why, own, others, host.local)


def _why(own: Domain, others: Iterable[Domain], local: bool) -> str:
    reader = ChainReader()
    reader.begin()

    def chain(path: Path, form: str) -> tuple[DiskNode, ...]:
        return reader.chain(str(path), form) if local else ()

    overlays = [path for one in own.snapshots for path in one.files]
    touched = {path for path, form in zip(own.disks, own.formats, strict=False) if form == "qcow2"}
    for path in overlays:
        touched |= {path, *(node.path for node in chain(path, "qcow2")[1:2])}
    known = {_ident(path): path for path in touched}
    for other in others:
        name = clean_line(other.name, 60)
        if other.problem:
            return f"what VM {name} stands on is not known: {clean_line(other.problem, 200)}"
        nodes = [
            *(node for at in zip(other.disks, other.formats, strict=False) for node in chain(*at)),
            *(node for one in other.snapshots for path in one.files for node in chain(path, "qcow2")),
        ]
        for path in (*other.disks, *other.files, *(node.path for node in nodes)):
            if (mine := known.get(_ident(path))) is not None:
                return (
                    f"VM {name} stands on {clean_line(str(mine), 200)}, which libvirt would merge or remove"
                )
        for node in nodes:
            if node.problem and node.path.exists():
                shown = clean_line(f"{node.path}: {node.problem}", 300)
                return f"what VM {name} stands on is not known: {shown}"
    return ""


def _ident(path: Path) -> tuple[int, int] | str:
    """The file, by whatever name; the name of one that cannot be looked at."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return str(path)
    return facts.st_dev, facts.st_ino
