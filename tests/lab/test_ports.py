"""The port registry."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.lab import ports

WANTED = {"ssh": 22, "web": 8080}


def test_the_same_vm_gets_the_same_ports_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = ports.reserve(store, "a", WANTED)
    assert [(one.name, one.guest_port) for one in first] == [("ssh", 22), ("web", 8080)]
    assert ports.reserve(store, "a", WANTED) == first


def test_two_vms_share_no_port_and_release_gives_back_only_ones_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = {one.host_port for one in ports.reserve(store, "a", WANTED)}
    second = {one.host_port for one in ports.reserve(store, "b", WANTED)}
    assert not first & second
    assert set(ports.release(store, "a")) == first
    assert ports.held(store, "a") == ()
    assert set(ports.held(store, "b")) == second
    assert ports.release(store, "a") == ()


def test_a_port_in_use_by_another_program_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        expected = ports.reserve(store, "probe", {"x": 1})[0].host_port
        ports.release(store, "probe")
        taken.bind(("127.0.0.1", expected))
        taken.listen()
        assert ports.reserve(store, "a", {"x": 1})[0].host_port != expected


def test_stores_begin_at_places_of_their_own_and_use_all_of_the_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(store: Store) -> int:
        port = ports.reserve(store, "a", {"x": 1})[0].host_port
        ports.release(store, "a")
        return port

    stores = [Store(tmp_path / f"store-{number}") for number in range(20)]
    for store in stores:
        store.root.mkdir()
    begun = {first(store) for store in stores}
    assert len(begun) > 15
    link = tmp_path / "link"
    link.symlink_to(stores[0].root)
    assert first(Store(link)) == first(stores[0])
    monkeypatch.setattr(ports, "FIRST", ports.LAST - 9)
    monkeypatch.setattr(ports, "_free", lambda _: True)
    given = [one.host_port for one in ports.reserve(stores[0], "all", {f"p{n}": n for n in range(10)})]
    assert sorted(given) == list(range(ports.FIRST, ports.LAST + 1))
    with pytest.raises(LabError, match="no free port"):
        ports.reserve(stores[0], "more", {"x": 1})


def test_processes_reserving_at_once_get_different_ports(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vmlab_tui.base.paths import Store;"
        "from vmlab_tui.lab import ports;"
        "print(ports.reserve(Store(Path(sys.argv[1])), sys.argv[2], {'ssh': 22})[0].host_port)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"vm{n}"], stdout=subprocess.PIPE)
        for n in range(6)
    ]
    given = [int(process.communicate()[0]) for process in started]
    assert len(set(given)) == 6
    assert len(json.loads((tmp_path / "ports.json").read_bytes())["ports"]) == 6


def test_a_damaged_or_newer_registry_is_never_written_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for text in ("{", '{"schema": 9, "ports": {}}'):
        store.ports.write_text(text)
        with pytest.raises(LabError):
            ports.reserve(store, "a", WANTED)
        assert store.ports.read_text() == text


def test_ports_are_taken_back_unless_another_has_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    mine = ports.reserve(store, "a", {"ssh": 22, "web": 80})
    wanted = {one.name: one.host_port for one in mine}
    ports.release(store, "a")
    assert ports.take_back(store, "a", wanted) == ()
    assert ports.held(store, "a") == tuple(wanted.values())
    ports.release(store, "a")
    other = ports.reserve(store, "b", {"ssh": 22})
    assert ports.take_back(store, "a", wanted) == (other[0].host_port,)
    assert ports.held(store, "a") == (wanted["web"],)
