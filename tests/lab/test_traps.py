"""More of what is to be found, and of what only looks so: pauses, sockets, snapshots, nvram, mounts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import vmlab_tui
from tests.lab.zoobed import LIBVIRT, keys, vmlab
from tests.support.zoo import Zoo, blank, overlay, stale_socket, state_of, virsh
from vmlab_tui.base.paths import locked
from vmlab_tui.journal.events import make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the system's libvirt")


def paused(zoo: Zoo, run: str, hours: float) -> None:
    """Its journal says that the run stands still until then."""
    until = (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
    event = {"reason": "step failed", "until": until, "number": 3, "why": "failed"}
    when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 7200))
    with (zoo.store.runs / run / "journal.jsonl").open("ab") as journal:
        journal.write(make(2, "paused", event, time=when)[1])


def test_a_run_that_can_be_taken_up_again_keeps_its_vm(zoo: Zoo) -> None:
    zoo.run("paused", over=False, age=9000)
    paused(zoo, "paused", 1)
    zoo.run("waited-enough", over=False, age=9000)
    paused(zoo, "waited-enough", -1)
    zoo.run("just-now", over=False, age=20)
    zoo.run("long-ago", over=False, age=9000)
    stays = {zoo.vm("a", "paused"), zoo.vm("b", "just-now")}
    goes = {zoo.vm("c", "waited-enough"), zoo.vm("d", "long-ago")}
    assert keys(vmlab("clean"), "items") == {f"vm:{ident}" for ident in goes}
    for ident in stays:
        assert vmlab("clean", "--explain", f"vm:{ident}")["fate"] == "kept"
    vmlab("rm", *stays, "--yes")  # a person's word is enough


def test_sockets_that_nobody_answers_go_and_locks_stay(zoo: Zoo) -> None:
    left, held = (zoo.vm(name, "ended", keep=True) for name in ("left", "held"))
    for ident in (left, held):
        (zoo.store.vms / ident / "console.lock").touch()
        stale_socket(zoo.store.vms / ident / "console.sock")
    with locked(zoo.store.vms / held / "console.lock"):
        cleaned = vmlab("clean", "--yes")
    assert keys(cleaned, "results", state="done", **{"class": "stale"}) == {f"console:{left}"}
    assert not (zoo.store.vms / left / "console.sock").exists()
    assert (zoo.store.vms / left / "console.lock").exists()
    assert (zoo.store.vms / held / "console.sock").exists()


def test_snapshots_whose_files_are_gone_are_shown_and_left_alone(zoo: Zoo) -> None:
    kept = zoo.vm("kept", "ended", keep=True)
    virsh("snapshot-create-as", kept, "whole")
    shown = vmlab("clean")
    assert shown["not_searched"] == []
    record = zoo.outside / ".record.xml"
    inner = zoo.xml(virsh("domname", kept).strip(), kept, [zoo.outside / "gone.qcow2"], mark="ended")
    record.write_text(
        f"<domainsnapshot><name>lost</name><state>shutoff</state><creationTime>1</creationTime>{inner}"
        "</domainsnapshot>"
    )
    virsh("snapshot-create", kept, str(record), "--redefine")
    shown = vmlab("clean", "--yes")
    assert shown["items"] == []
    assert keys(shown, "unprovable") == {f"snapshot:{kept}:lost"}
    assert "gone.qcow2" in json.dumps(shown["unprovable"])
    assert "lost" in virsh("snapshot-list", "--name", kept)


def test_what_is_mounted_in_an_unfinished_image_is_named_and_unmounted_inner_first(
    zoo: Zoo,
) -> None:
    half = zoo.store.images / ".staging/debian-0012"
    inner = half / "root fs/inner"
    (half / "root fs").mkdir(parents=True)
    (half / ".owner").touch()
    for place in (inner.parent, inner):
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        shown = vmlab("clean")
        items = shown["items"]
        assert isinstance(items, list)
        (item,) = items
        assert item["operations"] == [
            f"unmount {inner}",
            f"unmount {inner.parent}",
            f"move {half} to the trash",
        ]
        assert keys(vmlab("clean", "--yes"), "results", state="done") == {"staging:debian-0012"}
        assert str(half) not in Path("/proc/self/mountinfo").read_text()
    finally:
        for place in (inner, inner.parent):
            subprocess.run(["umount", place], capture_output=True)


def test_nvram_goes_after_its_vm_and_only_if_a_definition_of_ours_named_it(zoo: Zoo) -> None:
    folder = LIBVIRT / "nvram"
    made = [folder / f"zoo-{name}-{os.getpid()}_VARS.fd" for name in ("ours", "foreign", "shared")]
    try:
        for path in made:
            path.write_bytes(b"v" * 4096)
        head = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader><nvram>{}</nvram>"
        for name, path in (("ours", made[0]), ("shared", made[2])):
            ident = zoo.vm(name, "never-was", domain=False)
            disk = zoo.store.vms / ident / "disk.qcow2"
            zoo.define(f"{name}-{ident[:8]}", [disk], ident=ident, mark="never-was", head=head.format(path))
        zoo.define(f"zoo-shared-{os.getpid()}", [], head=head.format(made[2]))
        before = state_of([zoo.store.vms, folder])
        assert len(keys(vmlab("clean", "--yes"), "results", state="done")) == 2
        assert all(path.exists() for path in made), "its VM could come back"
        assert keys(vmlab("clean", "--yes"), "results", state="done") == {f"disk:{made[0]}"}
        assert [path.exists() for path in made] == [False, True, True]
        vmlab("undo")
        vmlab("undo")
        assert state_of([zoo.store.vms, folder]) == before
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def test_saved_memory_of_a_gone_domain_is_found_and_keeps_what_it_names(zoo: Zoo) -> None:
    former = zoo.former("saved-memory")
    names = {}
    for name, mark in (("ours", "never-was"), ("foreign", None)):
        ident = zoo.define(f"zoo-{name}-{os.getpid()}", [former] if name == "foreign" else [], mark=mark)
        virsh("start", ident, "--paused")
        virsh("managedsave", ident)
        names[name] = LIBVIRT / f"save/zoo-{name}-{os.getpid()}.save"
        aside = zoo.outside / name
        shutil.copy(names[name], aside)
        virsh("undefine", ident, "--managed-save")
        shutil.move(aside, names[name])
        zoo.files.append(names[name])
    shown = vmlab("clean", "--yes")
    assert keys(shown, "results", state="done") == {f"libvirt:{names['ours']}"}
    assert names["foreign"].exists()
    assert former.exists()
    vmlab("undo")
    assert names["ours"].exists()


def test_a_disk_that_only_runs_an_intent_a_template_or_a_plan_keeps_what_they_name(
    zoo: Zoo,
) -> None:
    store = zoo.store
    plugged, only_template, planned = (zoo.former(name) for name in ("plugged", "template", "planned"))
    guest = zoo.define(f"zoo-active-{os.getpid()}", [blank(zoo.outside / "first.qcow2")])
    virsh("start", guest, "--paused")
    virsh("attach-disk", guest, str(plugged), "vdb", "--live", "--driver", "qemu", "--subdriver", "qcow2")
    assert "plugged" not in virsh("dumpxml", "--inactive", guest)
    folder = store.root / "templates/only"
    folder.mkdir(parents=True)
    (folder / "template.json").write_text(json.dumps({"key": "only", "image": "none"}))
    overlay(folder / "disk.qcow2", only_template)
    run = store.runs / zoo.run("begun", over=False, age=9000)
    ident = "55555555-0000-0000-0000-000000000000"
    plan = {"image": {"file": str(planned)}, "vm": {"uuid": ident}}
    (run / "plan.json").write_text(json.dumps(plan))
    (store.root / "ports.json").write_text(
        json.dumps({"schema": 1, "ports": {"22992": f"{ident}/ssh"}})  # reserved for what it will make
    )
    shown = vmlab("clean", "--yes")
    assert shown["not_searched"] == []
    assert shown["items"] == []


def test_a_torn_definition_in_a_sessions_folder_keeps_everything(zoo: Zoo) -> None:
    """In a place of its own for mounts: it would keep everything of all tests that run at this time."""
    zoo.former("f")
    there = f"/root/.config/libvirt/qemu/zoo-torn-{os.getpid()}.xml"
    checkout = Path(vmlab_tui.__file__).parent.parent  # which may lie below /root
    aside = zoo.outside.parent / "checkout"
    aside.mkdir()
    script = (
        f"mount --bind {checkout} {aside} && mount -t tmpfs none /root && "
        f"mkdir -p /root/.config/libvirt/qemu {checkout} && mount --bind {aside} {checkout} && "
        f"umount {aside} && cd {checkout} && "
        f'echo "<domain type=\'qemu\'><name>x</name>" >{there} && exec "$@"'
    )
    vmlab_words = [sys.executable, "-m", "vmlab_tui", "clean", "--yes", "--json"]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *vmlab_words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["items"] == []
    assert keys(shown, "unprovable") == {"file:f.qcow2"}
    assert there in json.dumps(shown["not_searched"])


NOBODY = 65534


def _reached_by_others() -> bool:
    try:
        words = [sys.executable, "-c", "import vmlab_tui.cli.app"]
        return subprocess.run(words, user=NOBODY, group=NOBODY, extra_groups=[], check=False).returncode == 0
    except PermissionError:
        return False


def test_whoever_cannot_see_others_is_told_so_and_takes_nothing_from_outside_the_store(
    zoo: Zoo,
) -> None:
    """Called as another uid, on a store of its own: what others might use is what they can get at."""
    if not _reached_by_others():
        pytest.skip("others cannot get at this checkout")
    store, outside = zoo.store, zoo.outside
    zoo.former("f")
    disk = blank(outside / "taken-over.qcow2")
    vmlab("adopt", str(disk), "--for", "0s", "--yes")
    (outside / "closed").mkdir(mode=0o700)
    for path in (store.root, *store.root.rglob("*"), disk):
        os.chown(path, NOBODY, NOBODY)
    store.root.chmod(0o700)
    config = outside.parent / "config"
    env = {
        **os.environ,
        "HOME": str(store.root),
        "XDG_RUNTIME_DIR": str(store.root),
        "XDG_CACHE_HOME": str(store.root / "cache"),
        "LIBVIRT_DEFAULT_URI": "test:///default",
        "VMLAB_CONFIG": str(config),
    }
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "clean", "--json"],
        env=env, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert keys(shown, "items") == {"file:f.qcow2"}
    assert {key.partition(":")[0] for key in keys(shown, "unprovable")} == {"adopted"}
    assert "closed to others" in json.dumps(shown["searched"])
    assert "closed" in json.dumps(shown["not_searched"])
