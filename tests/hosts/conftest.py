"""Small guests on a real libvirtd: boot sectors on a qcow2 overlay, in folders like the store's."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmlab_tui.base.ids import new_mac, new_uuid
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Accel, Forward, Mark, VmSpec
from vmlab_tui.hosts.payload import sector

URI = "qemu:///system"

_TICKER = (
    "fa fc  31 c0  8e d8  bc 00 7c"  # cli; cld; xor ax, ax; mov ds, ax; mov sp, 0x7c00
    "66 31 db"  # xor ebx, ebx  the line's number
    # line:
    "66 89 d9  b0 08  88 c4"  # mov ecx, ebx; mov al, 8; mov ah, al  eight hex digits
    # digit:
    "66 c1 c1 04  88 c8  24 0f"  # rol ecx, 4; mov al, cl; and al, 15
    "3c 0a  72 02  04 27"  # cmp al, 10; jb +2; add al, 'a' - '0' - 10
    "04 30  ba f8 03  ee"  # add al, '0'; mov dx, 0x3f8; out dx, al
    "fe cc  75 e8"  # dec ah; jnz digit
    "b0 0a  ee"  # mov al, 10; out dx, al
    "{pause}"  # sti; hlt  until the BIOS clock ticks, or nop; nop
    "66 43"  # inc ebx
    "66 81 fb {lines}  72 d1"  # cmp ebx, lines; jb line
    "f4  eb fd"  # stop: hlt; jmp stop
)
_ECHO = (
    "fa  b0 3e  ba f8 03  ee"  # cli; mov al, '>'; mov dx, 0x3f8; out dx, al
    "ba fd 03  ec  a8 01  74 f8"  # wait: mov dx, 0x3fd; in al, dx; test al, 1; jz wait
    "ba f8 03  ec  34 20  ee  eb ef"  # mov dx, 0x3f8; in al, dx; xor al, 0x20; out dx, al; jmp wait
)


def _hex(number: int) -> str:
    return struct.pack("<I", number).hex()


def ticker(lines: int = 1 << 30, *, fast: bool = False) -> bytes:
    """Numbered lines on ttyS0, 18 a second (the guest sleeps in between), or as fast as it can."""
    pause = "90 90" if fast else "fb f4"
    return sector(bytes.fromhex(_TICKER.format(pause=pause, lines=_hex(lines))))


def echo() -> bytes:
    """A ``>``, then each byte that comes on ttyS0 with its case swapped."""
    return sector(bytes.fromhex(_ECHO))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def fingerprint(path: Path) -> tuple[int, int, int, str]:
    seen = path.stat()
    return seen.st_mode, seen.st_uid, seen.st_gid, hashlib.sha256(path.read_bytes()).hexdigest()


class Bench:
    """Makes VMs and takes every one of them away again."""

    ticker = staticmethod(ticker)
    echo = staticmethod(echo)
    fingerprint = staticmethod(fingerprint)
    uri = URI

    def __init__(self, host: Host, root: Path, qemu: tuple[int, int]) -> None:
        self.host, self.root, self.qemu = host, root, qemu
        self.uuids: list[str] = []

    def image(self, code: bytes, form: str = "qcow2") -> Path:
        raw = self.root / f"{hashlib.sha256(code).hexdigest()[:8]}.raw"
        if (path := raw.with_suffix(f".{form}")).exists():
            return path
        raw.write_bytes(code.ljust(1 << 20, b"\0"))
        if form == "qcow2":
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
        path.chmod(0o444)
        return path

    def folder(self, uuid: str) -> Path:
        folder = self.root / uuid
        folder.mkdir(mode=0o700)
        os.chown(folder, *self.qemu)
        self.uuids.append(uuid)
        return folder

    def spec(self, code: bytes, *, copies: int = 0, **changes: Any) -> VmSpec:
        """A VM that is not defined yet; ``copies``: overlays between its disk and the image."""
        uuid = new_uuid()
        folder, chain = self.folder(uuid), [(self.image(code), "qcow2")]
        for number in range(copies + 1):
            overlay = folder / ("disk.qcow2" if number == copies else f"layer{number}.qcow2")
            create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
            subprocess.run([*create, "-b", chain[0][0], overlay], check=True)
            chain.insert(0, (overlay, "qcow2"))
        for layer, _ in chain[1:-1]:
            os.chown(layer, *self.qemu)
        seed = folder / "seed.iso"
        seed.write_bytes(b"seed".ljust(65536, b"\0"))
        seed.chmod(0o600)
        made = VmSpec(
            uuid=uuid, name=f"hosttest-{uuid[:8]}", cpus=1, memory=32 << 20, accel=Accel.TCG,
            disk=chain[0][0], disk_format="qcow2", chain=tuple(chain[1:]), seed=seed,
            console_log=folder / "console.log", mac=new_mac(),
            forwards=(Forward("ssh", free_port(), 22),), mark=Mark("0.1", "run-1", str(self.root)),
        )  # fmt: skip
        return replace(made, **changes)

    async def until(self, true: Callable[[], Any], seconds: float = 90) -> Any:
        for _ in range(int(seconds * 20)):
            if found := true():
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {seconds} s")

    def numbers(self, log: Path) -> list[int]:
        """The ticker's whole lines."""
        text = log.read_bytes() if log.exists() else b""
        return [int(line, 16) for line in text.split(b"\n")[:-1] if len(line) == 8]

    async def ticked(self, spec: VmSpec, beyond: int, since: int = 0) -> list[int]:
        """Wait for ``beyond`` more lines after the first ``since``; all lines after those."""
        await self.until(lambda: len(self.numbers(spec.console_log)) > since + beyond)
        return self.numbers(spec.console_log)[since:]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    if not Path("/run/libvirt/libvirt-sock").exists():
        pytest.fail("libvirtd does not run: script/bootstrap starts it")
    root = Path(tempfile.mkdtemp(prefix="hosttest-", dir="/var/tmp"))
    root.chmod(0o755)
    async with Host.open(URI) as host:
        facts = await host.facts()
        made = Bench(host, root, (facts.qemu_uid, facts.qemu_gid))
        try:
            yield made
        finally:
            for uuid in made.uuids:
                await host.destroy(uuid)
                await host.undefine(uuid)
            shutil.rmtree(root)
            left = {one.uuid for one in await host.domains()} & set(made.uuids)
            assert not left
