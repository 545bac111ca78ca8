"""Hosts that hang, vanish and come back; many domains; names nobody should print."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.hosts.failures import Unreachable
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power

SOCKET = "/run/libvirt/libvirt-sock"


class Relay:
    """Stands between us and libvirtd, and can fall silent or hang up."""

    def __init__(self, path: Path) -> None:
        self.path, self.silent, self.pairs = path, asyncio.Event(), []  # type: ignore[var-annotated]
        self.server: Any = None

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._serve, self.path)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            while self.silent.is_set():
                await asyncio.sleep(0.02)
            writer.write(data)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(SOCKET)
        self.pairs += [writer, far_writer]
        tasks = [self._pump(reader, far_writer), self._pump(far_reader, writer)]
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self.pairs:
            writer.transport.abort()
        self.pairs.clear()

    async def stop(self) -> None:
        self.silent.clear()
        self.server.close()
        self.cut()
        await asyncio.sleep(0.05)


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    made = Relay(tmp_path / "sock")
    await made.start()
    yield made
    await made.stop()


def uri(relay: Relay) -> str:
    return f"qemu+unix:///system?socket={relay.path}"


async def test_a_host_that_falls_silent_costs_the_deadline_not_more(relay: Relay) -> None:
    host = await Host.connect(uri(relay))
    await host.domains()
    relay.silent.set()
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match="list domains"):
        await host.domains(timeout=0.5)
    assert time.monotonic() - begin < 2
    begin = time.monotonic()
    await host.close()
    assert time.monotonic() - begin < 7
    relay.silent.clear()


async def test_after_a_cut_the_next_call_connects_anew_with_events(relay: Relay) -> None:
    async with Host.open(uri(relay)) as host:
        await host.domains()
        before = len(relay.pairs)
        relay.cut()
        await asyncio.sleep(0.3)
        assert isinstance(await host.domains(), list)
        assert 0 < len(relay.pairs) <= before


async def test_a_host_that_is_away_is_unreachable_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        await Host.connect(f"qemu+unix:///system?socket={tmp_path / 'libvirt-sock'}")
    assert "start libvirt" in caught.value.hint
    with pytest.raises(LabError, match="nonsense"):
        await Host.connect("nonsense:///system")


HOSTILE = ["a\x9b31mb", "r\u202egnp", "x[red]", "[@click=app.quit]q", "ümlaut 名前", "a'b\"c<&>", "-rf"]


def node(path: Path, names: list[str], extra: str = "") -> str:
    made = "".join(
        f"<domain type='test'><name>{escape(name)}</name><uuid>00000000-0000-4000-8000-{number:012x}</uuid>"
        "<memory>8192</memory><vcpu>2</vcpu><os><type>hvm</type></os></domain>"
        for number, name in enumerate(names)
    )
    path.write_text(f"<node><cpu><mhz>1</mhz></cpu>{made}{extra}</node>")
    return f"test://{path}"


async def test_a_thousand_domains_in_a_moment(tmp_path: Path) -> None:
    async with Host.open(node(tmp_path / "n.xml", [f"vm{number}" for number in range(1000)])) as host:
        begin = time.monotonic()
        found = await host.domains(snapshots=True)
        assert time.monotonic() - begin < 5
        assert len(found) == 1000
        assert {one.memory for one in found} == {8192 * 1024}


async def test_odd_names_come_through_and_errors_are_clean(tmp_path: Path) -> None:
    async with Host.open(node(tmp_path / "n.xml", HOSTILE)) as host:
        found = {one.name: one for one in await host.domains()}
        assert set(found) == set(HOSTILE)
        for name in HOSTILE:
            with pytest.raises(LabError) as caught:
                await host.revert(found[name].uuid, "no\x1b[2Jne")
            assert not set(str(caught.value)) & set("\x1b\x9b\u202e")


async def test_the_life_of_a_domain_on_the_test_driver(tmp_path: Path) -> None:
    async with Host.open(node(tmp_path / "n.xml", ["one"])) as host:
        seen: list[str] = []
        host.on_event(lambda kind, _uuid, _detail: seen.append(kind))
        uuid = (await host.domains())[0].uuid
        assert await host.power(uuid) is Power.ON
        await host.create_snapshot(uuid, "s")
        await host.suspend(uuid)
        await host.revert(uuid, "s")
        assert await host.power(uuid) is Power.ON
        await host.destroy(uuid)
        await host.undefine(uuid)
        assert await host.domains() == []
        await asyncio.sleep(0.1)
        assert "stopped" in seen
        assert "undefined" in seen


async def test_a_domain_whose_xml_makes_no_sense_is_listed_with_its_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmlab_tui.hosts import domains

    def broken(_text: str) -> None:
        raise LabError("unreadable XML: line 1")

    monkeypatch.setattr(domains, "parse_domain", broken)
    async with Host.open(node(tmp_path / "n.xml", ["one"])) as host:
        (found,) = await host.domains()
    assert (found.name, found.files, found.problem) == ("one", (), "unreadable XML: line 1")


@pytest.mark.guest
async def test_looking_and_killing_work_while_slow_calls_hang(bench: Any) -> None:
    import threading

    gate = threading.Event()
    spec = bench.spec(bench.ticker())
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    stuck = [
        asyncio.create_task(bench.host._slow_lane.call(gate.wait, timeout=30, what="stuck")) for _ in range(9)
    ]
    await asyncio.sleep(0.05)
    assert await bench.host.power(spec.uuid, timeout=5) is Power.ON
    assert await bench.host.destroy(spec.uuid, timeout=15) is True
    gate.set()
    await asyncio.gather(*stuck)


@pytest.mark.guest
async def test_a_closed_host_leaves_no_connection_behind() -> None:
    def sockets() -> set[str]:
        links = (os.path.realpath(one.path) for one in os.scandir("/proc/self/fd"))
        return {path for path in links if "socket:" in path}

    async def use() -> None:
        async with Host.open("qemu:///system") as host:
            host.on_event(lambda *_: None)
            await host.domains()

    await use()  # the bindings' own thread and what it needs
    before = sockets()
    for _ in range(3):
        await use()
    async with asyncio.timeout(10):
        while sockets() - before:
            await asyncio.sleep(0.05)


@pytest.mark.guest
@pytest.mark.parametrize("slow", [False, True])
async def test_calls_at_once_have_a_connection_each(slow: bool) -> None:
    import threading

    gate, used = threading.Event(), []

    def wait(connection: Any) -> None:
        used.append(connection)
        gate.wait(30)

    async with Host.open("qemu:///system") as host:
        first = asyncio.create_task(host._call("wait", wait, 60, slow=slow))
        while not used:
            await asyncio.sleep(0.01)
        for _ in range(2):
            await host._call("look", used.append, 15, slow=slow)
        gate.set()
        await first
        await host._call("look", used.append, 15, slow=slow)
    one, two, again, last = map(id, used)
    assert one == last != two == again, "as few as can be, the first one before all"


@pytest.mark.guest
async def test_no_use_of_a_domain_by_two_hosts_at_once_confuses(bench: Any) -> None:
    specs = [bench.spec(bench.ticker()) for _ in range(3)]
    await asyncio.gather(*(bench.host.define(one) for one in specs))
    await asyncio.gather(*(bench.host.start(one.uuid) for one in specs))
    async with Host.open(bench.uri) as other:
        await asyncio.gather(*(other.destroy(one.uuid) for one in specs * 2))
    assert {await bench.host.power(one.uuid) for one in specs} == {Power.OFF}
