"""Beds for guests without a virtual machine: real OpenSSH servers on loopback.

``gnu`` is this machine as it is; ``busybox`` the same server with a root directory in which there is nothing
but BusyBox. Neither has systemd.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.guests.beds import Bed, free_port
from vmlab_tui.guests import unitshell
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import HostKey, UserKey, ensure_user_key, new_host_key
from vmlab_tui.guests.ssh import Guest

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
BUSYBOX = os.environ.get("VMLAB_TEST_BUSYBOX") or shutil.which("busybox") or ""


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Root-owned and closed to others all the way up, as sshd wants it."""
    path = Path(tempfile.mkdtemp(prefix="vmlab-guests-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def user_key(folder: Path) -> UserKey:
    return ensure_user_key(folder / "keys")


@pytest.fixture(scope="session")
def host_key() -> HostKey:
    return new_host_key()


def _busybox_root(folder: Path) -> Path:
    root = folder / "busybox"
    for name in ("bin", "proc", "dev", "run", "tmp", "root", "etc", "home/lab", "var/lib"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout
    for applet in listed.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nlab:x:12345:12345:lab:/home/lab:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nlab:x:12345:\nstaff:x:12350:\n")
    # sshd looks the login shell up before it changes the root
    (root / "bin/bash").write_text('#!/bin/sh\nexec /bin/sh "$@"\n')
    (root / "bin/bash").chmod(0o755)
    (root / "dev/stderr").symlink_to("/proc/self/fd/2")
    for name, minor in (("null", 3), ("zero", 5), ("urandom", 9)):
        os.mknod(root / "dev" / name, 0o20666, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)
    os.chown(root / "home/lab", 12345, 12345)
    (root / "tmp").chmod(0o1777)
    return root


def _serve(folder: Path, name: str, root: Path | None, user_key: UserKey, host_key: HostKey) -> Iterator[Bed]:
    Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    (folder / f"{name}.key").write_text(host_key.private)
    (folder / f"{name}.key").chmod(0o600)
    (folder / f"{name}.authorized").write_text(user_key.public + "\n")
    config = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/{name}.key",
        f"AuthorizedKeysFile {folder}/{name}.authorized",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 100",
    ]
    prepare = ":"
    if root is not None:
        config.append("ChrootDirectory /mnt")  # sshd wants root's own folders all the way up
        prepare = (
            f"mount --make-rprivate / && mount --bind {root} /mnt"
            " && mount -t proc proc /mnt/proc && mount -t tmpfs tmpfs /mnt/run"
        )
    (folder / f"{name}.conf").write_text("\n".join(config) + "\n")
    # mounts live in a namespace of the server's own and go with it
    command = f"{prepare} && exec {SSHD} -D -e -f {folder}/{name}.conf"
    with (folder / f"{name}.log").open("wb") as log:
        server = subprocess.Popen(["unshare", "--mount", "sh", "-c", command], stderr=log, stdout=log)
    try:
        for _ in range(200):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / f"{name}.log").read_text()
            time.sleep(0.05)
        endpoint = Endpoint("127.0.0.1", port, "root", user_key.private, host_key.public, vm=name)
        yield Bed(endpoint, Path(f"/proc/{server.pid}/root{'/mnt' if root else ''}"), server.pid)
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def gnu(folder: Path, user_key: UserKey, host_key: HostKey) -> Iterator[Bed]:
    if os.geteuid():
        pytest.skip("an OpenSSH server of our own needs root")
    yield from _serve(folder, "gnu", None, user_key, host_key)


@pytest.fixture(scope="session")
def busybox(folder: Path, user_key: UserKey, host_key: HostKey) -> Iterator[Bed]:
    if os.geteuid():
        pytest.skip("an OpenSSH server of our own needs root")
    if not BUSYBOX:
        pytest.skip("busybox is not installed")
    yield from _serve(folder, "busybox", _busybox_root(folder), user_key, host_key)


@pytest.fixture(params=["gnu", "busybox"])
def bed(request: pytest.FixtureRequest) -> Bed:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Bed)
    return found


@pytest.fixture
def unit_folders(folder: Path, bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep units out of this machine's own folders (in ``gnu`` the guest is this machine).

    Yields the folder for secrets as seen from here; it has to be empty afterwards.
    """
    name = f"vmlab-test-{os.urandom(4).hex()}"
    monkeypatch.setattr(unitshell, "ROOT", str(folder / name))
    monkeypatch.setattr(unitshell, "SECRETS", f"/run/{name}")
    secrets = bed.at(f"/run/{name}")
    yield secrets
    assert not secrets.is_dir() or list(secrets.iterdir()) == []
    with contextlib.suppress(FileNotFoundError):
        Path("/run", name).rmdir()


@pytest.fixture
async def guest(bed: Bed) -> AsyncIterator[Guest]:
    async with Guest(bed.endpoint) as guest:
        yield guest


@pytest.fixture
async def gnu_guest(gnu: Bed) -> AsyncIterator[Guest]:
    async with Guest(gnu.endpoint) as guest:
        yield guest
