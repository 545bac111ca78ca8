"""The verbs on VMs: what they find, show, refuse and do, on libvirt's own test driver."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.lab.disks import qcow2
from tests.runs.samples import UUID
from tests.verbs.vm_bed import (
    FOREIGN,
    RUN,
    VMS,
    context,
    do,
    lease,
    marked,
)
from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.paths import locked
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.inventory import VmEntry
from vmlab_tui.lab.leases import write_lease
from vmlab_tui.lab.trash import Entry, folder_of, new_id, write_entry
from vmlab_tui.verbs.registry import by_id
from vmlab_tui.verbs.verb import Args
from vmlab_tui.verbs.vm_target import find_vm, own_vms

# -- names ---------------------------------------------------------------------------------------


def entry(uuid: str, name: str) -> VmEntry:
    return VmEntry(uuid, name, None, None)


def test_a_vm_is_found_by_name_uuid_run_and_last(lab: Lab) -> None:
    ours = own_vms(lab)
    theirs = entry(FOREIGN, "web")
    for ref in ("sample-7f3a", UUID, RUN, RUN[:12], "last"):
        assert find_vm(lab, [*ours, theirs], ref).uuid == UUID, ref
    for ref in ("web", FOREIGN):
        assert find_vm(lab, [*ours, theirs], ref).uuid == FOREIGN


def test_a_foreign_vm_cannot_call_itself_last_nor_be_meant_by_a_beginning(lab: Lab) -> None:
    ours = own_vms(lab)
    assert find_vm(lab, [*ours, entry(FOREIGN, "last")], "last").uuid == UUID
    with pytest.raises(UsageError, match="no run and no VM of ours"):
        find_vm(lab, [*ours, entry(FOREIGN, "web")], "we")


def test_a_name_that_means_two_is_refused_with_the_uuids(lab: Lab) -> None:
    with pytest.raises(UsageError) as refused:
        find_vm(lab, [*own_vms(lab), entry(FOREIGN, "sample-7f3a")], "sample-7f3a")
    assert UUID in refused.value.hint
    assert FOREIGN in refused.value.hint


def test_a_run_without_a_vm_says_so(lab: Lab) -> None:
    with pytest.raises(UsageError, match="has no VM any more"):
        find_vm(lab, [entry(FOREIGN, "web")], RUN)


def test_a_vm_in_the_trash_is_not_just_unknown(lab: Lab) -> None:
    lab.store.trash.mkdir()
    for uuid, name in ((UUID, "sample-7f3a"), (FOREIGN, "a-fork")):  # a fork has no run that knows its name
        gone = Entry(id=new_id(), batch="1", key=("vm", uuid), name=name, when="", state="in")
        folder_of(lab.store, gone.id).mkdir()
        write_entry(lab.store, gone)
    for ref, why, name in (
        ("a-fork", "is in the trash", "a-fork"),
        (FOREIGN, "is in the trash", "a-fork"),
        (RUN, "has no VM any more", "sample-7f3a"),
    ):
        with pytest.raises(UsageError, match=why) as refused:
            find_vm(lab, [], ref)
        assert refused.value.hint == f"bring it back: vmlab undo {name}"


# -- power ---------------------------------------------------------------------------------------


async def test_several_at_once_one_of_which_is_not_there(lab: Lab) -> None:
    ctx, person = context(lab)
    outcome: Any = await by_id("vm.pause").run(ctx, Args({"vm": ("sample-7f3a", "nobody", "web")}))
    done = {one["vm"]: one for one in outcome.data["vms"]}
    assert (done["sample-7f3a"]["ok"], done["sample-7f3a"]["power"]) == (True, "paused")
    assert (done["web"]["ok"], done["web"]["power"]) == (True, "paused")
    assert done["nobody"]["ok"] is False
    assert outcome.exit == 2
    assert any("nobody" in line for line in person.said)


async def test_a_single_failure_is_raised_for_people_and_told_to_programs(lab: Lab) -> None:
    with pytest.raises(Refused, match="VM dark is off") as refused:
        await do(lab, "vm.pause", data=False, vm=("dark",))
    assert refused.value.hint == "vmlab start dark"
    outcome = await do(lab, "vm.pause", vm=("dark",))
    (told,) = outcome.data["vms"]
    assert (outcome.exit, told["ok"], told["hint"]) == (3, False, "vmlab start dark")


async def test_what_is_so_already_is_not_done_again(lab: Lab) -> None:
    for ident, name, power in (("vm.start", "web", "on"), ("vm.off", "dark", "off")):
        outcome = await do(lab, ident, interactive=False, vm=(name,))
        assert outcome.data["vms"] == [
            {"vm": name, "uuid": VMS[name], "ok": True, "changed": False, "power": power}
        ]


async def test_a_guest_that_does_not_listen_is_named_with_the_way_out(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(self: Host, uuid: str, *, timeout: float = 15) -> None:
        """The test driver's guests always listen."""

    monkeypatch.setattr(Host, "shutdown", deaf)
    with pytest.raises(LabError, match=r"still runs after 0\.3 s") as late:
        await do(lab, "vm.shutdown", data=False, vm=("sample-7f3a",), wait="0.3")
    assert "vmlab off sample-7f3a" in late.value.hint
    outcome = await do(lab, "vm.shutdown", vm=("sample-7f3a",), wait="0")
    assert outcome.data["vms"][0]["power"] == "on"


async def test_shutdown_waits_until_the_guest_is_off(lab: Lab) -> None:
    outcome = await do(lab, "vm.shutdown", vm=("web",))
    assert outcome.data["vms"][0]["power"] == "off"


@pytest.mark.parametrize("ident", ["vm.pause", "vm.shutdown", "vm.off", "vm.reboot"])
async def test_a_foreign_vm_is_touched_only_after_a_word(lab: Lab, ident: str) -> None:
    ctx, _ = context(lab)
    preview = await by_id(ident).preview(ctx, Args({"vm": ("web",)}))
    assert any("web carries no vmlab lease" in line for line in preview.loses)
    preview = await by_id(ident).preview(ctx, Args({"vm": ("sample-7f3a",)}))
    assert not any("lease" in line for line in preview.loses)
    assert bool(preview.loses) == by_id(ident).loses
    with pytest.raises(Refused, match="carries no vmlab lease") as refused:
        await do(lab, ident, interactive=False, data=False, vm=("web",))
    assert "--yes" in refused.value.hint
    assert (await do(lab, ident, vm=("web",))).exit == 0


async def test_what_stops_a_live_run_says_so_and_remembers_what_was_seen(lab: Lab) -> None:
    folder = lab.store.run(RUN)
    with locked(folder / "lock"):
        ctx, _ = context(lab)
        args = Args({"vm": ("last",)})
        preview = await by_id("vm.off").preview(ctx, args)
    assert any(RUN in line for line in preview.loses)
    assert args.seen == {RUN: 1}


# -- delete --------------------------------------------------------------------------------------


async def test_delete_names_all_that_is_lost(lab: Lab) -> None:
    qcow2(lab.store.vm(UUID) / "disk.qcow2")
    marked(lab)
    ctx, _ = context(lab)
    preview = await by_id("vm.delete").preview(ctx, Args({"vm": ("last",)}))
    assert "vmlab undo brings it back" in preview.head
    assert "one, two" in "\n".join(preview.lines)
    steps = "\n".join(preview.loses)
    for part in (f"end run {RUN}, which broke off", "undefine VM sample-7f3a", str(lab.store.vm(UUID))):
        assert part in steps, part


@pytest.mark.parametrize(
    ("ident", "virsh", "more"),
    [
        ("vm.delete", "undefine web", {"vm": ("web",)}),
        ("snapshot.revert", "snapshot-revert web one", {"vm": "web", "snapshot": "one"}),
        ("snapshot.delete", "snapshot-delete web one", {"vm": "web", "snapshot": "one"}),
    ],
)
async def test_a_foreign_vm_is_neither_reverted_nor_deleted(
    lab: Lab, ident: str, virsh: str, more: dict[str, Any]
) -> None:
    ctx, _ = context(lab)
    with pytest.raises(Refused, match="vmlab leaves it alone") as refused:
        await by_id(ident).preview(ctx, Args(more))
    assert virsh in refused.value.hint
    with pytest.raises(Refused, match="vmlab leaves it alone"):
        await do(lab, ident, data=False, **more)


async def test_files_whose_run_is_gone_are_removed_by_their_lease(lab: Lab) -> None:
    shutil.rmtree(lab.store.run(RUN))
    write_lease(lab.store, lease(name="sample-7f3a"))
    bare = Lab("test:///default", lab.store)  # where there is no domain of it
    with pytest.raises(Refused, match="only files are left"):
        await do(bare, "vm.start", data=False, vm=(UUID,))
    outcome = await do(bare, "vm.delete", vm=(UUID,))
    assert outcome.exit == 0
    assert list(lab.store.vms.iterdir()) == []


async def test_a_domain_without_our_mark_is_not_deleted_with_a_lease(lab: Lab) -> None:
    shutil.rmtree(lab.store.run(RUN))
    with pytest.raises(LabError, match="does not carry the mark"):
        await do(lab, "vm.delete", data=False, vm=(UUID,))
    assert lab.store.vm(UUID).is_dir()


async def test_show_tells_everything_and_cleans_it(lab: Lab) -> None:
    outcome = await do(lab, "vm.show", vm="last")
    data = outcome.data
    assert (data["uuid"], data["power"], data["run"], data["foreign"]) == (UUID, "on", RUN, False)
    assert (data["run_status"], len(data["snapshots"])) == ("interrupted", 2)
    assert data["disks"][0]["format"] == "qcow2"
    text = "\n".join(outcome.lines)
    assert "\x1b" not in text
    for part in (UUID, RUN, "interrupted", "tiny", "qcow2", "two"):
        assert part in text, part
    theirs = await do(lab, "vm.show", vm="web")
    assert theirs.data["foreign"] is True
    assert any("foreign" in line for line in theirs.lines)


def test_ssh_finds_its_vm_by_the_same_rules(lab: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "-c", lab.uri, "-s", lab.store.root, "ssh", "web"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no run and no VM of ours is called 'web'" in done.stderr


def test_without_a_terminal_yes_must_be_said_for_a_foreign_vm(lab: Lab) -> None:
    words = [sys.executable, "-m", "vmlab_tui", "-c", lab.uri, "-s", str(lab.store.root), "pause", "web"]
    refused = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert refused.returncode == 3
    assert "carries no vmlab lease" in refused.stderr
    done = subprocess.run([*words, "--yes", "--json"], stdin=subprocess.DEVNULL, capture_output=True)
    assert json.loads(done.stdout)["vms"][0]["power"] == "paused"
