"""A lab full of leftovers, with traps beside them: built by virsh, qemu-img and by hand, never by vmlab."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.leftovers import URI
from vmlab_tui.base.paths import Store

OLD = "2020-01-02T03:04:05+00:00"
FAR = "2090-01-02T03:04:05+00:00"
_MARK = "urn:vmlab:mark:1"


def virsh(*words: str) -> str:
    done = subprocess.run(["virsh", "-c", URI, *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


def overlay(path: Path, base: str | Path, form: str = "qcow2") -> Path:
    """An overlay on ``base``, named exactly so."""
    # -u: the base's name is written as it is given, whether it can be opened from here or not
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", form, "-b", base, path, "8M")
    return path


def blank(path: Path, form: str = "qcow2") -> Path:
    """A disk with something in it."""
    qemu_img("create", "-q", "-f", form, path, "8M")
    words = ["qemu-io", "-f", form, "-c", f"write -P {os.urandom(1)[0] | 1} 0 64k", str(path)]
    subprocess.run(words, check=True, capture_output=True)
    return path


@dataclass
class Zoo:
    """Where it stands, what is to be found in it (keys), and what must stay."""

    store: Store
    outside: Path
    """A folder that is watched."""
    find: set[str] = field(default_factory=set)
    stay: set[str] = field(default_factory=set)
    domains: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    """What lies elsewhere and is removed at the end."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    locks: list[int] = field(default_factory=list)

    # -- our things --------------------------------------------------------------------------------

    def vm(
        self,
        name: str,
        run: str = "gone",
        *,
        disk: str | Path | None = None,
        domain: bool = True,
        mark: bool = True,
        **lease: object,
    ) -> str:
        """A VM of ours: lease, disk on ``disk``, domain that is off. Returns its uuid."""
        ident = str(uuid.uuid4())
        folder = self.store.vms / ident
        folder.mkdir(mode=0o711)
        data = {
            "schema": 1,
            "uuid": ident,
            "name": f"{name}-{ident[:8]}",
            "run_id": run,
            "profile": "p",
            "image": "base",
            "owner": "zoo",
            "created": OLD,
            **lease,
        }
        (folder / "lease.json").write_text(json.dumps(data))
        path = folder / "disk.qcow2"
        if disk is None:
            blank(path)
        else:
            overlay(path, disk)
        if domain:
            self.define(f"{name}-{ident[:8]}", [path], ident=ident, mark=run if mark else None)
        return ident

    def run(self, name: str, *, over: bool = True, age: float = 86400.0, live: bool = False) -> str:
        """A run's directory with a journal."""
        from vmlab_tui.journal.events import make

        folder = self.store.runs / name
        folder.mkdir(parents=True)
        when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - age))
        events: list[tuple[str, dict[str, object]]] = [
            ("run_created", {"run_id": name, "profile": "p", "plan_sha": "x"})
        ]
        if over:
            events.append(
                ("ended", {"state": "passed", "exit": 0, "disposition": "destroyed", "seconds": 1.0})
            )
        lines = [make(n, kind, data, time=when)[1] for n, (kind, data) in enumerate(events, 1)]
        (folder / "journal.jsonl").write_bytes(b"".join(lines))
        if live:
            import fcntl

            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(handle, fcntl.LOCK_EX)
            self.locks.append(handle)
        return name

    def image(self, name: str, *, age: float = 0.0) -> Path:
        """An image with its sidecar."""
        path = blank(self.store.images / f"{name}-0123456789ab.qcow2")
        created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - age))
        sidecar = {
            "schema": 1,
            "name": name,
            "file": path.name,
            "digest": "0" * 64,
            "format": "qcow2",
            "virtual_size": 8 << 20,
            "disk_size": 1,
            "created": created,
        }
        (self.store.images / f"{name}.json").write_text(json.dumps(sidecar))
        return path

    def former(self, name: str, form: str = "qcow2") -> Path:
        """A former build's file, put there long ago as far as its times can tell."""
        path = blank(self.store.images / f"{name}.{form}", form)
        os.utime(path, (1, 1))
        return path

    def found(self, *keys: str) -> None:
        self.find |= set(keys)

    def trap(self, *keys: str) -> None:
        self.stay |= set(keys)

    # -- others' things ----------------------------------------------------------------------------

    def define(
        self,
        name: str,
        disks: Sequence[Path],
        *,
        ident: str | None = None,
        mark: str | None = None,
        forms: Sequence[str] = (),
        head: str = "",
    ) -> str:
        """A domain that is off; ``mark``: the run that a vmlab of this store made it for."""
        ident = ident or str(uuid.uuid4())
        virsh_xml = self.outside / f".{ident}.xml"
        virsh_xml.write_text(self.xml(name, ident, disks, mark=mark, forms=forms, head=head))
        virsh("define", str(virsh_xml))
        virsh_xml.unlink()
        self.domains.append(ident)
        return ident

    def xml(
        self,
        name: str,
        ident: str,
        disks: Sequence[Path],
        *,
        mark: str | None = None,
        forms: Sequence[str] = (),
        head: str = "",
    ) -> str:
        forms = forms or ["qcow2"] * len(disks)
        drives = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='{form}'/><source file='{disk}'/>"
            f"<target dev='vd{'abcdef'[at]}' bus='virtio'/></disk>"
            for at, (disk, form) in enumerate(zip(disks, forms, strict=True))
        )
        meta = ""
        if mark:
            meta = (
                f"<metadata><m:mark xmlns:m='{_MARK}' version='0' run='{mark}' store='{self.store.root}'/>"
                "</metadata>"
            )
        features = "<features><acpi/></features>" if "<nvram>" in head else ""
        return (
            f"<domain type='qemu'><name>{name}</name><uuid>{ident}</uuid>{meta}<memory>32768</memory>"
            f"<vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>{head}</os>{features}"
            f"<devices>{drives}<controller type='usb' model='none'/></devices></domain>"
        )

    def process(self, *words: str | Path) -> None:
        """A plain program that stays, without a domain."""
        self.processes.append(
            subprocess.Popen([*map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        )

    def close(self) -> None:
        """Take everything down again that is not in the store."""
        for process in self.processes:
            process.terminate()
            process.wait()
        for device in self.loops:
            subprocess.run(["losetup", "-d", device], check=True)
        for handle in self.locks:
            os.close(handle)
        known = virsh("list", "--all", "--uuid").split()
        for ident in dict.fromkeys(self.domains):
            if ident in known:
                subprocess.run(["virsh", "-c", URI, "destroy", ident], capture_output=True)
                virsh("undefine", ident, "--managed-save", "--snapshots-metadata")
        for path in self.files:
            if path.is_dir():
                subprocess.run(["rm", "-r", str(path)], check=True)
            else:
                path.unlink(missing_ok=True)


def stale_socket(path: Path) -> None:
    """A socket that nobody listens on, as a killed worker leaves it."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def state_of(folders: Iterable[Path]) -> dict[str, str]:
    """Every file, link and directory below ``folders`` with inode, owner, mode and a digest of its content.

    Locks are left out: they come with their first use.
    """
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                found[str(path)] = f"link {path.readlink()}"
            elif path.is_file() and path.name not in ("lock", ".lock"):
                facts = path.stat()
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path)] = f"{facts.st_ino} {facts.st_uid} {facts.st_mode:o} {digest}"
            elif path.is_dir():
                found[str(path)] = "directory"
    return found


def libvirt_state(idents: Iterable[str]) -> dict[str, str]:
    """What libvirt knows of these domains: definition, snapshots."""
    found = {}
    known = set(virsh("list", "--all", "--uuid").split())
    for ident in idents:
        if ident in known:
            found[ident] = virsh("dumpxml", "--inactive", "--security-info", ident)
            names = virsh("snapshot-list", "--name", "--topological", ident).split()
            for name in names:
                found[f"{ident}/{name}"] = virsh("snapshot-dumpxml", ident, name)
    return found
