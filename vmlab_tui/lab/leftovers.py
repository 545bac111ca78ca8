"""libvirt's own folders: definitions that no connection showed us, and what gone domains left there."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.signs import Remembered
from vmlab_tui.hosts.census import Naming, domain_in, saved_domain
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Mark
from vmlab_tui.lab.census import Graph, names
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.parts import plain_files, stamp_of
from vmlab_tui.lab.reach import Thing

SYSTEM_STATE = Path("/var/lib/libvirt/qemu")
SYSTEM_CONFIG = Path("/etc/libvirt/qemu")
Stored = tuple[str, Mark | None, tuple[str, ...]]
"""A stored definition: uuid, mark, files."""


@dataclass(frozen=True)
class Saved:
    """A file of saved memory whose domain is gone. ``problem``: why it cannot be read."""

    path: Path
    uuid: str = ""
    mark: Mark | None = None
    files: tuple[str, ...] = ()
    problem: str = ""


def _state(lab: Lab) -> Path | None:
    """Where the lab's libvirt keeps saved memory, snapshots and nvram; None if that is not here."""
    parts = urlsplit(lab.uri)
    if parts.netloc or parts.scheme != "qemu":
        return None
    return SYSTEM_STATE if lab.system else _session(Path.home(), os.environ.get("XDG_CONFIG_HOME"))


def folders(lab: Lab) -> tuple[Path, Path] | None:
    """Where the lab's libvirt keeps definitions, and what it keeps beside them; None if that is not here."""
    state = _state(lab)
    return None if state is None else (SYSTEM_CONFIG if lab.system else state, state)


def _session(home: Path, config: str | None = None) -> Path:
    return (Path(config) if config else home / ".config") / "libvirt/qemu"


def usual_folders(lab: Lab) -> tuple[str, ...]:
    """Where disks usually lie, on this machine."""
    return () if urlsplit(lab.uri).netloc else ("/var/lib/libvirt/images",)


async def saved_files(lab: Lab, host: Host, domains: Iterable[Naming]) -> tuple[Saved, ...]:
    """Files of saved memory that belong to no domain that there is."""
    folder = _state(lab)
    known = {domain.name for domain in domains}
    found = []
    for path in _listed(folder / "save") if folder else ():
        if path.suffix != ".save" or path.stem in known:
            continue
        try:
            uuid, mark, files = await saved_domain(host, path)
        except LabError as error:
            if path.exists():  # else libvirt has taken it away meanwhile
                found.append(Saved(path, problem=error.message))
        else:
            found.append(Saved(path, uuid, mark, files))
    return tuple(found)


def _listed(folder: Path) -> list[Path]:
    """What is in it; of one that cannot be listed, :func:`add_left` tells."""
    try:
        return [folder / name for name in names(folder)]
    except OSError:
        return []


def add_left(graph: Graph, lab: Lab, own: Mapping[str, Naming], saves: tuple[Saved, ...]) -> None:
    """Saved memory and snapshot records of domains that are gone; ours by the mark inside them."""
    folder = _state(lab)
    if folder is None:
        return
    for kind in ("save", "snapshot", "checkpoint", "nvram"):
        try:
            names(folder / kind)
        except OSError as error:
            graph.closed(str(folder / kind), error.strerror or str(error))
    for one in saves:
        _add_saved(graph, lab, own, one)
    known = {domain.name for domain in own.values()}
    for kind in ("snapshot", "checkpoint"):
        for path in _listed(folder / kind):
            if path.is_dir() and path.name not in known:
                _add_records(graph, lab, own, path, kind)
    for path in _listed(folder / "nvram"):
        _add_nvram(graph, path)
    graph.searched.append(f"what libvirt keeps of domains in {folder}")


def _add_nvram(graph: Graph, path: Path) -> None:
    """It carries no mark: only a definition says whose it is, of a domain or of one of ours in the trash.

    A lease of ours that names it makes it a part of its VM.
    """
    files = plain_files(path)
    owners = graph.owners_of(str(path))
    if not files or any(key[0] in ("vm", "trash", "adopted") for key in owners):
        return
    # whoever named it so far has made a foreign disk of it
    key = next(iter(owners), ("libvirt", str(path)))
    users = [graph.parts[user].thing for user in graph.users_of(key)]
    ours = [user.name for user in users if user.trash and user.was == "vm"]
    graph.add(
        Thing(
            key,
            str(path),
            "libvirt" if ours and all(user.trash for user in users) else "",
            f"it is the nvram of VM {ours[0]} in the trash" if ours else "",
            ours=bool(ours),
            since=path.stat().st_mtime if path.exists() else None,
            paths=(str(path),),
            stamp=stamp_of(path),
        ),
        files,
        plain=[path.name],
    )


def _add_saved(graph: Graph, lab: Lab, own: Mapping[str, Naming], one: Saved) -> None:
    key = ("libvirt", str(one.path))
    ours = bool(one.mark and one.mark.store == str(lab.store.root)) and not one.problem
    files = plain_files(one.path)
    graph.add(
        Thing(
            key,
            str(one.path),
            "libvirt" if ours and one.uuid not in own else "",
            "it is the saved memory of a VM of ours whose domain is gone" if ours else "",
            f"a domain has its uuid {one.uuid}" if one.uuid in own else one.problem,
            ours=ours,
            since=one.path.stat().st_mtime if one.path.exists() else None,
            paths=(str(one.path),),
            stamp=stamp_of(one.path),
        ),
        files,
        plain=[one.path.name],
    )
    if one.problem:
        graph.blind(str(one.path), one.problem)
    for path in one.files:
        graph.need(key, path, f"saved memory {one.path}")


def _add_records(graph: Graph, lab: Lab, own: Mapping[str, Naming], folder: Path, kind: str) -> None:
    key = ("libvirt", str(folder))
    files: dict[str, os.stat_result] = {}
    marks: list[bool] = []
    needs: list[tuple[str, str]] = []
    for path in _listed(folder):
        files |= plain_files(path)
        try:
            uuid, mark, named = domain_in(path.read_text())
        except FileNotFoundError:
            continue  # libvirt has taken it away meanwhile
        except (OSError, LabError, UnicodeDecodeError) as error:
            graph.blind(str(path), str(error))
            marks.append(False)
            continue
        marks.append(bool(mark and mark.store == str(lab.store.root)) and uuid not in own)
        needs += [(name, f"{kind} record {path}") for name in named]
    ours = bool(marks) and all(marks)
    graph.add(
        Thing(
            key,
            str(folder),
            "libvirt" if ours else "",
            f"it records {kind}s of a VM of ours whose domain is gone" if ours else "",
            ours=ours,
            since=folder.stat().st_mtime if folder.exists() else None,
            paths=(str(folder),),
            stamp=stamp_of(folder, *map(Path, files)),
        ),
        files,
        folders=[folder],
        plain=[Path(path).name for path in files],
    )
    for name, how in needs:
        graph.need(key, name, how)


# -- definitions of others -------------------------------------------------------------------------


def add_stored(graph: Graph, lab: Lab, known: Collection[str], texts: Remembered[Stored]) -> None:
    """Definitions that lie on this machine and that no connection has told of: other users' sessions, and
    files that libvirt could not load. Of VMs that are known: what libvirt will read when it is told to."""
    if urlsplit(lab.uri).netloc:
        return
    count = 0
    for folder, whose in _config_folders(lab):
        try:
            found = list(_definitions(folder))
        except PermissionError as error:
            graph.closed(f"the VMs of {whose} in {folder}", error.strerror or "no permission")
            continue
        except OSError as error:
            graph.blind(f"the VMs of {whose} in {folder}", error.strerror or str(error))
            continue
        for path in found:
            try:
                uuid, _, files = texts.get(str(path), path.stat(), partial(_stored, path))
            except PermissionError as error:
                graph.closed(str(path), error.strerror or "no permission")
                continue
            except FileNotFoundError:
                continue
            except (OSError, LabError, UnicodeDecodeError) as error:
                graph.blind(str(path), str(error))
                continue
            key = ("vm", uuid)
            if uuid not in known:
                count += 1
                key = ("session", str(path))
                graph.add(Thing(key, str(path), root=f"it is a VM of {whose}"))
            for name in files:
                graph.need(key, name, f"named in {path}")
    graph.searched.append(f"definitions of other sessions on this machine: {count}")


def _stored(path: Path) -> Stored:
    return domain_in(path.read_text())


def _config_folders(lab: Lab) -> Iterator[tuple[Path, str]]:
    if lab.system:
        yield SYSTEM_CONFIG, "the system"
    seen = set()
    for user in pwd.getpwall():
        home = user.pw_dir
        if home in seen or not (user.pw_uid == 0 or user.pw_uid >= 1000) or home in ("/", "/nonexistent"):
            continue
        seen.add(home)
        yield _session(Path(home)), f"the user {user.pw_name}"


def _definitions(folder: Path) -> Iterator[Path]:
    """Domains and their snapshots below a configuration folder. Raises OSError."""
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return
    except FileNotFoundError:
        return
    for name in names(folder):
        if name.endswith(".xml"):
            yield folder / name
    for kind in ("snapshot", "checkpoint"):
        for name in names(folder / kind):
            for one in names(folder / kind / name) if (folder / kind / name).is_dir() else ():
                if one.endswith(".xml"):
                    yield folder / kind / name / one
