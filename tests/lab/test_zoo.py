"""Clean-up on real libvirt: all of the leftovers, none of the traps, and everything back byte for byte."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
from vmlab_tui.base.paths import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the system's libvirt")

LIBVIRT = Path("/var/lib/libvirt/qemu")


@pytest.fixture
def zoo(lab_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    outside = Path(tempfile.mkdtemp(prefix="vmlab-test-", dir="/var/tmp"))
    outside.chmod(0o755)
    config = outside / "config"
    config.mkdir()
    (config / "config.yaml").write_text(
        f"schema: 1\nbudget: 1MiB\nclean:\n  watch: [{outside}/watched]\n"
        "  images: [{prefix: ci-, keep: 1, older: 1h}]\n"
        "  runs_keep: 5\n  runs_older: 10d\n  items: 1000\n  share: 100\n"
    )
    (outside / "watched").mkdir()
    monkeypatch.setenv("VMLAB_CONFIG", str(config))
    made = Zoo(lab_store, outside / "watched")
    try:
        yield made
    finally:
        made.close()
        for folder in (lab_store.vms, lab_store.trash):
            shutil.rmtree(folder)
        shutil.rmtree(outside)


def vmlab(*words: str, code: int = 0) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", *words, "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, (words, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    found: dict[str, object] = json.loads(done.stdout)
    return found


def refused(*words: str) -> str:
    """What vmlab says when it refuses."""
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 3, (words, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return done.stderr


def keys(document: dict[str, object], part: str, **having: object) -> set[str]:
    assert part in document, (document.get("items"), document.get("not_searched"), document.get("unprovable"))
    entries = document[part]
    assert isinstance(entries, list)
    return {entry["key"] for entry in entries if all(entry[name] == value for name, value in having.items())}


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
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "clean", "--yes"], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "at most 2 may" in done.stderr
    assert len(list(zoo.store.images.glob("*.qcow2"))) == 3
    assert vmlab("clean", "--yes", "--no-limit")["not_searched"] == []
    assert not list(zoo.store.images.glob("*.qcow2"))


def _limit(was: str, now: str) -> None:
    config = Path(os.environ["VMLAB_CONFIG"]) / "config.yaml"
    config.write_text(config.read_text().replace(was, now))


def test_what_a_person_names_stays_within_the_bounds_too(zoo: Zoo) -> None:
    for number in range(3):
        zoo.former(f"f{number}")
    names = [f"f{number}.qcow2" for number in range(3)]
    _limit("items: 1000", "items: 2")
    assert "at most 2 may" in refused("rm", *names, "--yes")
    vmlab("rm", *names, "--yes", "--no-limit")
    assert "at most 2 may" in refused("trash", "empty", "--yes")
    assert len(list(zoo.store.trash.glob("[!.]*"))) == 3
    assert vmlab("trash", "empty", "--yes", "--no-limit")["freed"]
    assert not list(zoo.store.trash.glob("[!.]*"))


def test_the_share_of_the_store_counts_for_more_than_a_few_things(zoo: Zoo) -> None:
    """Ten may be nearly all there is; eleven may not."""
    zoo.image("stays")
    for number in range(11):
        zoo.former(f"f{number:02}")
    _limit("share: 100", "share: 50")
    for words in (("clean",), ("rm", *(f"f{number:02}.qcow2" for number in range(11)))):
        assert "50 % may at once" in refused(*words, "--yes")
    assert len(list(zoo.store.images.glob("f*.qcow2"))) == 11
    vmlab("clean", "--only", "file:f10.qcow2", "--yes")
    assert len(keys(vmlab("clean", "--yes"), "results", state="done")) == 10
    assert "50 % may at once" in refused("trash", "empty", "--yes")
    vmlab("trash", "empty", "f10.qcow2", "--yes")
    vmlab("trash", "empty", "--yes")
    assert not list(zoo.store.trash.glob("[!.]*"))


def test_rm_only_shows_unless_somebody_says_yes(zoo: Zoo) -> None:
    former = zoo.former("f")
    shown = vmlab("rm", "f.qcow2")  # its input is no terminal
    assert shown["dry_run"] is True
    assert keys(shown, "items") == {"file:f.qcow2"}
    assert former.exists()
    assert vmlab("rm", "f.qcow2", "--yes")["dry_run"] is False
    assert not former.exists()


def test_what_other_scripts_left_is_adopted_shown_exactly_and_cleaned(zoo: Zoo) -> None:
    """``vps-test-*`` domains with overlays and seeds in a folder, and files of domains long gone."""
    outside = zoo.outside
    base = blank(outside / "base.qcow2")
    vms = []
    for name in ("one", "two"):
        disk = overlay(outside / f"vps-test-{name}.qcow2", base)
        seed = outside / f"vps-test-{name}-seed.iso"
        seed.write_bytes(os.urandom(4096))
        ident = zoo.define(f"vps-test-{name}-{os.getpid()}", [disk, seed], forms=["qcow2", "raw"])
        vms.append((ident, {str(disk), str(seed)}))
    lost = overlay(outside / "vps-test-lost.qcow2", base)
    bystander = zoo.define(f"vps-prod-{os.getpid()}", [overlay(outside / "vps-prod.qcow2", base)])
    before, defined = state_of([outside]), libvirt_state(zoo.domains)
    words = ("adopt", f"vps-test-*-{os.getpid()}", str(outside / "vps-test-*"))

    shown = vmlab(*words)
    assert shown["dry_run"] is True
    found = shown["adopted"]
    assert isinstance(found, list)
    assert [(one["uuid"], set(one["files"])) for one in found] == [*vms, (None, {str(lost)})]
    assert not list(zoo.store.vms.iterdir())

    vmlab(*words, "--for", "1h", "--yes")
    assert vmlab("clean")["items"] == []
    vmlab("extend", vms[0][0], vms[1][0], "--for", "0s")
    assert keys(vmlab("clean"), "items") == {f"vm:{ident}" for ident, _ in vms}
    vmlab("rm", str(lost), "--yes")
    cleaned = vmlab("clean", "--yes")
    assert keys(cleaned, "results", state="done") == {f"vm:{ident}" for ident, _ in vms}
    assert {path.name for path in outside.iterdir()} == {"base.qcow2", "vps-prod.qcow2"}
    assert bystander in virsh("list", "--all", "--uuid")
    subprocess.run(["qemu-img", "check", "-q", str(outside / "vps-prod.qcow2")], check=True)
    vmlab("undo")
    vmlab("undo")
    assert state_of([outside]) == before
    assert libvirt_state(zoo.domains) == defined


def test_what_stands_beside_an_adopted_file_keeps_it_where_nobody_watches(zoo: Zoo) -> None:
    place = zoo.outside.parent / "unwatched"
    place.mkdir()
    base, late = blank(place / "base.qcow2"), blank(place / "late.qcow2")
    over = overlay(place / "over.qcow2", base)
    own = zoo.define(f"zoo-adopted-{os.getpid()}", [blank(place / "own.qcow2")])
    mine = overlay(place / "on-own.qcow2", place / "own.qcow2")
    assert "is needed by" in refused("adopt", str(base), "--yes")
    adopted = vmlab("adopt", f"zoo-adopted-{os.getpid()}", "--yes", "--for", "0s")["adopted"]
    assert isinstance(adopted, list)
    assert adopted[0]["files"] == [], "somebody stands on its disk"
    over.unlink()
    mine.unlink()
    vmlab("adopt", str(base), str(late), "--yes", "--for", "0s")
    found = keys(vmlab("clean"), "items")
    assert f"vm:{own}" in found
    overlay(over, base)
    left = keys(vmlab("clean", "--yes"), "results", state="done")
    assert len(left) == len(found) - 1
    assert base.exists() and not late.exists()
    subprocess.run(["qemu-img", "check", "-q", str(over)], check=True)
    shown = vmlab("clean", "--explain", str(base))["path"]
    assert isinstance(shown, list)
    assert shown[0]["user"] == f"disk:{over}"
    overlay(place / "on-late.qcow2", late)
    entries = vmlab("trash", "list")["entries"]
    assert isinstance(entries, list)
    assert "late.qcow2" in {one["name"] for one in entries}
    vmlab("trash", "empty", "--yes")
    assert late.exists(), "in use where it was, it came back"


def test_what_another_needs_or_holds_is_not_adopted(zoo: Zoo) -> None:
    base = blank(zoo.outside / "base.qcow2")
    overlay(zoo.outside / "on.qcow2", base)
    vmlab_fails = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "adopt", str(base), "--yes"], capture_output=True, text=True
    )
    assert vmlab_fails.returncode == 3
    assert "is needed by" in vmlab_fails.stderr


def test_a_persons_word_overrides_a_lease_but_no_need(zoo: Zoo) -> None:
    kept = zoo.vm("kept", "never-was", keep=True)
    image = zoo.image("gold")
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "rm", "kept", "--yes"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"did you mean 'kept-{kept[:8]}'?" in done.stderr, "what is removed is not guessed"
    user = zoo.vm("user", "never-was", keep=True, disk=image)
    vmlab("rm", kept, "--yes")
    assert {path.name for path in zoo.store.vms.iterdir()} == {user}
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "rm", "gold", "--yes"], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "needs it" in done.stderr
    vmlab("rm", user, "--yes")
    vmlab("rm", "gold", "--yes")
    assert not list(zoo.store.images.glob("*.qcow2"))
    entries = vmlab("trash", "list")["entries"]
    assert isinstance(entries, list)
    gold = next(entry["entry"] for entry in entries if entry["name"] == "gold")
    stays = vmlab("trash", "empty", gold, "--yes")
    assert keys(stays, "skipped") == {f"trash:{gold}"}, "the VM in the trash stands on it"
    vmlab("undo", user)
    assert (zoo.store.images / "gold.json").exists(), "what it stands on came back before it"


def test_every_verb_that_removes_heeds_a_foreign_overlay_in_a_watched_folder(zoo: Zoo) -> None:
    """By the same proof as ``rm``, whatever was first: an image, a VM's disk."""
    vm = zoo.vm("mine", "never-was", keep=True)
    for words, base in (
        (("image", "rm", "gold"), zoo.image("gold")),
        (("delete", vm), zoo.store.vms / vm / "disk.qcow2"),
    ):
        over = overlay(zoo.outside / "over.qcow2", base)
        kept = refused(*words, "--yes")
        assert f"needs it: backing file of {over}" in kept
        assert "vmlab clean --explain" in kept
        subprocess.run(["qemu-img", "check", "-q", str(over)], check=True)
        over.unlink()
        folders = [zoo.store.vms, zoo.store.images]
        before, defined = state_of(folders), libvirt_state([vm])
        vmlab(*words, "--yes")
        assert not base.exists()
        vmlab("undo")
        assert state_of(folders) == before
        assert libvirt_state([vm]) == defined


def test_delete_takes_what_stands_on_each_other_and_names_what_stays(zoo: Zoo) -> None:
    lower = zoo.vm("lower", "never-was", keep=True)
    upper = zoo.vm("upper", "never-was", keep=True, disk=zoo.store.vms / lower / "disk.qcow2")
    assert f"VMs that stand on it: upper-{upper[:8]}" in refused("delete", lower, "--yes")
    alone = zoo.vm("alone", "never-was", keep=True)
    some = vmlab("delete", lower, alone, "--yes", code=3)["vms"]
    assert isinstance(some, list)
    assert [(one["uuid"], one["ok"]) for one in some] == [(lower, False), (alone, True)]
    vmlab("delete", lower, upper, "--yes")
    assert not list(zoo.store.vms.iterdir())


def test_an_adopted_file_is_kept_extended_and_not_taken_twice(zoo: Zoo) -> None:
    disk = blank(zoo.outside / "mine.qcow2")
    vmlab("adopt", str(disk), "--for", "0s", "--yes")
    (ident,) = keys(vmlab("clean"), "items")
    assert "taken over already" in refused("adopt", str(disk), "--yes")
    assert vmlab("keep", "adopted:mine.qcow2")["adopted"] != []
    assert vmlab("clean")["items"] == []
    vmlab("extend", str(disk), "--for", "1h")
    assert vmlab("clean")["items"] == []
    vmlab("extend", ident, "--for", "0s")
    assert keys(vmlab("clean"), "items") == {ident}
    blank(zoo.outside / "other.qcow2").replace(disk)  # another one of that name was never taken over
    assert vmlab("clean")["items"] == []
    vmlab("adopt", str(disk), "--for", "0s", "--yes")
    assert len(keys(vmlab("clean", "--yes"), "results", state="done") - {ident}) == 1
    assert not disk.exists()


def test_keep_and_extend_say_how_long_a_vm_stays(zoo: Zoo) -> None:
    dead = zoo.vm("dead", "never-was")
    assert keys(vmlab("clean"), "items") == {f"vm:{dead}"}
    vmlab("keep", dead)
    assert vmlab("clean")["items"] == []
    told = vmlab("clean", "--explain", f"vm:{dead}")
    assert told["why"] == "its lease keeps it for good"
    vmlab("extend", dead, "--for", "0s")
    assert keys(vmlab("clean"), "items") == {f"vm:{dead}"}


def test_only_what_has_been_garbage_for_so_long(zoo: Zoo) -> None:
    """``since`` of a former build is when its file was last written."""
    old, young = zoo.former("old"), zoo.former("young")
    since = time.time() - 3 * 86400
    os.utime(young, (since, since))
    assert keys(vmlab("clean", "--older-than", "7d"), "items") == {"file:old.qcow2"}
    assert keys(vmlab("clean", "--older-than", "2d"), "items") == {"file:old.qcow2", "file:young.qcow2"}
    vmlab("clean", "--older-than", "7d", "--yes")
    assert young.exists() and not old.exists()


def test_the_trash_is_emptied_by_age_by_size_and_by_the_settings(zoo: Zoo) -> None:
    def trashed() -> set[str]:
        entries = vmlab("trash", "list")["entries"]
        assert isinstance(entries, list)
        return {entry["name"].partition(".")[0] for entry in entries}

    def aged(name: str, days: float) -> None:
        for note in zoo.store.trash.glob("[!.]*/entry.json"):
            data = json.loads(note.read_text())
            if data["name"].startswith(name):
                when = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 86400 * days))
                note.write_text(json.dumps({**data, "when": when}))

    for name in ("a", "b", "c", "d"):  # the oldest first
        zoo.former(name)
        vmlab("rm", f"{name}.qcow2", "--yes")
    aged("a", 9)
    aged("b", 2)
    vmlab("trash", "empty", "--older-than", "30d", "--yes")
    assert trashed() == {"a", "b", "c", "d"}
    vmlab("trash", "empty", "--due", "--yes")  # a week by default
    assert trashed() == {"b", "c", "d"}
    vmlab("trash", "empty", "--older-than", "1d", "--yes")
    assert trashed() == {"c", "d"}
    entries = vmlab("trash", "list")["entries"]
    assert isinstance(entries, list)
    newest = next(entry["size"] for entry in entries if entry["name"] == "d.qcow2")
    vmlab("trash", "empty", "--over", str(newest), "--yes")
    assert trashed() == {"d"}
    _limit("  items: 1000", "  trash_size: 1KiB\n  items: 1000")
    vmlab("trash", "empty", "--due", "--yes")
    assert trashed() == set()


def test_what_lies_on_another_file_system_stays_there_in_the_trash(zoo: Zoo) -> None:
    place = zoo.outside / "elsewhere"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "vmlab-test", place], check=True)
    try:
        gone, back = blank(place / "gone.qcow2"), blank(place / "back.qcow2")
        before = state_of([place])
        vmlab("adopt", str(gone), str(back), "--for", "0s", "--yes")
        assert len(keys(vmlab("clean", "--yes"), "results", state="done")) == 2
        assert {path.name[:13] for path in place.iterdir()} == {".vmlab-trash-"}
        vmlab("undo")
        assert state_of([place]) == before
        vmlab("clean", "--yes")
        vmlab("undo", "back.qcow2")
        vmlab("trash", "empty", "--yes")
        assert [path.name for path in place.iterdir()] == ["back.qcow2"]
    finally:
        subprocess.run(["umount", place], check=True)


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
