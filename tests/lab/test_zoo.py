"""Clean-up on real libvirt: all of the leftovers, none of the traps, and everything back byte for byte."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.lab.zoobed import LIBVIRT, keys, limit, refused, vmlab
from tests.support.zoo import (
    FAR,
    OLD,
    Zoo,
    blank,
    libvirt_state,
    overlay,
    qemu_img,
    stale_socket,
    state_of,
    virsh,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the system's libvirt")


def leftovers(zoo: Zoo) -> None:
    """What a clean-up has to find."""
    store = zoo.store
    zoo.run("interrupted-1", over=False, age=3600)
    zoo.run("ended-1")
    image = zoo.image("base")
    zoo.found(f"vm:{zoo.vm('dead', 'interrupted-1', disk=image)}")
    zoo.found(f"vm:{zoo.vm('ended', 'ended-1', disk=image)}")
    zoo.found(f"vm:{zoo.vm('orphan', 'never-was', disk=image)}")
    zoo.found(f"vm:{zoo.vm('expired', 'ended-1', disk=image, expires=OLD, keep=True)}")
    zoo.found(f"vm:{zoo.vm('files-only', 'never-was', disk=image, domain=False)}")
    lost = zoo.vm("lost", "never-was")
    shutil.rmtree(store.vms / lost)
    zoo.found(f"vm:{lost}")
    empty = store.vms / "0b0b0b0b-0000-0000-0000-000000000000"
    empty.mkdir()
    os.utime(empty, (1, 1))
    zoo.found(f"left:{empty}")
    # a chain of dead VMs, one on the other's disk, and one with snapshots of both kinds
    lower = zoo.vm("lower", "never-was")
    upper = zoo.vm("upper", "never-was", disk=store.vms / lower / "disk.qcow2")
    snapped = zoo.vm("snapped", "never-was")
    virsh("snapshot-create-as", snapped, "inside", "--description", "<text> & more")
    virsh("snapshot-create-as", snapped, "inside-2")
    outer = zoo.vm("outer", "never-was")
    virsh("snapshot-create-as", outer, "outside", "--disk-only")
    zoo.found(*(f"vm:{one}" for one in (lower, upper, snapped, outer)))
    zoo.former("former-unused")
    zoo.found("file:former-unused.qcow2")
    for name, age in (("ci-1", 30), ("ci-2", 20), ("ci-3", 10)):
        zoo.image(name, age=age * 86400.0)
    zoo.found("image:ci-1", "image:ci-2")
    zoo.trap("image:ci-3", "image:base")
    half = store.images / ".staging/debian-0011"
    half.mkdir(parents=True)
    (half / ".owner").touch()
    (half / "disk.raw").write_bytes(b"x" * 4096)
    zoo.found("staging:debian-0011")
    (store.root / "ports.json").write_text(
        json.dumps({"schema": 1, "ports": {"22991": "11111111-0000-0000-0000-000000000000/ssh"}})
    )
    zoo.found("ports:11111111-0000-0000-0000-000000000000")
    stale_socket(store.runs / "ended-1/ctl.sock")
    zoo.found("socket:ended-1")
    for number in range(3, 7):
        zoo.run(f"recent-{number}", age=number * 3600.0)
    zoo.run("ancient", age=400 * 86400.0)
    zoo.found("run:ancient")
    zoo.trap("run:ended-1", "run:recent-3", "run:interrupted-1")
    gone = f"zoo-gone-{lost[:8]}"
    record = LIBVIRT / f"snapshot/{gone}"
    record.mkdir()
    zoo.files.append(record)
    inner = zoo.xml(gone, "22222222-0000-0000-0000-000000000000", [], mark="never-was")
    (record / "one.xml").write_text(
        f"<domainsnapshot><name>one</name><state>shutoff</state>{inner}</domainsnapshot>"
    )
    zoo.found(f"libvirt:{record}")
    for name, used in (("new", 2e9), ("old", 1e9)):
        folder = store.root / "templates" / name
        folder.mkdir(parents=True)
        (folder / "template.json").write_text(json.dumps({"key": name, "image": "base", "created": OLD}))
        (folder / "used").touch()
        os.utime(folder / "used", (used, used))
        overlay(folder / "disk.qcow2", image)
        (folder / "ballast").write_bytes(os.urandom(600_000))
    zoo.found("template:old")
    zoo.trap("template:new")


def traps(zoo: Zoo) -> None:
    """What looks the same, and is needed."""
    store, outside = zoo.store, zoo.outside

    def former(name: str, form: str = "qcow2") -> Path:
        zoo.trap(f"file:{name}.{form}")
        return zoo.former(name, form)

    elsewhere = Path(tempfile.mkdtemp(prefix="vmlab-test-", dir="/var/tmp"))
    zoo.files.append(elsewhere)
    first = blank(outside / "first.qcow2")
    zoo.define(f"zoo-two-{os.getpid()}", [first, former("second-disk")])
    on = overlay(elsewhere / "snap-base.qcow2", former("only-a-snapshot"))
    shot = zoo.define(f"zoo-shot-{os.getpid()}", [on])
    virsh("snapshot-create-as", shot, "past", "--disk-only")
    zoo.define(f"zoo-shot-{os.getpid()}", [blank(outside / "present.qcow2")], ident=shot)
    overlay(outside / "foreign.qcow2", former("foreign-overlay"))
    deep = outside / "a/b"
    deep.mkdir(parents=True)
    overlay(deep / "relative.qcow2", os.path.relpath(former("relative-name"), deep))
    (outside / "link-dir").symlink_to(store.images)
    overlay(outside / "by-link.qcow2", outside / "link-dir" / former("through-a-link").name)
    data = former("data-file", "raw")
    qemu_img(
        "create", "-q", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on", outside / "d.qcow2", "8M"
    )
    os.utime(data, (1, 1))
    nbd, io = former("nbd"), former("io")
    zoo.process("qemu-nbd", "-t", "-r", "-f", "qcow2", "-k", outside / "nbd.sock", nbd)
    zoo.process("qemu-io", "-r", "-f", "qcow2", io)
    named = json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(former("json-name"))}})
    overlay(outside / "json.qcow2", f"json:{named}")
    os.link(former("hard-link"), outside / "hard.img")
    overlay(outside / "on-hard.qcow2", outside / "hard.img")
    chain = overlay(outside / "chain-1.qcow2", former("chain"))
    zoo.define(f"zoo-chain-{os.getpid()}", [overlay(outside / "chain-2.qcow2", chain)])
    zoo.define(f"zoo-kernel-{os.getpid()}", [], head=f"<kernel>{former('kernel', 'raw')}</kernel>")
    loop = former("loop", "raw")
    done = subprocess.run(["losetup", "-r", "-f", "--show", loop], capture_output=True, text=True, check=True)
    zoo.loops.append(done.stdout.strip())
    broken = store.vms / "broken-lease"
    broken.mkdir()
    (broken / "lease.json").write_text("{")
    overlay(broken / "disk.qcow2", former("below-a-broken-lease"))
    zoo.trap(f"left:{broken}")
    session = Path("/root/.config/libvirt/qemu")
    made = [path for path in (session, *session.parents) if not path.exists()]
    session.mkdir(parents=True, exist_ok=True)
    there = session / f"zoo-{os.getpid()}.xml"
    there.write_text(
        zoo.xml("zoo-session", "33333333-0000-0000-0000-000000000000", [former("other-session")])
    )
    zoo.files.append(made[-1] if made else there)
    # VMs of ours that live, or that somebody stands on
    zoo.run("live", over=False, live=True)
    zoo.trap(f"vm:{zoo.vm('leased', 'ended-1', expires=FAR, keep=True)}")
    zoo.trap(f"vm:{zoo.vm('kept', 'ended-1', keep=True)}")
    zoo.trap(f"vm:{zoo.vm('at-work', 'live')}")
    zoo.trap(f"vm:{zoo.vm('unmarked', 'never-was', mark=False)}")
    base = zoo.vm("dead-base", "never-was")
    overlay(outside / "on-a-dead-vm.qcow2", store.vms / base / "disk.qcow2")
    attached = zoo.vm("dead-attached", "never-was")
    zoo.define(f"zoo-attached-{os.getpid()}", [store.vms / attached / "disk.qcow2"])
    zoo.trap(f"vm:{base}", f"vm:{attached}")
    saved = zoo.define(f"zoo-saved-{os.getpid()}", [former("saved-memory")])
    virsh("start", saved, "--paused")
    virsh("managedsave", saved)
    virsh("define", str(_without_disks(zoo, saved)))
    foreign = LIBVIRT / f"snapshot/zoo-foreign-{os.getpid()}"
    foreign.mkdir()
    (foreign / "x.xml").write_text(
        "<domainsnapshot><name>x</name><state>shutoff</state>"
        + zoo.xml("zoo-foreign", "44444444-0000-0000-0000-000000000000", [former("foreign-record")])
        + "</domainsnapshot>"
    )
    zoo.files.append(foreign)
    zoo.trap(f"libvirt:{foreign}")


def _without_disks(zoo: Zoo, ident: str) -> Path:
    name = virsh("domname", ident).strip()
    path = zoo.outside / ".later.xml"
    path.write_text(zoo.xml(name, ident, []))
    return path


def test_all_of_the_leftovers_none_of_the_traps_and_all_of_it_back(zoo: Zoo) -> None:
    leftovers(zoo)
    traps(zoo)
    assert len(zoo.find | zoo.stay) > 45
    store = zoo.store
    shown = vmlab("clean")
    assert shown["dry_run"] is True
    assert shown["not_searched"] == []
    assert keys(shown, "items") == zoo.find
    folders = [
        store.vms,
        store.images,
        store.runs,
        store.root / "templates",
        zoo.outside,
        *(path for path in zoo.files if path.is_relative_to(LIBVIRT)),
    ]
    before, defined = state_of(folders), libvirt_state(zoo.domains)

    cleaned = vmlab("clean", "--yes")
    assert keys(cleaned, "results", state="done") == zoo.find
    assert keys(cleaned, "results") == zoo.find
    again = vmlab("clean", "--yes")
    assert again["items"] == []
    chains = [*zoo.outside.rglob("*.qcow2"), *store.vms.rglob("*.qcow2"), *store.images.glob("*.qcow2")]
    assert len(chains) > 25
    for disk in chains:
        subprocess.run(["qemu-img", "check", "-q", "-U", str(disk)], check=True)
    stays = {name: digest for name, digest in before.items() if Path(name).is_relative_to(zoo.outside)}
    assert {name: digest for name, digest in state_of(folders).items() if name in stays} == stays

    vmlab("undo")
    assert list(store.trash.glob("[!.]*")) == []
    after = state_of(folders)
    given_up = {one for one in before if one.endswith("ctl.sock") or one.endswith("-0000-000000000000")}
    assert {name: text for name, text in before.items() if name not in given_up} == after
    assert libvirt_state(zoo.domains) == defined
    assert keys(vmlab("clean"), "items") == {
        key for key in zoo.find if key.partition(":")[0] not in ("left", "socket", "ports")
    }


def test_what_cannot_be_searched_makes_what_it_might_use_unprovable(zoo: Zoo) -> None:
    former = zoo.former("f")
    dead = zoo.vm("dead", "never-was")
    (zoo.outside / "torn.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03" + bytes(1000))
    shown = vmlab("clean", "--yes")
    assert shown["items"] == []
    assert keys(shown, "unprovable") == {f"vm:{dead}", "file:f.qcow2"}
    assert "torn.qcow2" in json.dumps(shown["not_searched"])
    assert former.exists()
    (zoo.outside / "torn.qcow2").unlink()
    shown = vmlab("clean")
    assert shown["not_searched"] == []
    assert keys(shown, "items") == {f"vm:{dead}", "file:f.qcow2"}


def test_an_unreachable_host_that_shares_the_storage_keeps_all_of_it(zoo: Zoo) -> None:
    zoo.former("f")
    config = Path(os.environ["VMLAB_CONFIG"]) / "config.yaml"
    config.write_text(config.read_text() + "  hosts: ['qemu+tcp://127.0.0.1:1/system']\n")
    shown = vmlab("clean", "--yes")
    assert shown["items"] == []
    assert keys(shown, "unprovable") == {"file:f.qcow2"}


def test_a_dry_run_names_what_keeps_a_thing(zoo: Zoo) -> None:
    dead = zoo.vm("dead", "never-was")
    over = overlay(zoo.outside / "mine.qcow2", zoo.store.vms / dead / "disk.qcow2")
    told = vmlab("clean", "--explain", f"vm:{dead}")
    assert told["fate"] == "kept"
    assert told["path"] == [{"user": f"disk:{over}", "how": f"backing file of {over}"}]


def test_it_stays_within_its_bounds(zoo: Zoo) -> None:
    for number in range(3):
        zoo.former(f"f{number}")
    config = Path(os.environ["VMLAB_CONFIG"]) / "config.yaml"
    config.write_text(config.read_text().replace("items: 1000", "items: 2"))
    assert "at most 2 may" in refused("clean", "--yes")
    assert len(list(zoo.store.images.glob("*.qcow2"))) == 3
    assert vmlab("clean", "--yes", "--no-limit")["not_searched"] == []
    assert not list(zoo.store.images.glob("*.qcow2"))


def test_the_share_of_the_store_counts_for_more_than_a_few_things(zoo: Zoo) -> None:
    """Ten may be nearly all there is; eleven may not."""
    zoo.image("stays")
    for number in range(11):
        zoo.former(f"f{number:02}")
    limit("share: 100", "share: 50")
    for words in (("clean",), ("rm", *(f"f{number:02}.qcow2" for number in range(11)))):
        assert "50 % may at once" in refused(*words, "--yes")
    assert len(list(zoo.store.images.glob("f*.qcow2"))) == 11
    vmlab("clean", "--only", "file:f10.qcow2", "--yes")
    assert len(keys(vmlab("clean", "--yes"), "results", state="done")) == 10
    assert "50 % may at once" in refused("trash", "empty", "--yes")
    vmlab("trash", "empty", "f10.qcow2", "--yes")
    vmlab("trash", "empty", "--yes")
    assert not list(zoo.store.trash.glob("[!.]*"))


def test_only_what_has_been_garbage_for_so_long(zoo: Zoo) -> None:
    """``since`` of a former build is when its file was last written."""
    old, young = zoo.former("old"), zoo.former("young")
    since = time.time() - 3 * 86400
    os.utime(young, (since, since))
    assert keys(vmlab("clean", "--older-than", "7d"), "items") == {"file:old.qcow2"}
    assert keys(vmlab("clean", "--older-than", "2d"), "items") == {"file:old.qcow2", "file:young.qcow2"}
    vmlab("clean", "--older-than", "7d", "--yes")
    assert young.exists() and not old.exists()


def test_a_watched_folder_that_is_not_there_keeps_everything(zoo: Zoo) -> None:
    """As a share looks that is not mounted."""
    zoo.former("f")
    zoo.outside.rename(zoo.outside.with_name("away"))
    shown = vmlab("clean", "--yes")
    assert shown["items"] == []
    assert keys(shown, "unprovable") == {"file:f.qcow2"}
    zoo.outside.with_name("away").rename(zoo.outside)


def _bundle(folder: Path, day: int) -> Path:
    """What a diagnosis of that day of 2021 kept."""
    made = folder / f"diagnosis-202101{day:02}T000000Z"
    made.mkdir(mode=0o700)
    (made / "serial.txt").write_text('# Disk DescriptorFile\nRW 1 FLAT "/etc/passwd" 0\n')
    for name in ("diagnosis.txt", "diagnosis.json"):
        (made / name).write_text("{}")
        os.utime(made / name, (1.6e9 + 86400 * day,) * 2)
    return made


def test_old_diagnoses_of_what_stays_go_alone_and_those_of_what_goes_with_it(zoo: Zoo) -> None:
    run = zoo.run("ended-1")
    kept = zoo.vm("kept", run, keep=True)
    dead = zoo.vm("dead", "never-was")
    places = [zoo.store.runs / run, zoo.store.vms / kept]
    made = {place: [_bundle(place, day) for day in range(1, 6)] for place in places}
    for day in range(1, 6):
        _bundle(zoo.store.vms / dead, day)
    half = places[0] / "diagnosis-20210101T000001Z"
    half.mkdir()  # without its note nobody knows what it is
    old = {f"diagnosis:{one}" for those in made.values() for one in those[:2]}
    before = state_of(places)
    shown = vmlab("clean")
    assert shown["not_searched"] == []
    assert keys(shown, "items") == {*old, f"vm:{dead}"}
    assert "passwd" not in json.dumps(shown), "a guest's text is no disk"
    cleaned = vmlab("clean", "--yes", "--class", "diagnosis")
    assert keys(cleaned, "results", state="done") == old
    assert [len(list(place.glob("diagnosis-*"))) for place in places] == [4, 3]
    vmlab("rm", kept, "--yes")
    entries = vmlab("trash", "list")["entries"]
    assert isinstance(entries, list)
    lost = next(one["entry"] for one in entries if kept in one["key"] and one["key"].startswith("diagnosis"))
    told = vmlab("undo", lost, code=1)["results"]
    assert isinstance(told, list)
    assert "bring that back first" in told[0]["why"] or "is not there" in told[0]["why"]
    assert not (zoo.store.vms / kept).exists()
    vmlab("undo")
    vmlab("undo")
    assert state_of(places) == before


def test_a_share_that_goes_between_two_looks_keeps_everything(zoo: Zoo) -> None:
    async def work() -> list[tuple[str, ...]]:
        from vmlab_tui.hosts.host import Host
        from vmlab_tui.lab.claims import Policy
        from vmlab_tui.lab.context import Lab
        from vmlab_tui.lab.reach import judge
        from vmlab_tui.lab.scan import Scanner

        async with Host.open("qemu:///system") as host:
            scanner = Scanner(Lab("qemu:///system", zoo.store), Policy(watch=(zoo.outside,)))
            found = [judge(await scanner.look(host))]
            subprocess.run(["umount", zoo.outside], check=True)
            found += [
                judge(await scanner.look(host, ("file", "free.qcow2"))),
                judge(await scanner.look(host)),
            ]
            return [tuple(key[1] for key in one.order if key[0] == "file") for one in found]

    subprocess.run(["mount", "-t", "tmpfs", "share", zoo.outside], check=True)
    overlay(zoo.outside / "over.qcow2", zoo.former("base"))
    zoo.former("free")
    assert asyncio.run(work()) == [("free.qcow2",), (), ()], "'base' was needed by what cannot be seen now"
