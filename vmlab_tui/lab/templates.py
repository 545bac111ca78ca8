"""Templates: clean boots kept in the store, from which runs start in seconds instead of booting.

``templates/<key>/`` holds a copy of a VM's disk with the memory snapshot in it, the snapshot as libvirt tells
it, the public host key that its guest shows, and ``template.json``. A template belongs to no VM and no run:
it is a cache, found by its key, and may go at any time. Whoever starts from one copies it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import Store, fsync_dir, locked, used_bytes, write_durably
from vmlab_tui.images import qemuimg
from vmlab_tui.lab.leases import now

if TYPE_CHECKING:  # the screen looks at templates and must not wait for libvirt's bindings
    from vmlab_tui.hosts.fork import Origin
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.vmdir import VmDir

COPIED = declare("template.copied", "a template's files are written, it is not in its place")
PLACED = declare("template.placed", "the template is in its place, the journal does not know")

FILE = "template.json"
DISK = "disk.qcow2"
SNAPSHOT = "snapshot.xml"
KNOWN_HOST = "known_host"
USED = "used"
"""An empty file whose time of change says when the template was last started from."""
_NEW = ".new-"


class Template(BaseModel):
    """``template.json``. ``memory`` in bytes; ``created`` ISO 8601 in UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: int = Field(1, alias="schema")
    key: str
    image: str
    digest: str
    cpus: int
    memory: int
    snapshot: str
    mac: str
    instance_id: str
    run_id: str
    created: str


def folder_of(store: Store, key: str) -> Path:
    """Where the template of that key is, or would be. Raises UsageError for what is no key."""
    if len(key) != 32 or set(key) - set("0123456789abcdef"):
        raise UsageError(f"'{key[:40]}' is not a template's key")
    return store.templates / key


def read_template(folder: Path) -> Template:
    """Raises LabError when it is not there, damaged or of a newer schema."""
    path = folder / FILE
    try:
        data = json.loads(path.read_bytes())
        if isinstance(data, dict) and int(data.get("schema", 0)) > 1:
            raise LabError(f"{path} was written by a newer vmlab", hint="use that one")
        found = Template.model_validate(data)
    except (OSError, ValueError, ValidationError) as error:
        raise LabError(f"{path} cannot be read: {error}", hint=f"remove {folder}") from error
    if found.key != folder.name:
        raise LabError(f"{path} is of another template", hint=f"remove {folder}")
    return found


def find_template(store: Store, key: str) -> Template | None:
    """The whole template of that key; None when there is none, or it cannot be used."""
    folder = folder_of(store, key)
    try:
        found = read_template(folder)
    except LabError:
        return None
    whole = all((folder / name).is_file() for name in (DISK, SNAPSHOT, KNOWN_HOST))
    return found if whole else None


def scan_templates(store: Store) -> tuple[list[Template], dict[str, str]]:
    """Every template, longest unused first, and by folder name why one cannot be read."""
    found: list[tuple[float, Template]] = []
    problems: dict[str, str] = {}
    try:
        folders = sorted(path for path in store.templates.iterdir() if path.name[0] != ".")
    except FileNotFoundError:
        return [], {}
    for folder in folders:
        try:
            found.append((last_used(folder), read_template(folder)))
        except LabError as error:
            problems[folder.name] = error.message
    found.sort(key=lambda one: one[0])
    return [one for _, one in found], problems


def last_used(folder: Path) -> float:
    """Seconds since 1970; 0 when nothing tells."""
    try:
        return (folder / USED).stat().st_mtime
    except OSError:
        return 0.0


def size_of(store: Store, key: str) -> int:
    """Bytes on the disk."""
    folder = folder_of(store, key)
    try:
        return sum(used_bytes(path.lstat()) for path in folder.iterdir())
    except FileNotFoundError:
        return 0


def origin(store: Store, template: Template) -> Origin:
    """What a fork of it starts from. Raises LabError when it has gone meanwhile."""
    from vmlab_tui.hosts.fork import Origin

    folder = folder_of(store, template.key)
    try:
        xml = (folder / SNAPSHOT).read_text()
        os.utime(folder / USED)
    except OSError as error:
        raise LabError(
            f"template {template.key} has just been removed", hint="start the run again"
        ) from error
    return Origin(template.snapshot, xml, folder / DISK)


async def make_template(
    store: Store, host: Host, vm: VmDir, uuid: str, template: Template, *, timeout: float = 300
) -> bool:
    """Copy the VM ``uuid`` at its snapshot into the store; it stands still meanwhile. False if one is there.

    A crash leaves a folder that :func:`drop_unfinished` knows by the run's id. Raises LabError.
    """
    from vmlab_tui.hosts.fork import copy_disk, origin_of

    store.templates.mkdir(mode=0o700, exist_ok=True)
    target = folder_of(store, template.key)
    if find_template(store, template.key):
        return False
    drop_unfinished(store, template.run_id)
    new = store.templates / f"{_NEW}{template.run_id}"
    new.mkdir(mode=0o700)
    found = await origin_of(host, uuid, template.snapshot, timeout=30)
    await copy_disk(host, uuid, found.disk, new / DISK, timeout=timeout)
    await qemuimg.settle(new / DISK, timeout=timeout)
    (new / DISK).chmod(0o600)
    write_durably(new / SNAPSHOT, found.snapshot_xml)
    write_durably(new / KNOWN_HOST, vm.known_host.read_bytes())
    (new / USED).touch(mode=0o600)
    write_durably(new / FILE, template.model_copy(update={"created": now()}).model_dump_json(by_alias=True))
    point(COPIED)
    with locked(store.templates / ".lock"):
        if target.exists():
            if find_template(store, template.key):
                shutil.rmtree(new)
                return False
            shutil.rmtree(target)
        new.rename(target)
        fsync_dir(store.templates)
    point(PLACED)
    return True


def drop_unfinished(store: Store, run_id: str) -> bool:
    """Remove what a run left of a template that it did not finish."""
    new = store.templates / f"{_NEW}{run_id}"
    if not new.is_dir():
        return False
    shutil.rmtree(new)
    return True


def evict(store: Store, key: str) -> int:
    """Remove a template, reference first; returns the bytes that came back. Nothing happens without one."""
    folder = folder_of(store, key)
    with locked(store.templates / ".lock"):
        freed = size_of(store, key)
        if folder.is_dir():
            (folder / FILE).unlink(missing_ok=True)
            shutil.rmtree(folder)
            fsync_dir(store.templates)
    return freed
