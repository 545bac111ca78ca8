"""Builds the tiny guest: a qcow2 of some 25 MB that boots by itself under BIOS and answers SSH in seconds.

Debian's cloud kernel, and an initramfs with busybox and dropbear, on a FAT disk with SYSLINUX. All parts come
as .deb files through the machine's own apt configuration and are unpacked, not installed; nothing is mounted,
so it needs no privilege. The guest reads the NoCloud seed (JSON user-data) for its host key, authorized
keys and host name. Everything it writes lives in its memory.

    python -m tests.support.tiny.build FILE.qcow2
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = (
    "busybox-static",
    "dropbear-bin",
    "libtomcrypt1",
    "libtommath1",
    "libgmp10",
    "libc6",
    "libcrypt1",
    "zlib1g",
)
TOOLS = ("syslinux", "syslinux-common", "mtools")
KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64")
"""Meta packages that depend on the newest kernel: Debian's, Ubuntu's, and the one with everything."""

MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_balloon",
    "virtio-rng",
    "isofs",
    "nls_utf8",
    "button",
    "evdev",
)
LIBRARIES = ("libtomcrypt.so.1", "libtommath.so.1", "libgmp.so.10", "libc.so.6", "libcrypt.so.1", "libz.so.1")
DISK = 40 * 2**20
CONFIG = """\
SERIAL 0 115200
PROMPT 0
DEFAULT tiny
LABEL tiny
  LINUX vmlinuz
  INITRD initrd
  APPEND console=ttyS0,115200 rdinit=/sbin/init loglevel=7 mitigations=off nokaslr no_timer_check audit=0 \
tsc=reliable random.trust_cpu=on cryptomgr.notests apparmor=0 selinux=0 net.ifnames=0 panic=2
"""


def recipe_hash() -> str:
    """Changes whenever a file of this folder does: the key under which a built guest may be cached."""
    state = hashlib.sha256()
    for path in sorted(
        path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ):
        state.update(f"{path.relative_to(HERE)}\0".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


class Cpio:
    """An initramfs in the "newc" format; written here because ownership and devices then need no root."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.folders: set[str] = set()
        self.inode = 0

    def _entry(self, name: str, mode: int, data: bytes = b"", *, device: tuple[int, int] = (0, 0)) -> None:
        self.inode += 1
        path = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def folder(self, name: str, mode: int = 0o755) -> None:
        """A folder and those above it."""
        parent = str(Path(name).parent)
        if parent != "." and parent not in self.folders:
            self.folder(parent)
        if name not in self.folders:
            self.folders.add(name)
            self._entry(name, 0o040000 | mode)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self.folder(str(Path(name).parent))
        self._entry(name, 0o100000 | mode, data)

    def link(self, name: str, target: str) -> None:
        self.folder(str(Path(name).parent))
        self._entry(name, 0o120777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        self.folder(str(Path(name).parent))
        self._entry(name, 0o020600, device=(major, minor))

    def finish(self) -> bytes:
        self._entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def _run(*argv: str | Path, cwd: Path | None = None, path: Path | None = None) -> str:
    """A tool's output; raises with what it said on standard error."""
    env = {**os.environ, "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    if path:
        env["PATH"] = f"{path}:{env['PATH']}"
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, argv))}: exit status {done.returncode}\n{done.stderr[-2000:]}"
        )
    return done.stdout


def _kernel_package() -> str:
    for meta in KERNELS:
        found = subprocess.run(["apt-cache", "depends", "--important", meta], capture_output=True, text=True)
        if image := re.search(r"Depends: (linux-image-\S+)", found.stdout):
            return image[1]
    raise RuntimeError(f"apt knows none of {', '.join(KERNELS)}: run apt-get update")


def _unpack(work: Path) -> tuple[Path, Path]:
    """Download and unpack everything: (what goes into the guest, the tools used here)."""
    debs = work / "debs"
    debs.mkdir()
    # apt drops to its own user for the download where it can write, and complains where it cannot
    debs.chmod(0o777)
    kernel = _kernel_package()
    names = [kernel, *PACKAGES, *TOOLS]
    if kernel.endswith(("-generic", "-virtual")):
        names.append(kernel.replace("linux-image-", "linux-modules-"))
    _run("apt-get", "download", *names, cwd=debs)
    guest, tools = work / "guest", work / "tools"
    for deb in sorted(debs.glob("*.deb")):
        _run("dpkg-deb", "-x", deb, tools if deb.name.split("_")[0] in TOOLS else guest)
    return guest, tools


def _modules(guest: Path) -> list[Path]:
    """The modules wanted and what they depend on, in loading order (built-in ones are left out)."""
    found = {path.name.split(".")[0].replace("-", "_"): path for path in guest.rglob("*.ko*")}
    order: list[Path] = []

    def add(name: str) -> None:
        path = found.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        raw = path.read_bytes()
        if path.suffix == ".zst":
            raw = subprocess.run(["zstd", "-dc"], input=raw, stdout=subprocess.PIPE, check=True).stdout
            path = path.with_suffix("")
            path.write_bytes(raw)
            found[name.replace("-", "_")] = path
        depends = re.search(rb"\0depends=([^\0]*)\0", raw)
        for other in depends[1].decode().split(",") if depends else ():
            add(other)
        order.append(path)

    for name in MODULES:
        add(name)
    return order


def _initramfs(guest: Path, work: Path) -> bytes:
    cpio = Cpio()
    for name in (
        "dev",
        "proc",
        "sys",
        "mnt",
        "run",
        "root",
        "home/lab",
        "etc/dropbear",
        "usr/local/bin",
        "var/lib",
        "srv",
        "opt",
    ):
        cpio.folder(name)
    cpio.folder("tmp", 0o1777)
    cpio.folder("var/tmp", 0o1777)
    cpio.link("var/run", "/run")
    # the kernel opens this one for init before devtmpfs is there
    cpio.device("dev/console", 5, 1)
    cpio.device("dev/null", 1, 3)
    busybox = guest / "bin/busybox"
    cpio.file("bin/busybox", busybox.read_bytes(), 0o755)
    for applet in _run(busybox, "--list-full").split():
        if Path(applet).name not in {"busybox", "sudo"}:
            cpio.link(applet, "/bin/busybox")
    for tool in ("usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/lib/dropbear/dropbearconvert"):
        cpio.file(f"usr/bin/{Path(tool).name}", (guest / tool).read_bytes(), 0o755)
    for name in (*LIBRARIES, "ld-linux-x86-64.so.2"):
        (library,) = {path.resolve() for path in guest.rglob(f"x86_64-linux-gnu/{name}")}
        cpio.file(f"lib/x86_64-linux-gnu/{name}", library.read_bytes(), 0o755)
    cpio.link("lib64", "/lib/x86_64-linux-gnu")
    modules = _modules(guest)
    for module in modules:
        cpio.file(f"lib/modules/{module.name}", module.read_bytes())
    cpio.file("lib/modules/order", "".join(f"{module.name}\n" for module in modules).encode())
    for path in sorted(path for path in (HERE / "root").rglob("*") if path.is_file()):
        data = path.read_bytes()
        secret = path.name == "shadow"
        cpio.file(
            str(path.relative_to(HERE / "root")),
            data,
            0o600 if secret else 0o755 if data[:2] == b"#!" else 0o644,
        )
    stub = work / "sudo"
    _run(
        "gcc",
        "-Os",
        "-static",
        "-nostdlib",
        "-ffreestanding",
        "-fno-stack-protector",
        "-s",
        "-o",
        stub,
        HERE / "sudo.c",
    )
    cpio.file("usr/bin/sudo", stub.read_bytes(), 0o4755)
    return cpio.finish()


def build(target: Path) -> None:
    """Build the guest and put it at ``target`` in one rename. Raises RuntimeError with the tool's words."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tiny-", dir=target.parent) as folder:
        work = Path(folder)
        work.chmod(0o755)
        guest, tools = _unpack(work)
        (kernel,) = (guest / "boot").glob("vmlinuz-*")
        (work / "initrd").write_bytes(_initramfs(guest, work))
        (work / "syslinux.cfg").write_text(CONFIG)
        shutil.copy(kernel, work / "vmlinuz")
        raw = work / "disk.raw"
        with raw.open("wb") as file:
            file.truncate(DISK)
        programs = tools / "usr/bin"
        cylinders = DISK // (512 * 63 * 16)
        _run(
            "mformat",
            "-i",
            raw,
            "-t",
            str(cylinders),
            "-h",
            "16",
            "-s",
            "63",
            "-H",
            "0",
            "-v",
            "TINY",
            "::",
            path=programs,
        )
        for name in ("vmlinuz", "initrd", "syslinux.cfg"):
            _run("mcopy", "-i", raw, work / name, f"::{name}", path=programs)
        _run("syslinux", "--install", raw, path=programs)
        made = work / "disk.qcow2"
        _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, made)
        made.chmod(0o444)
        made.replace(target)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
