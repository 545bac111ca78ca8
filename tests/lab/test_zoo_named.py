"""What a person names on real libvirt: rm, delete, adopt, keep, extend and the trash."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.zoobed import keys, limit, refused, vmlab
from tests.support.zoo import (
    Zoo,
    blank,
    libvirt_state,
    overlay,
    state_of,
    virsh,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the system's libvirt")

LIBVIRT = Path("/var/lib/libvirt/qemu")


def test_what_a_person_names_stays_within_the_bounds_too(zoo: Zoo) -> None:
    for number in range(3):
        zoo.former(f"f{number}")
    names = [f"f{number}.qcow2" for number in range(3)]
    limit("items: 1000", "items: 2")
    assert "at most 2 may" in refused("rm", *names, "--yes")
    vmlab("rm", *names, "--yes", "--no-limit")
    assert "at most 2 may" in refused("trash", "empty", "--yes")
    assert len(list(zoo.store.trash.glob("[!.]*"))) == 3
    assert vmlab("trash", "empty", "--yes", "--no-limit")["freed"]
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
    assert "is needed by" in refused("adopt", str(base), "--yes")


def test_a_persons_word_overrides_a_lease_but_no_need(zoo: Zoo) -> None:
    kept = zoo.vm("kept", "never-was", keep=True)
    image = zoo.image("gold")
    said = refused("rm", "kept", "--yes", code=2)
    assert f"did you mean 'kept-{kept[:8]}'?" in said, "what is removed is not guessed"
    user = zoo.vm("user", "never-was", keep=True, disk=image)
    vmlab("rm", kept, "--yes")
    assert {path.name for path in zoo.store.vms.iterdir()} == {user}
    assert "needs it" in refused("rm", "gold", "--yes")
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
    limit("  items: 1000", "  trash_size: 1KiB\n  items: 1000")
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
