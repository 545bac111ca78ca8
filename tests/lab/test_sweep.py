"""Clean-up and undo under fire: killed at every sync point, raced, on a full disk. On real libvirt."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.test_holders import MAPPED
from tests.lab.zoobed import keys, vmlab
from tests.support import forked
from tests.support.zoo import FAR, Zoo, blank, libvirt_state, overlay, qemu_img, state_of, virsh
from vmlab_tui.base.faults import POINTS
from vmlab_tui.base.paths import Store, used_bytes
from vmlab_tui.lab import sweep
from vmlab_tui.lab.holders import who_holds
from vmlab_tui.lab.trash import RESERVE, list_entries

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the system's libvirt")

FORTH = ["clean.looked", "clean.intent", "clean.saved", "clean.undefined", "clean.moved", "clean.done"]
BACK = ["undo.intent", "undo.moved", "undo.defined", "undo.loaded", "undo.woken", "undo.done"]


def killed(point: str, *words: str) -> None:
    """Run vmlab until it dies at ``point``."""
    done = forked.run(*words, env={"VMLAB_FAULT": f"{point}:kill"}, timeout=120)
    assert done.returncode == -signal.SIGKILL, (point, done.returncode, done.stderr)


def power(ident: str) -> str:
    return virsh("domstate", ident).strip()


def test_every_sync_point_is_killed_at() -> None:
    assert sweep.LOOKED in FORTH
    mine = {name for name in POINTS if name.startswith(("clean.", "undo."))}
    assert mine == {*FORTH, *BACK, "clean.emptied"}


@pytest.mark.parametrize("point", FORTH)
def test_killed_while_cleaning_a_second_call_finishes(zoo: Zoo, point: str) -> None:
    running = zoo.vm("running", "never-was")
    virsh("start", running)
    defined = libvirt_state([running])
    killed(point, "clean", "--yes")
    vmlab("clean", "--yes")
    assert running not in virsh("list", "--all", "--uuid")
    assert not list(zoo.store.vms.iterdir())
    entries, problems = list_entries(zoo.store)
    assert [entry.state for entry in entries] == ["in"]
    assert not problems
    memory = Path(entries[0].place(entries[0].memory))
    assert entries[0].size > used_bytes(memory.stat()) > 0, "what emptying frees counts the memory too"
    vmlab("undo")
    assert power(running) == "running"
    assert libvirt_state([running]) == defined
    assert not list(zoo.store.vms.glob("*/memory.*"))


@pytest.mark.parametrize("point", BACK)
def test_killed_while_undoing_a_second_call_finishes(zoo: Zoo, point: str) -> None:
    running = zoo.vm("running", "never-was")
    virsh("snapshot-create-as", running, "before")
    virsh("start", running)
    defined = libvirt_state([running])
    vmlab("clean", "--yes")
    killed(point, "undo")
    vmlab("undo")
    assert power(running) == "running"
    assert libvirt_state([running]) == defined
    assert not list(zoo.store.trash.glob("[!.]*"))
    assert not list(zoo.store.vms.glob("*/memory.*"))


@pytest.mark.parametrize("point", ["clean.intent", "clean.moved", "clean.done", "undo.moved", "undo.done"])
def test_killed_among_several_things_nothing_is_lost(zoo: Zoo, point: str) -> None:
    image = zoo.image("ci-1", age=9e6)
    zoo.image("ci-2", age=8e6)
    zoo.former("former")
    lower = zoo.vm("lower", "never-was", disk=image)
    upper = zoo.vm("upper", "never-was", disk=zoo.store.vms / lower / "disk.qcow2")
    folders = [zoo.store.vms, zoo.store.images]
    before, defined = state_of(folders), libvirt_state([lower, upper])
    if point.startswith("clean"):
        killed(point, "clean", "--yes")
    else:
        vmlab("clean", "--yes")
        killed(point, "undo")
    again = vmlab("clean", "--yes")
    if point.startswith("clean"):
        assert again["not_searched"] == []
    assert not list(zoo.store.vms.iterdir())
    assert len(list(zoo.store.images.glob("*.json"))) == 1
    for _ in range(3):  # each call brings one clean-up back
        vmlab("undo")
    assert state_of(folders) == before
    assert libvirt_state([lower, upper]) == defined


def test_a_vm_with_saved_memory_comes_back_with_it(zoo: Zoo) -> None:
    saved = zoo.vm("saved", "never-was")
    virsh("start", saved)
    virsh("managedsave", saved)
    vmlab("clean", "--yes")
    assert saved not in virsh("list", "--all", "--uuid")
    vmlab("undo")
    assert power(saved) == "shut off"
    assert "yes" in [
        line.split()[-1] for line in virsh("dominfo", saved).splitlines() if "Managed save" in line
    ]
    virsh("start", saved)
    assert power(saved) == "running"


def test_an_expired_vm_is_stopped_first_and_deleted_by_a_second_decision(zoo: Zoo) -> None:
    late = zoo.vm("late", "never-was", expires="2020-01-01T00:00:00+00:00", keep=True)
    virsh("start", late)
    first = vmlab("clean", "--yes")
    assert keys(first, "items", **{"class": "expired", "action": "stop"}) == {f"vm:{late}"}
    assert power(late) == "shut off"
    vmlab("undo")
    assert power(late) == "running"
    vmlab("clean", "--yes")
    assert keys(vmlab("clean", "--yes"), "results", state="done") == {f"vm:{late}"}
    assert not list(zoo.store.vms.iterdir())
    vmlab("undo")
    assert power(late) == "shut off"


def test_emptying_goes_on_after_a_kill_and_gives_the_ports_up(zoo: Zoo) -> None:
    dead = zoo.vm("dead", "never-was")
    (zoo.store.root / "ports.json").write_text(json.dumps({"schema": 1, "ports": {"22990": f"{dead}/ssh"}}))
    vmlab("clean", "--yes")
    assert "22990" in (zoo.store.root / "ports.json").read_text(), "its snapshots hold the port"
    entries, _ = list_entries(zoo.store)
    doomed = zoo.store.trash / f".emptied-{entries[0].id}"
    (zoo.store.trash / entries[0].id).rename(doomed)  # as a kill in the middle leaves it
    vmlab("trash", "empty", "--yes")
    assert not list(zoo.store.trash.glob("[!.]*"))
    assert not doomed.exists()
    assert keys(vmlab("clean", "--yes"), "results") == {f"ports:{dead}"}


def test_a_takeover_that_was_cut_off_is_made_again(zoo: Zoo) -> None:
    name = f"zoo-foreign-{os.getpid()}"
    ident = zoo.define(name, [blank(zoo.outside / "foreign.qcow2")])
    killed("adopt.directory", "adopt", name, "--yes")
    assert list((zoo.store.vms / ident).iterdir()) == []
    assert vmlab("clean")["items"] == []
    vmlab("adopt", name, "--for", "0s", "--yes")
    assert keys(vmlab("clean", "--yes"), "results", state="done") == {f"vm:{ident}"}
    assert not (zoo.outside / "foreign.qcow2").exists()


def test_an_overlay_made_between_scan_and_removal_keeps_its_base(zoo: Zoo) -> None:
    """Stopped just after the last look: whatever stands on the base by then, stands afterwards."""
    dead = zoo.vm("dead", "never-was")
    base = zoo.store.vms / dead / "disk.qcow2"
    cleaning = subprocess.Popen(
        [sys.executable, "-m", "vmlab_tui", "clean", "--yes", "--json"],
        env={**os.environ, "VMLAB_FAULT": "clean.looked:stop"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _stopped(cleaning)
    over = overlay(zoo.outside / "late.qcow2", base)
    cleaning.send_signal(signal.SIGCONT)
    out, err = cleaning.communicate(timeout=60)
    assert cleaning.returncode == 1, err
    assert keys(json.loads(out), "results", state="back") == {f"vm:{dead}"}
    assert base.exists()
    assert dead in virsh("list", "--all", "--uuid")
    subprocess.run(["qemu-img", "check", "-q", over], check=True)


def _stopped(process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.05)
    raise AssertionError("never came to the point")


def test_two_cleaners_do_no_harm(zoo: Zoo) -> None:
    for number in range(4):
        zoo.vm(f"dead{number}", "never-was")
    words = [sys.executable, "-m", "vmlab_tui", "clean", "--yes", "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    told = [process.communicate(timeout=120) for process in both]
    assert {process.returncode for process in both} <= {0, 1}, told
    done = [
        key
        for out, _ in told
        for key in keys(json.loads(out), "results", state="done")
        if json.loads(out)["items"]
    ]
    assert len(done) == len(set(done)) == 4
    assert not list(zoo.store.vms.iterdir())
    for _ in range(2):
        vmlab("undo")
    assert len(list(zoo.store.vms.iterdir())) == 4


def test_what_changes_between_plan_and_deed_is_skipped_with_the_reason(zoo: Zoo) -> None:
    dead = zoo.vm("dead", "never-was")

    async def work() -> list[sweep.Result]:
        from vmlab_tui.hosts.host import Host
        from vmlab_tui.lab.claims import Policy
        from vmlab_tui.lab.cleanup import choose, make_plan
        from vmlab_tui.lab.context import Lab
        from vmlab_tui.lab.scan import Scanner

        async with Host.open("qemu:///system") as host:
            cleaner = sweep.Cleaner(Scanner(Lab("qemu:///system", zoo.store), Policy()), host, "me")
            await cleaner.recover()
            judgement = await cleaner.look()
            plan = make_plan(judgement, choose(judgement))
            assert [item.key for item in plan.items] == [("vm", dead)]
            lease = zoo.store.vms / dead / "lease.json"
            lease.write_text(json.dumps({**json.loads(lease.read_text()), "expires": FAR, "keep": True}))
            return await cleaner.carry_out(plan)

    results = asyncio.run(work())
    assert [(one.state, "lease keeps it" in one.why) for one in results] == [("skipped", True)]
    assert (zoo.store.vms / dead).is_dir()


def test_whatever_happens_between_two_items_is_seen_before_the_second(
    zoo: Zoo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also by a cleaner that has seen all of it before, and need not read again what cannot have changed."""
    from vmlab_tui.hosts import census
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.lab.claims import Policy
    from vmlab_tui.lab.cleanup import choose, make_plan
    from vmlab_tui.lab.context import Lab
    from vmlab_tui.lab.scan import Scanner

    store, outside = zoo.store, zoo.outside
    elsewhere = blank(outside / "elsewhere.qcow2")
    changed = overlay(outside / "changed.qcow2", elsewhere)
    foreign = {name: zoo.define(f"zoo-{name}-{os.getpid()}", [elsewhere]) for name in ("disk", "shot")}
    running = zoo.define(f"zoo-running-{os.getpid()}", [blank(outside / "running.qcow2")])
    virsh("start", running)
    ways = [*["disk", "shot", "overlay", "header", "open", "mapped", "lease", "started", "snapshot", "none"]]
    ways += ["stored", "plugged", "running-shot"]
    for name in ("first", *ways):
        zoo.vm(name, "never-was")
    roles: dict[str, str] = {}
    read: list[str] = []
    held: list[subprocess.Popen[bytes]] = []
    real = census._read

    def counted(connection: object, domain: Any, *more: Any) -> object:
        read.append(domain.UUIDString())
        return real(connection, domain, *more)

    monkeypatch.setattr(census, "_read", counted)
    connected: list[str] = []
    connect = Host.connect.__func__  # type: ignore[attr-defined]

    async def connecting(cls: type[Host], /, uri: str, **how: Any) -> Host:
        connected.append(uri)
        return await connect(cls, uri, **how)  # type: ignore[no-any-return]

    monkeypatch.setattr(Host, "connect", classmethod(connecting))

    def disk(name: str) -> Path:
        return store.vms / roles[name] / "disk.qcow2"

    def change(_: sweep.Result) -> None:
        if held:
            return
        read.clear()
        zoo.define(f"zoo-disk-{os.getpid()}", [disk("disk")], ident=foreign["disk"])
        virsh("attach-disk", running, str(disk("stored")), "vdb", "--config", "--subdriver", "qcow2")
        virsh("attach-disk", running, str(disk("plugged")), "vdc", "--live", "--subdriver", "qcow2")
        for name, ident, how in (("shot", foreign["shot"], "shot"), ("running", running, "running-shot")):
            inner = zoo.xml(f"zoo-{name}-{os.getpid()}", ident, [disk(how)])
            record = outside / ".shot.xml"
            record.write_text(
                "<domainsnapshot><name>s</name><state>shutoff</state><creationTime>1</creationTime>"
                f"{inner}</domainsnapshot>"
            )
            virsh("snapshot-create", ident, str(record), "--redefine")
        overlay(outside / "new.qcow2", disk("overlay"))
        qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", disk("header"), changed)
        zoo.process("qemu-io", "-r", "-f", "qcow2", disk("open"))
        with disk("mapped").open("rb") as handle:
            words = [sys.executable, "-c", f"{MAPPED}; print(flush=True); import time; time.sleep(300)"]
            held.append(subprocess.Popen(words, stdin=handle, stdout=subprocess.PIPE))
        zoo.processes += held
        lease = store.vms / roles["lease"] / "lease.json"
        lease.write_text(json.dumps({**json.loads(lease.read_text()), "expires": FAR, "keep": True}))
        virsh("start", roles["started"])
        virsh("snapshot-create-as", roles["snapshot"], "new")
        _opened(disk("open"))
        assert held[0].stdout
        held[0].stdout.readline()

    policy = Policy(watch=(outside,), hosts=("test:///default",))

    async def work() -> list[sweep.Result]:
        async with Host.open("qemu:///system") as host:
            cleaner = sweep.Cleaner(Scanner(Lab("qemu:///system", store), policy), host, "me")
            await cleaner.recover()
            judgement = await cleaner.look()
            plan = make_plan(judgement, choose(judgement))
            roles.update(zip(("first", *ways), (item.key[1] for item in plan.items), strict=True))
            connected.clear()
            return await cleaner.carry_out(plan, change)

    time.sleep(2.5)  # until all of it counts as left alone
    results = asyncio.run(work())
    told = {name: next(one for one in results if one.thing.key[1] == ident) for name, ident in roles.items()}
    assert {name for name, one in told.items() if one.state == "done"} == {"first", "none"}, told
    assert {one.state for one in results} == {"done", "skipped"}, told
    why = {name: one.why for name, one in told.items()}
    for name, words in {
        "disk": "needs it: its definition",
        "shot": "needs it: snapshot 's'",
        "overlay": "needs it: backing file of",
        "header": "needs it: backing file of",
        "open": "held open by qemu-io",
        "mapped": "in use by something that cannot be seen",
        "stored": "needs it: its stored definition",
        "plugged": "needs it: its running definition",
        "running-shot": "needs it: snapshot 's'",
        "lease": "its lease keeps it",
        "started": "it has changed since",
        "snapshot": "it has changed since",
    }.items():
        assert words in why[name], (name, why[name])
    assert connected == ["test:///default"], "once for all items"
    assert roles["none"] not in read, "it was read again although nothing had happened to it"
    assert set(read) >= {foreign["disk"], foreign["shot"], roles["snapshot"], roles["started"]}


def _opened(path: Path) -> None:
    """Wait until another process has it open."""
    facts = path.stat()
    until = time.monotonic() + 30
    while not who_holds({(facts.st_dev, facts.st_ino)}).found:
        assert time.monotonic() < until, f"nobody opens {path}"
        time.sleep(0.05)


@pytest.fixture
def small_disk(zoo: Zoo) -> Iterator[Zoo]:
    """The zoo's store on a file system of its own that can be filled up."""
    root = zoo.store.root
    disk = zoo.outside / "disk.img"
    subprocess.run(["truncate", "-s", "24M", disk], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, root], check=True)
    try:
        for name in ("images", "vms", "runs", "trash", "keys"):
            (root / name).mkdir(mode=0o711)
        yield zoo
    finally:
        zoo.close()
        zoo.domains.clear()
        zoo.processes.clear()
        subprocess.run(["umount", root], check=True)


def fill_up(store: Store) -> None:
    """Leave no block free."""
    with (store.root / "fill").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1024, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                os.fsync(file.fileno())
    with pytest.raises(OSError, match="space"):
        (store.root / "more").write_bytes(bytes(65536))


def test_a_full_disk_can_be_cleaned_that_never_was_before(small_disk: Zoo) -> None:
    """Whatever makes a store sets the reserve aside."""
    zoo = small_disk
    vmlab("image", "add", str(blank(zoo.outside / "mine.qcow2")), "--name", "mine")
    assert (zoo.store.trash / RESERVE).exists()
    dead = zoo.vm("dead", "never-was")
    blank(zoo.store.vms / dead / "more.qcow2")
    fill_up(zoo.store)
    vmlab("clean", "--yes")
    assert not list(zoo.store.vms.iterdir())
    free = os.statvfs(zoo.store.root).f_bfree
    freed = vmlab("trash", "empty", "--yes")["freed"]
    assert isinstance(freed, int)
    assert freed > 0
    now = os.statvfs(zoo.store.root)
    assert (now.f_bfree - free) * now.f_frsize >= freed // 2


def test_without_a_reserve_what_makes_room_comes_first(small_disk: Zoo) -> None:
    zoo = small_disk
    former = zoo.former("former")
    fill_up(zoo.store)
    said = vmlab("clean", "--yes", code=1)["results"]
    assert isinstance(said, list)
    assert "No space left on device" in said[0]["why"]
    assert "None" not in said[0]["why"]
    assert "vmlab trash empty" in said[0]["why"]
    assert former.exists()
    (zoo.store.root / "fill").unlink()
    for number in range(24):
        empty = zoo.store.vms / f"0b0b0b0b-0000-0000-0000-0000000000{number:02}"
        empty.mkdir()
        os.utime(empty, (1, 1))
    (zoo.store.trash / RESERVE).unlink(missing_ok=True)
    fill_up(zoo.store)
    vmlab("clean", "--yes")
    assert not former.exists()
    vmlab("undo")
    assert former.exists()
