"""Chains and the tree: whatever files and snapshots say, every thing is there once and nothing hangs."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.disks import SIZE, qcow2
from tests.lab.test_leases import lease
from vmlab_tui.base import signs
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.model import Domain, Power, Snapshot
from vmlab_tui.images.qemuimg import create_overlay
from vmlab_tui.images.store import Image, publish
from vmlab_tui.lab.chains import MAX_DEPTH, ChainReader
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.graph import OTHER, Inventory, diff
from vmlab_tui.lab.inventory import InventoryReader
from vmlab_tui.lab.leases import write_lease

URI = "test:///default"


def domain(uuid: str, *disks: Path, snapshots: tuple[Snapshot, ...] = (), form: str = "qcow2") -> Domain:
    return Domain(
        uuid, f"vm-{uuid}", Power.OFF, True, 1, 1, None, disks, disks, snapshots, (form,) * len(disks)
    )


def snapshot(name: str, parent: str | None = None, created: int = 0) -> Snapshot:
    return Snapshot(name, parent, "", created, Power.ON, True, False, False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    for folder in (store.images, store.vms, store.trash):
        folder.mkdir(parents=True)
    return store


def image(store: Store, name: str, digest: str = "a" * 64) -> Path:
    staged = qcow2(store.images / f".{name}")
    sidecar = Image(
        name=name,
        file="",
        digest=digest,
        format="qcow2",
        virtual_size=SIZE,
        disk_size=1,
        created="2026-01-01",
    )
    return store.images / publish(store, staged, sidecar).file


def take(store: Store, *domains: Domain) -> Inventory:
    return InventoryReader(Lab(URI, store)).join(domains)


# -- chains ----------------------------------------------------------------------------------------


async def test_a_chain_made_by_qemu_is_followed_to_its_base(tmp_path: Path) -> None:
    base = qcow2(tmp_path / "base.qcow2")
    middle, top = tmp_path / "middle.qcow2", tmp_path / "top.qcow2"
    await create_overlay(middle, base, "qcow2", SIZE)
    await create_overlay(top, middle, "qcow2", 2 * SIZE)
    chain = ChainReader().chain(str(top), "qcow2")
    assert [node.path for node in chain] == [top, middle, base]
    assert [node.virtual for node in chain] == [2 * SIZE, SIZE, SIZE]
    assert [node.used for node in chain] == [path.stat().st_blocks * 512 for path in (top, middle, base)]
    assert not any(node.problem for node in chain)


def test_a_raw_disk_is_its_guests_and_never_looked_into(tmp_path: Path) -> None:
    trap = qcow2(tmp_path / "disk.raw", "/etc/passwd")
    for form in ("raw", "luks"):
        (node,) = ChainReader().chain(str(trap), form)
        assert (node.virtual, node.problem) == (trap.stat().st_size, "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.qcow2", "missing"),
        ("json:{}", "not a file"),
        ("nbd://elsewhere/disk", "not a file"),
        (b"a\0b", "cannot be read"),
        ("/dev/null", "not a plain file"),
        ("/proc/self/maps", "not a plain file"),
        ("pipe", "not a plain file"),
        ("socket", "not a plain file"),
        ("short", "too short"),
        ("folder", "not a plain file"),
        ("top.qcow2", "circle"),
        ("text", "no disk format"),
    ],
)
def test_what_a_header_names_is_not_trusted(tmp_path: Path, name: str | bytes, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(b"QFI\xfb")
    (tmp_path / "text").write_text("no disk at all\n" * 100)
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is short
        one.bind("socket")
        os.chdir(here)
        top = qcow2(tmp_path / "top.qcow2", name)
        chain = ChainReader().chain(str(top), "qcow2")
    assert words in chain[-1].problem
    assert chain[0].path == top


def test_a_chain_without_end_is_cut(tmp_path: Path) -> None:
    for number in range(MAX_DEPTH + 20):
        qcow2(tmp_path / f"{number}", f"{number + 1}")
    chain = ChainReader().chain(str(tmp_path / "0"), "qcow2")
    assert len(chain) == MAX_DEPTH
    assert "more than" in chain[-1].problem


def test_a_header_that_changes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "SETTLED", -(10**12))  # kept at once, not only when it is old
    reader, disk = ChainReader(), qcow2(tmp_path / "disk.qcow2")
    assert len(reader.chain(str(disk), "qcow2")) == 1
    reader.begin()
    qcow2(tmp_path / "base.qcow2")
    qcow2(disk, "base.qcow2")
    assert [node.path.name for node in reader.chain(str(disk), "qcow2")] == ["disk.qcow2", "base.qcow2"]


@given(st.lists(st.integers(-1, 8), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_web_of_files_has_chains_that_end(backing: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, to in enumerate(backing):
            qcow2(root / str(number), None if to < 0 else str(to))
        reader = ChainReader()
        for start in range(len(backing)):
            chain = reader.chain(str(root / str(start)), "qcow2")
            names = [node.path.name for node in chain]
            at, expected = start, [start]
            while 0 <= at < len(backing) and backing[at] >= 0 and expected.count(at) == 1:
                at = backing[at]
                expected.append(at)
            assert names == [str(one) for one in expected]
            assert bool(chain[-1].problem) == (at >= len(backing) or expected.count(at) > 1)


# -- the graph -------------------------------------------------------------------------------------


def test_an_image_knows_who_stands_on_it(store: Store, tmp_path: Path) -> None:
    base = image(store, "base")
    foreign = qcow2(tmp_path / "foreign.qcow2", str(base))
    (store.vms / "u1").mkdir()
    write_lease(store, lease("u1", image="base"))
    own = qcow2(store.vms / "u1/disk.qcow2", "../../images/" + base.name)
    for folder in (store.vms / "lost", store.trash / "u9"):
        folder.mkdir()
        qcow2(folder / "disk.qcow2", str(base))
    found = take(store, domain("u1", own), domain("u2", foreign), domain("u3"))
    entry = found.image("base")
    assert entry is not None
    assert {(user.kind, user.name, user.own) for user in entry.users} == {
        ("vm", "vm-u1", True),
        ("vm", "vm-u2", False),
        ("left", "lost", True),
        ("trash", "u9", True),
    }
    assert found.children[("image", "base")] == (
        ("vm", "u1"),
        ("vm", "u2"),
        ("left", str(store.vms / "lost")),
    )
    assert found.children[OTHER] == (("vm", "u3"),)
    assert [vm.uuid for vm in found.vms if vm.own] == ["u1"]


def test_a_former_build_stays_visible_with_its_users(store: Store) -> None:
    old = image(store, "base", "a" * 64)
    (store.vms / "u1").mkdir()
    write_lease(store, lease("u1", image="base"))
    disk = qcow2(store.vms / "u1/disk.qcow2", str(old))
    new = image(store, "base", "b" * 64)
    found = take(store, domain("u1", disk))
    assert [(one.key, one.path, len(one.users)) for one in found.images] == [
        (("image", "base"), new, 0),
        (("file", old.name), old, 1),
    ]
    assert found.by_key[("vm", "u1")].parent == ("file", old.name)


def test_files_without_a_domain_and_leases_that_cannot_be_read_are_kept(store: Store) -> None:
    base = image(store, "base")
    for name in ("u1", "u2"):
        (store.vms / name).mkdir()
        qcow2(store.vms / name / "disk.qcow2", str(base))
    write_lease(store, lease("u1", image="base"))
    (store.vms / "u2/lease.json").write_text("{")
    (store.images / "bad.json").write_text("{")
    found = take(store)
    assert [(vm.uuid, vm.power, vm.image) for vm in found.vms] == [("u1", "no domain", "base")]
    assert [name for name, _ in found.problems] == ["u2"]
    assert [left.path.name for left in found.leftovers] == ["u2"]
    bad = found.image("bad")
    assert bad
    assert "damaged" in bad.problem
    assert {key for key, _ in found.faults} >= {("image", "bad"), ("left", str(store.vms / "u2"))}


def test_the_sizes_are_the_files_own(store: Store) -> None:
    base = image(store, "base")
    (store.vms / "u1").mkdir()
    write_lease(store, lease("u1"))
    disk = qcow2(store.vms / "u1/disk.qcow2", str(base))
    (store.vms / "u1/seed.iso").write_bytes(b"s" * 5000)
    (store.vms / "u1/console.log").write_bytes(b"c" * 70)
    (vm,) = take(store, domain("u1", disk)).vms
    assert (vm.seed_size, vm.console_size) == (5000, 70)
    assert vm.size == sum(path.stat().st_blocks * 512 for path in (store.vms / "u1").iterdir())
    assert vm.disks[0].used == disk.stat().st_blocks * 512
    assert vm.disks[0].virtual == SIZE


def test_what_is_unchanged_is_the_same_object_and_changes_are_told_by_key(store: Store) -> None:
    base = image(store, "base")
    for uuid in ("u1", "u2"):
        (store.vms / uuid).mkdir()
        write_lease(store, lease(uuid))
        qcow2(store.vms / uuid / "disk.qcow2", str(base))
    domains = [domain(uuid, store.vms / uuid / "disk.qcow2") for uuid in ("u1", "u2")]
    reader = InventoryReader(Lab(URI, store))
    first = reader.join(domains)
    assert reader.join(domains) is first
    domains[1] = domain("u2", *domains[1].disks, snapshots=(snapshot("s"),))
    second = reader.join([*domains, domain("u3")])
    assert second != first
    assert second.vm("u1") is first.vm("u1")
    seen = diff(first, second)
    assert seen.added == {("vm", "u3"), ("snapshot", "u2", "s"), OTHER}
    assert seen.changed == {("vm", "u2")}
    assert diff(second, first).removed == seen.added
    assert diff(None, first).added == set(first.by_key)


def test_a_chain_of_snapshots_may_be_longer_than_pythons_stack(store: Store) -> None:
    many = tuple(snapshot(str(at), str(at - 1) if at else None, at) for at in range(3000))
    rows = take(store, domain("u1", snapshots=many)).rows
    assert rows[-1].depth == 3001
    assert rows[-1].parent == ("snapshot", "u1", "2998")


NAMES = st.sampled_from(["a", "b", "c", "d\x9b", "[e]", "\u202e"])


@given(
    st.lists(st.lists(st.tuples(NAMES, st.none() | NAMES), max_size=8), max_size=4),
    st.lists(st.integers(0, 3), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_everything_is_in_the_tree_once_below_what_comes_before_it(
    snapshots: list[list[tuple[str, str | None]]], disks: list[int]
) -> None:
    domains = [
        domain(
            f"u{at}",
            *(Path(f"/nowhere/{disk}") for disk in disks),
            snapshots=tuple(snapshot(*pair) for pair in pairs),
        )
        for at, pairs in enumerate(snapshots)
    ]
    found = take(Store(Path("/nowhere")), *domains)
    keys = [row.key for row in found.rows]
    assert len(keys) == len(set(keys))
    expected = {("vm", one.uuid) for one in domains} | {
        ("snapshot", one.uuid, shot.name) for one in domains for shot in one.snapshots
    }
    assert set(keys) - {OTHER} == expected
    depth: dict[object, int] = {None: -1}
    for row in found.rows:
        assert row.depth == depth[row.parent] + 1
        depth[row.key] = row.depth
