"""`cp` and `forward` through a real SSH server; libvirt's own test driver plays the VM."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.guests.beds import Bed, free_port
from tests.guests.conftest import folder, gnu, host_key, user_key
from tests.lab.test_leases import lease
from tests.runs.command import Said, vmlab
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.leases import PortLease, write_lease
from vmlab_tui.lab.vmdir import make_vm_dir

__all__ = ["folder", "gnu", "host_key", "user_key"]
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""The running domain of test:///default."""


@pytest.fixture
def lab(gnu: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a VM that is this machine."""
    store = Store(tmp_path / "store")
    store.vms.mkdir(parents=True)
    shutil.copytree(gnu.endpoint.key.parent, store.keys)
    vm = make_vm_dir(store, UUID, uid=os.getuid(), gid=os.getgid())
    vm.known_host.write_text(gnu.endpoint.host_key + "\n")
    ports = (
        PortLease(name="ssh", host_port=gnu.endpoint.port, guest_port=22),
        PortLease(name="web", host_port=22999, guest_port=8080),
    )
    write_lease(store, lease(UUID, name="web", user="root", ports=ports))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    return store


async def cp(lab: Store, *words: str | Path, status: int = 0) -> Said:
    said = await vmlab(lab, "cp", *words, timeout=30)
    assert said.status == status, (words, said.out, said.err)
    return said


async def test_into_a_vm(lab: Store, tmp_path: Path) -> None:
    site, there = tmp_path / "site", tmp_path / "there"
    (site / "css").mkdir(parents=True)
    (site / "css/a b").write_text("a")
    (site / "index").write_text("index")
    first = await cp(lab, site, f"web:{there}")
    assert first.out == f"{site} -> web:{there}: 2 files, 6B\n"
    assert (there / "css/a b").read_text() == "a"
    again = (await cp(lab, site, f"web:{there}", "--json")).data["sent"][0]
    assert (again["files"], again["unchanged"]) == (0, 2)
    await cp(lab, site, f"web:{there}/")
    assert (there / "site/index").read_text() == "index"
    await cp(lab, site / "index", f"web:{there}/site/css")  # into a folder that is there
    assert (there / "site/css/index").read_text() == "index"
    await cp(lab, site / "index", f"web:{there}/renamed")
    await cp(lab, site / "index", site / "css/a b", f"web:{there}/both", "--owner", "nobody")
    assert [path.name for path in sorted((there / "both").iterdir())] == ["a b", "index"]
    assert (there / "both/index").owner() == "nobody"
    assert (there / "renamed").read_text() == "index"


async def test_out_of_a_vm(lab: Store, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "deep").mkdir(parents=True)
    (there / "deep/one").write_text("1")
    (there / "$(touch x) a.log").write_text("a")
    (there / "b.log").write_text("b")
    (there / "out").symlink_to("/etc/passwd")
    said = await cp(lab, f"web:{there}/*.log", f"web:{there}/deep/", here)
    assert said.out == f"web -> {here}: 3 files, 3B\n"
    assert {str(path.relative_to(here)) for path in here.rglob("*")} == {
        "$(touch x) a.log",
        "b.log",
        "deep",
        "deep/one",
    }
    some = await cp(
        lab, f"web:{there}/b.log", f"web:{there}/out", f"web:{there}/no*", here, "--json", status=4
    )
    assert some.data["fetched"] == ["b.log"]
    assert [problem.rpartition(": ")[2] for problem in some.data["problems"]] == [
        "symbolic link, left out",
        "nothing there",
    ]
    none = await cp(lab, f"web:{there}/no", here, status=4)
    assert f"web:{there}/no: nothing there" in none.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["web:/etc/hostname"], "where to"),
        (["/etc/hostname", "/tmp"], "one side is in a VM"),
        (["web:/a", "other:/b", "here"], "one VM at a time"),
        (["web:/a", "web:/b"], "one side is in a VM"),
        (["/no-such", "web:/tmp/"], "/no-such does not exist"),
        (["/etc/hostname", "web:tmp"], "'tmp' is no absolute path"),
        (["/etc/hostname", "nobody:/tmp/"], "called 'nobody'"),
        (["web:etc", "here"], "'etc' is not an absolute path"),
        (["web:/etc/../x", "here"], "'/etc/../x' is not an absolute path"),
        (["web:/etc/hostname", "/etc/hostname"], "/etc/hostname is no folder"),
    ],
)
async def test_what_cannot_be_copied_is_named(lab: Store, words: list[str], told: str) -> None:
    assert told in (await cp(lab, *words, status=2)).err


@asynccontextmanager
async def forwarding(lab: Store, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vmlab_tui", "forward", "web", *words),
        env={**os.environ, "VMLAB_STORE": str(lab.root)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_ports_are_led_through(lab: Store, gnu: Bed) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())  # after the end of what is sent
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port, closed = server.sockets[0].getsockname()[1], free_port()
    async with server, forwarding(lab, str(port), str(closed), "8080", "--json") as process:
        assert process.stdout and process.stderr
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        here = {one["port"]: one["local"] for one in ready["ports"]}
        assert ready["ports"][0]["url"] == f"http://127.0.0.1:{here[port]}"

        async def say(to: int, data: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", to)
            writer.write(data)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return answer

        big = b"abc" * 300_000
        assert await asyncio.gather(*(say(here[port], big) for _ in range(3))) == [big.upper()] * 3
        with suppress(OSError):  # closed at once: what has been sent by then may be answered by a reset
            assert await say(here[closed], b"x") == b""
        gnu.cut()
        assert await say(here[port], b"again") == b"AGAIN"
        said = [(await process.stderr.readline()).decode() for _ in range(6)]
        assert "port 8080 is at 127.0.0.1:22999 anyhow" in "".join(said)
        assert f"port {closed} does not answer in the guest" in "".join(said)


async def test_a_port_that_is_taken_is_named(lab: Store, gnu: Bed) -> None:
    taken = str(gnu.endpoint.port)
    said = await vmlab(lab, "forward", "web", "80", "--to", taken, timeout=30)
    assert said.status == 4
    assert f"port {taken} on 127.0.0.1 cannot be used" in said.err
    assert (await vmlab(lab, "forward", "web", "80", "81", "--to", "9999")).status == 2
    assert (await vmlab(lab, "forward", "web", "99999")).status == 2
