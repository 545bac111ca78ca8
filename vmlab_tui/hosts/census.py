"""Every file that a host's domains name anywhere, for whoever wants to prove that nothing names one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.signs import Sign, settled, sign
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.domains import read_power
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Mark, Power
from vmlab_tui.hosts.xml import files_of, parse, parse_domain

_TRIES, _REST = 3, 0.05
"""How often a domain is read that cannot be, and seconds between: a snapshot may just have gone."""
_UNSUPPORTED = (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_UNSUPPORTED)


@dataclass(frozen=True)
class Naming:
    """One domain: what it names, and where. ``files``: (path, how), such as ``disk of snapshot 'x'``.

    ``raw``: paths that it names with the driver type raw, whose content is the guest's. ``problem``: why it
    could not be read completely; then anything may be named by it. ``stamp``: another one means a change.
    """

    uuid: str
    name: str
    power: Power
    persistent: bool
    mark: Mark | None
    files: tuple[tuple[str, str], ...]
    raw: frozenset[str] = frozenset()
    saved: bool = False
    stamp: str = ""
    problem: str = ""
    contents: tuple[tuple[str, str], ...] = ()
    """Of ``files``, the disks and memory of snapshots, without which they cannot be gone back to."""
    volumes: bool = False
    """Whether it names volumes of pools."""


_Texts = tuple[tuple[str, str], ...]
"""(XML, what it is)."""


class Recall:
    """What domains were found to name, and the signatures by which that still is so.

    libvirt writes a definition, a snapshot and a checkpoint down before the call that made it returns, each
    to a file of its own in ``config`` (definitions) and ``state``; what a call that has not returned will do
    can also come after any look. So a domain that libvirt lists as off and stored, without saved memory,
    whose files have not been touched, names what it named. Of one that runs the same holds for its stored
    definition, snapshots and checkpoints; what is plugged into it now is asked for each time. Not so:
    - one that names volumes: their pool says where they are;
    - after libvirt was started anew: it may have read files that were changed by hand before. That its
      connection is another one tells of it.
    Files that are not there or may not be looked at (a remote host, another user's) make nothing known.
    """

    def __init__(self, config: Path, state: Path) -> None:
        self._config, self._state = config, state
        self._connection: Any = None
        self._known: dict[str, tuple[tuple[object, ...], Naming]] = {}
        self._stored: dict[str, tuple[tuple[object, ...], _Texts]] = {}

    def begin(self, connection: Any) -> None:
        if self._connection is not connection:
            self._connection, self._known, self._stored = connection, {}, {}

    def signed(self, name: str) -> tuple[Sign, ...]:
        """The signatures of all files of a stored domain; empty if they cannot be had."""
        try:
            found = [sign((self._config / f"{name}.xml").stat())]
            for kind in ("snapshot", "checkpoint"):
                folder = self._state / kind / name
                try:
                    found.append(sign(folder.stat()))
                    with os.scandir(folder) as entries:
                        found += sorted(sign(entry.stat()) for entry in entries)
                except FileNotFoundError:
                    found.append((0, 0, 0, 0, 0))  # so that one of the other kind is not taken for it
        except OSError:
            return ()
        return tuple(found)

    def get(self, uuid: str, name: str, signed: tuple[Sign, ...]) -> Naming | None:
        """Of one that libvirt lists as off, stored and without saved memory: all that it names."""
        held = self._known.get(uuid)
        return held[1] if held and signed and held[0] == (name, signed) else None

    def stored(self, uuid: str, name: str, signed: tuple[Sign, ...]) -> _Texts | None:
        """Of one that runs: its stored definition, snapshots and checkpoints."""
        held = self._stored.get(uuid)
        return held[1] if held and signed and held[0] == (name, signed) else None

    def keep(self, found: Naming, texts: _Texts, signed: tuple[Sign, ...], began: int) -> None:
        """``signed``: taken before ``found`` was read, which ``began`` at that time in nanoseconds.

        ``texts``: all that was read, the present definition first.
        """
        if found.problem or found.saved or found.volumes or not found.persistent:
            return
        if signed and settled(signed, began):
            if found.power is Power.OFF:
                self._known[found.uuid] = (found.name, signed), found
            elif found.power is not Power.CRASHED:
                self._stored[found.uuid] = (found.name, signed), texts[1:]


async def name_all(host: Host, *, recall: Recall | None = None, timeout: float = 60) -> list[Naming]:
    """Every domain of the host: its live and stored definition, snapshots, checkpoints, managed save.

    ``recall``: what is still known need not be read again. Raises LabError when the host cannot be asked;
    what is wrong with one domain is in its ``problem``.
    """
    return await host._call(
        "list what domains name", lambda connection: _name_all(connection, recall), timeout
    )


async def pool_folders(host: Host, *, timeout: float = 30) -> list[tuple[str, str]]:
    """The folders of the host's directory pools, each with why it cannot be looked into (empty: it can)."""

    def work(connection: Any) -> list[tuple[str, str]]:
        found = []
        try:
            pools = connection.listAllStoragePools()
        except libvirt.libvirtError as error:
            if error.get_error_code() in _UNSUPPORTED:
                return []
            raise
        for pool in pools:
            try:
                root = parse(pool.XMLDesc())
                path = root.findtext("target/path")
                if root.get("type") in ("dir", "fs", "netfs") and path and path.startswith("/"):
                    mounted = root.get("type") == "dir" or pool.isActive()
                    found.append(
                        (path, "" if mounted else "its pool is not active, so it may not be mounted")
                    )
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:  # else it is gone meanwhile
                    raise
        return found

    return await host._call("list storage pools", work, timeout)


async def saved_domain(
    host: Host, path: Path, *, timeout: float = 30
) -> tuple[str, Mark | None, tuple[str, ...]]:
    """The domain in a file of saved memory: uuid, mark, the files that it names. Raises LabError."""

    def work(connection: Any) -> tuple[str, Mark | None, tuple[str, ...]]:
        text = connection.saveImageGetXMLDesc(str(path))
        seen = parse_domain(text)
        return seen.uuid, seen.mark, tuple(map(str, seen.files))

    return await host._call(f"read {path.name}", work, timeout)


@lru_cache(maxsize=4096)
def domain_in(text: str) -> tuple[str, Mark | None, tuple[str, ...]]:
    """The domain in a stored definition or snapshot: uuid, mark, files. Raises LabError."""
    root = parse(text)
    files = tuple(map(str, files_of(root)))
    inner = (
        root
        if root.tag == "domain"
        else next(
            (found for tag in ("domain", "inactiveDomain") if (found := root.find(tag)) is not None), None
        )
    )
    if inner is None:
        inner = root.find("domain")
    if inner is None:
        return "", None, files
    copy = ET.fromstring(ET.tostring(inner))  # noqa: S314  # our own text
    copy.tag = "domain"
    seen = parse_domain(ET.tostring(copy, encoding="unicode"))
    return seen.uuid, seen.mark, files


_HAVING = {
    "snapshot": libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT,
    "checkpoint": libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT,
    "saved": libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
}


_QUIET = (
    libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF
    | libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT
    | libvirt.VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE
)


def _name_all(connection: Any, recall: Recall | None) -> list[Naming]:
    # lists instead of questions to each domain, and none that nobody needs
    having: dict[str, frozenset[str] | None] = {}

    def has(what: str, uuid: str) -> bool:
        if what not in having:
            having[what] = _having(connection, _HAVING[what])
        those = having[what]
        return those is None or uuid in those

    quiet: frozenset[str] = frozenset()
    if recall:
        recall.begin(connection)
        quiet = _having(connection, _QUIET) or quiet
    found = []
    for domain in connection.listAllDomains():
        uuid, name = domain.UUIDString(), domain.name()
        began, signed = time.time_ns(), recall.signed(name) if recall else ()
        one = recall.get(uuid, name, signed) if recall and uuid in quiet else None
        if one is None:
            stored = recall.stored(uuid, name, signed) if recall else None
            one, texts = _read(connection, domain, partial(has, uuid=uuid), stored)
            if one and recall:
                recall.keep(one, texts, signed, began)
        if one is not None:
            found.append(one)
    return found


def _having(connection: Any, flag: int) -> frozenset[str] | None:
    """The domains that have it; None if the driver does not tell, so that each has to be asked."""
    try:
        return frozenset(domain.UUIDString() for domain in connection.listAllDomains(flag))
    except libvirt.libvirtError:
        return None


_Has = Callable[[str], bool]
"""Whether a domain has a snapshot, a checkpoint, saved memory, by the keys of :data:`_HAVING`."""


def _read(connection: Any, domain: Any, has: _Has, stored: _Texts | None) -> tuple[Naming | None, _Texts]:
    """The domain, None only if it is not there any more itself; what was read.

    ``stored``: what is known without asking if it runs, see :meth:`Recall.stored`.
    """
    found = _read_once(connection, domain, has, stored)
    for _ in range(_TRIES - 1):
        if found[0] is None or not found[0].problem:
            break
        time.sleep(_REST)
        found = _read_once(connection, domain, has, None)
    return found


def _read_once(
    connection: Any, domain: Any, has: _Has, stored: _Texts | None
) -> tuple[Naming | None, _Texts]:
    uuid, name = domain.UUIDString(), domain.name()
    power, persistent, saved = Power.UNKNOWN, True, False
    texts: _Texts = ()
    try:
        power = read_power(domain)
        active = power not in (Power.OFF, Power.CRASHED)
        if stored and active:
            texts = ((domain.XMLDesc(), _RUNNING), *stored)
        else:
            persistent = bool(domain.isPersistent())
            texts = tuple(_texts(domain, has, active=active, persistent=persistent))
        saved = any(how == "its saved memory" for _, how in texts)
        files: dict[tuple[str, str], None] = {}
        contents: dict[tuple[str, str], None] = {}
        raw: set[str] = set()
        volumes = False
        mark = None
        for text, how in texts:
            seen = _seen(text)
            files |= dict.fromkeys((path, how) for path in seen.files)
            files |= dict.fromkeys((path, how) for path in _volumes(connection, seen.volumes))
            contents |= dict.fromkeys((path, how) for path in seen.contents)
            raw |= seen.raw
            volumes = volumes or bool(seen.volumes)
            mark = mark or seen.mark
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None, ()
        why = clean_line(error.get_error_message() or "libvirt does not say why", 200)
        return Naming(uuid, name, power, persistent, None, (), problem=why), ()
    except LabError as error:
        return Naming(uuid, name, power, persistent, None, (), problem=error.message), ()
    stamp = hashlib.sha256("\0".join([power.value, *(text for text, _ in texts)]).encode()).hexdigest()[:16]
    found = Naming(
        uuid,
        name,
        power,
        persistent,
        mark,
        tuple(files),
        frozenset(raw),
        saved,
        stamp,
        contents=tuple(contents),
        volumes=volumes,
    )
    return found, texts


_RUNNING = "its running definition"


def _texts(domain: Any, has: _Has, *, active: bool, persistent: bool) -> Iterator[tuple[str, str]]:
    yield domain.XMLDesc(), _RUNNING if active else "its definition"
    if persistent and active:
        yield domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), "its stored definition"
    for one in _if_there(domain.listAllSnapshots) if has("snapshot") else ():
        yield one.getXMLDesc(), f"snapshot '{clean_line(one.getName(), 60)}'"
    for one in _if_there(domain.listAllCheckpoints) if has("checkpoint") else ():
        yield one.getXMLDesc(), f"checkpoint '{clean_line(one.getName(), 60)}'"
    if has("saved") and _if_there(lambda: [1] if domain.hasManagedSaveImage() else []):
        yield domain.managedSaveGetXMLDesc(), "its saved memory"


def _if_there(call: Any) -> list[Any]:
    """What a driver without such things has: none."""
    try:
        return list(call())
    except libvirt.libvirtError as error:
        if error.get_error_code() in _UNSUPPORTED:
            return []
        raise


def _raw(root: ET.Element) -> Iterator[str]:
    for disk in root.iter("disk"):
        driver, source = disk.find("driver"), disk.find("source")
        if driver is not None and driver.get("type") == "raw" and source is not None:
            yield source.get("file") or ""


def _volumes(connection: Any, named: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The files of volumes by (pool, name). Raises LabError when one cannot be found out."""
    for pool, volume in named:
        try:
            yield connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path()
        except libvirt.libvirtError as error:
            raise LabError(
                f"its volume {clean_line(volume, 60)} in the pool {clean_line(pool, 60)} cannot be found"
            ) from error


@dataclass(frozen=True)
class _Seen:
    """What one XML says."""

    files: tuple[str, ...]
    raw: frozenset[str]
    volumes: tuple[tuple[str, str], ...]
    mark: Mark | None
    contents: tuple[str, ...]


@lru_cache(maxsize=4096)
def _seen(text: str) -> _Seen:
    """Read once: the same texts come again with each look. Raises LabError."""
    root = parse(text)
    sources = ((source.get("pool"), source.get("volume")) for source in root.iter("source"))
    return _Seen(
        tuple(map(str, files_of(root))),
        frozenset(_raw(root)),
        tuple((pool, volume) for pool, volume in sources if pool and volume),
        parse_domain(text).mark if root.tag == "domain" else None,
        tuple(_contents(root)) if root.tag == "domainsnapshot" else (),
    )


def _contents(snapshot: ET.Element) -> Iterator[str]:
    """The files that its disks and its memory are in, as it was; not what it goes on in from there."""
    if (memory := snapshot.find("memory")) is not None and memory.get("file"):
        yield memory.get("file") or ""
    for disk in snapshot.iterfind("domain/devices/disk"):
        source = disk.find("source")
        if disk.get("device", "disk") == "disk" and source is not None and source.get("file"):
            yield source.get("file") or ""
