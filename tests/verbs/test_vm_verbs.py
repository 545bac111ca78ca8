"""The verbs on VMs: what they find, show, refuse and do, on libvirt's own test driver."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.disks import qcow2
from tests.runs.samples import UUID, plan
from tests.runs.test_budget import make_disk
from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.paths import Store, locked
from vmlab_tui.hosts import rewind
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power, Snapshot
from vmlab_tui.journal.cache import load_state
from vmlab_tui.journal.log import Journal
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.inventory import VmEntry
from vmlab_tui.lab.leases import Lease, write_lease
from vmlab_tui.lab.rewind import delete
from vmlab_tui.lab.safety import about
from vmlab_tui.runs.plan import write_plan
from vmlab_tui.verbs.registry import by_id
from vmlab_tui.verbs.snapshots import tree
from vmlab_tui.verbs.verb import Args, Context
from vmlab_tui.verbs.vm_target import find_vm, own_vms

RUN = plan().run_id
FOREIGN = "11111111-2222-3333-4444-555555555555"
DARK, RAW, UEFI = (f"{number}{FOREIGN[1:]}" for number in (2, 3, 4))
VMS = {"web": FOREIGN, "dark": DARK}
TRAVEL = {"dark": DARK, "raw": RAW, "uefi": UEFI}
_DISK = """<devices><disk type='file' device='disk'><driver name='qemu' type='{form}'/>
<source file='/nowhere/{form}'/><target dev='vda'/></disk></devices>"""
_TEST = "xmlns:test='http://libvirt.org/schemas/domain/test/1.0'"


def domain(name: str, uuid: str, *, disk: str = "", head: str = "", loader: str = "") -> str:
    devices = _DISK.format(form=disk) if disk else ""
    return f"""<domain type='test' {_TEST}><name>{name}</name><uuid>{uuid}</uuid><memory>8192</memory>
    <os><type>hvm</type>{loader}</os>{devices}{head}</domain>"""


def node(folder: Path) -> Path:
    """What the test driver holds at every connection: our VM with two snapshots, and foreign ones."""
    taken = int(time.time()) - 3600
    ours = domain("sample-7f3a", UUID, disk="qcow2")
    snaps = ""
    for name, parent, at in (("one", "", taken), ("two", "<parent><name>one</name></parent>", taken + 60)):
        (folder / f"{name}.xml").write_text(
            f"<domainsnapshot><name>{name}</name><description>\u202ered text</description>"
            f"<state>running</state>{parent}<creationTime>{at}</creationTime>"
            f"<memory snapshot='internal'/><disks><disk name='vda' snapshot='internal'/></disks>"
            f"{ours}<active>{int(name == 'two')}</active></domainsnapshot>"
        )
        snaps += f"<test:domainsnapshot file='{folder / name}.xml'/>"
    loader = "<loader readonly='yes' type='pflash'>/x.fd</loader>"
    off = "<test:runstate>5</test:runstate>"
    path = folder / "node.xml"
    path.write_text(
        "<node>"
        + domain("sample-7f3a", UUID, disk="qcow2", head=snaps)
        + domain("web", FOREIGN, disk="qcow2")
        + domain("dark", DARK, head=off)
        + domain("raw", RAW, disk="raw")
        + domain("uefi", UEFI, disk="qcow2", loader=loader)
        + "</node>"
    )
    return path


def lease(name: str) -> Lease:
    return Lease(uuid=UUID, name=name, run_id=RUN, profile="sample", image="tiny", owner="me", created="")


@dataclass
class Person:
    """A front whose person says yes, or is not there."""

    interactive: bool = True
    said: list[str] = field(default_factory=list)
    on_terminal: bool = False
    colour: bool = False

    def say(self, line: str) -> None:
        self.said.append(line)

    def status(self, line: str) -> None:
        pass

    def write(self, text: str) -> None:
        self.said.append(text)

    async def confirm(self, question: str, loses: Sequence[str] = ()) -> bool:
        return self.interactive


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A store with one VM of ours and its ended run, and a host that has it and a foreign one, both on."""
    store = Store(tmp_path / "store")
    store.vm(UUID).mkdir(parents=True)
    write_lease(store, lease("sample-7f3a"))
    folder = store.runs / RUN
    folder.mkdir(parents=True)
    write_plan(folder, plan(store.root))
    with Journal.append(folder / "journal.jsonl") as journal:
        journal.write("run_created", run_id=RUN, profile="sample", plan_sha="0")
    return Lab(f"test://{node(tmp_path)}", store)


def marked(lab: Lab) -> None:
    """Our VM's domain carries our mark."""
    path = Path(lab.uri.removeprefix("test://"))
    end = f"<uuid>{UUID}</uuid>"
    mark = f"<m:mark xmlns:m='urn:vmlab:mark:1' version='0' run='{RUN}' store='{lab.store.root}'/>"
    path.write_text(path.read_text().replace(end, f"{end}<metadata>{mark}</metadata>"))


def end_run(lab: Lab) -> None:
    with Journal.append(lab.store.run(RUN) / "journal.jsonl") as journal:
        journal.write("ended", state="failed", exit=1, disposition="kept", seconds=1.0, until=None)


def context(lab: Lab, *, interactive: bool = True, data: bool = True) -> tuple[Context, Person]:
    person = Person(interactive)
    return Context(person, lab.uri, lab.store.root, wants_data=data), person  # type: ignore[arg-type]


async def do(lab: Lab, ident: str, *, interactive: bool = True, data: bool = True, **values: Any) -> Any:
    ctx, _ = context(lab, interactive=interactive, data=data)
    return await by_id(ident).run(ctx, Args(values))


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


# -- snapshots -----------------------------------------------------------------------------------


async def test_snapshots_are_listed_as_a_tree(lab: Lab) -> None:
    outcome = await do(lab, "snapshot.list", vm="last")
    assert [(one["name"], one["parent"]) for one in outcome.data["snapshots"]] == [
        ("one", None),
        ("two", "one"),
    ]
    head, first, second = outcome.lines
    assert head.split() == ["snapshot", "holds", "size", "taken"]
    assert first.startswith("  one ")
    assert second.startswith("*   two ")
    assert "red text" in first
    assert "\x1b" not in first + second


def test_a_tree_with_odd_parents_shows_every_snapshot_once() -> None:
    def snap(name: str, parent: str | None) -> Snapshot:
        return Snapshot(name, parent, "", 0, Power.OFF, False, False, False)

    lines = tree((snap("a", "gone"), snap("b", "a"), snap("c", "a"), snap("d", None)))
    assert [line.split()[0] for line in lines[1:]] == ["a", "b", "c", "d"]
    assert tree(()) == ()


async def test_going_back_says_what_is_lost_kept_and_what_stays(lab: Lab) -> None:
    ctx, _ = context(lab)
    args = Args({"vm": "last", "snapshot": "one"})
    verb = by_id("snapshot.revert")
    preview = await verb.preview(ctx, args)
    assert "goes back to 'one' of" in preview.lines[0]
    assert preview.lines[0].endswith("and runs then")
    told = "\n".join(preview.lines)
    assert "present (disk and memory) is kept first: the safety snapshot undoes it" in told
    assert "later snapshots stay: two" in told
    assert "log of its console goes on" in told
    lost = "\n".join(preview.loses)
    assert "what sample-7f3a has done in the last 1 h" in lost
    assert "it is on" in lost
    assert args.seen == {RUN: 1}
    preview = await verb.preview(ctx, args.plus({"then": "paused", "no_safety": True}))
    assert preview.lines[0].endswith("and is paused then")
    assert any("NOT kept" in line for line in preview.lines)


async def test_going_back_keeps_the_present_and_the_two_ways_home_before(lab: Lab) -> None:
    end_run(lab)
    Path(lab.uri.removeprefix("test://")).write_text("<node></node>")
    async with Host.open(lab.uri) as host:  # the test driver's state belongs to a connection
        # it aborts the process when a domain that it began with is gone back with, or one that runs
        await host.define_xml(domain("sample-7f3a", UUID, disk="qcow2"), "sample-7f3a")
        await host.start(UUID)
        await host.create_snapshot(UUID, "mine")
        for number in (1, 2):
            await host.create_snapshot(UUID, f"before-revert-00000{number}", about("one"))
        await host.destroy(UUID)
        ctx = context(lab)[0]
        ctx.host = lambda *, readonly=False: nullcontext(host)  # type: ignore[method-assign]

        async def did(ident: str, **more: object) -> Any:
            return await by_id(ident).run(ctx, args.plus(more))

        args = Args({"vm": "last", "snapshot": "mine"})
        preview = await by_id("snapshot.revert").preview(ctx, args)
        assert "the old safety snapshot before-revert-000001" in preview.loses
        done = await did("snapshot.revert", then="paused")
        assert (done.data["power"], done.data["in_place"]) == ("paused", False)
        assert re.fullmatch(r"before-revert-\d{6}", done.data["safety"])
        assert done.data["pruned"] == ["before-revert-000001"]
        told = "\n".join(done.lines)
        assert f"in the safety snapshot {done.data['safety']}" in told
        assert "deleted older safety snapshots (2 are kept): before-revert-000001" in told
        names = [one["name"] for one in (await did("snapshot.list")).data["snapshots"]]
        assert set(names) == {"before-revert-000002", "mine", done.data["safety"]}
        described = await did("snapshot.describe", description="all well")
        assert described.lines == ("snapshot mine of sample-7f3a says 'all well' now",)
        assert await by_id("snapshot.describe").known(ctx, args) == {"description": "all well"}
        assert (await did("snapshot.describe")).data["snapshot"]["description"] == ""
        deleted = await did("snapshot.delete")
        assert deleted.data["freed"] is None  # the disk is no file that could be looked at


@pytest.mark.parametrize("ident", ["snapshot.revert", "snapshot.delete"])
async def test_an_external_snapshot_is_refused_with_version_and_file(
    lab: Lab, tmp_path: Path, ident: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tmp_path / "one.xml"
    outside = "<disk name='vda' snapshot='external' type='file'><source file='/over/there'/></disk>"
    text = one.read_text().replace("<disk name='vda' snapshot='internal'/>", outside)
    one.write_text(
        text.replace("<memory snapshot='internal'/>", "<memory snapshot='no'/>").replace(
            "running", "disk-snapshot"
        )
    )
    monkeypatch.setattr(rewind, "EXTERNAL", (99, 0, 0))  # whatever this libvirt can
    ctx, _ = context(lab)
    args = Args({"vm": "last", "snapshot": "one"})
    with pytest.raises(
        Refused, match=r"external, in files of its own \(/over/there\), and libvirt [0-9.]+ cannot"
    ):
        await by_id(ident).preview(ctx, args)
    end_run(lab)
    with pytest.raises(Refused, match="external"):
        await by_id(ident).run(ctx, args)
    listed = await do(lab, "snapshot.list", vm="last")
    assert "disk, external" in listed.lines[1]


async def test_nobody_goes_back_under_an_interrupted_run(lab: Lab) -> None:
    for ident in ("snapshot.revert", "snapshot.delete"):
        with pytest.raises(Refused, match="is interrupted") as refused:
            await do(lab, ident, data=False, vm="last", snapshot="one")
        assert f"vmlab runs resume {RUN}" in refused.value.hint
    end_run(lab)
    outcome = await do(lab, "snapshot.delete", vm="last", snapshot="one")
    assert outcome.data["deleted"] == "one"


async def test_an_interrupted_run_knows_what_was_done_to_its_vm(lab: Lab) -> None:
    for ident, known in (("vm.pause", ""), ("vm.reboot", "reboot, asked by ")):
        await do(lab, ident, vm=["last"])
        told = load_state(lab.store.run(RUN)).altered
        assert told.startswith(known) and bool(told) is bool(known), ident


async def test_a_snapshot_that_is_not_there_names_those_that_are(lab: Lab) -> None:
    with pytest.raises(UsageError, match="no snapshot 'three'") as refused:
        await do(lab, "snapshot.revert", data=False, vm="last", snapshot="three")
    assert "one, two" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "reason"), [("dark", "no disk"), ("raw", "raw disk"), ("uefi", "cannot snapshot UEFI guests")]
)
async def test_a_vm_that_cannot_travel_in_time_is_refused_with_the_reason(
    lab: Lab, name: str, reason: str
) -> None:
    uuid = TRAVEL[name]
    lab.store.vm(uuid).mkdir()
    write_lease(lab.store, lease(name).model_copy(update={"uuid": uuid}))
    ctx, _ = context(lab)
    for call in (by_id("snapshot.create").preview, by_id("snapshot.create").run):
        with pytest.raises(Refused, match=reason):
            await call(ctx, Args({"vm": uuid}))
    listed = await do(lab, "snapshot.list", vm=uuid)
    assert listed.lines[0] == f"{name} has no snapshots"
    assert reason in listed.lines[1]
    assert "snapshot create" not in listed.lines[1]
    for call in (by_id("snapshot.revert").preview, by_id("snapshot.revert").run):
        with pytest.raises(Refused, match=f"has no snapshots: no time travel: .*{reason}"):
            await call(ctx, Args({"vm": uuid}))


async def test_an_external_snapshot_stays_while_another_vm_stands_on_its_files(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewind, "EXTERNAL", (0, 0, 0))  # as if this libvirt could
    base, over, theirs = (tmp_path / f"{name}.qcow2" for name in ("base", "over", "theirs"))
    qcow2(base)
    qcow2(over, str(base))
    disk = domain("sample-7f3a", UUID, disk="qcow2")
    (tmp_path / "out.xml").write_text(
        f"<domainsnapshot><name>out</name><state>disk-snapshot</state><creationTime>1</creationTime>"
        f"<memory snapshot='no'/><disks><disk name='vda' snapshot='external' type='file'>"
        f"<driver type='qcow2'/><source file='{over}'/></disk></disks>"
        f"{disk.replace('/nowhere/qcow2', str(base))}<active>1</active></domainsnapshot>"
    )
    snap = f"<test:domainsnapshot file='{tmp_path / 'out.xml'}'/>"
    ours = domain("sample-7f3a", UUID, disk="qcow2", head=snap).replace("/nowhere/qcow2", str(over))
    web = domain("web", FOREIGN, disk="qcow2").replace("/nowhere/qcow2", str(theirs))
    (tmp_path / "node.xml").write_text(f"<node>{ours}{web}</node>")
    ctx, _ = context(lab)
    args = {"vm": "last", "snapshot": "out", "no_safety": True}

    async def refusals() -> list[str]:
        found = []
        for ident in ("snapshot.delete", "snapshot.revert"):
            try:
                await by_id(ident).preview(ctx, Args(args))
            except Refused as error:
                found.append(error.message)
        return found

    for stood_on in (base, over):
        qcow2(theirs, str(stood_on))
        found = await refusals()
        assert len(found) == 2
        assert all(f"VM web stands on {stood_on}" in told for told in found)
        async with Host.open(lab.uri) as host:
            with pytest.raises(Refused, match="VM web stands on"):
                await delete(host, UUID, "out")
    qcow2(theirs, "json:{}")
    assert all("what VM web stands on is not known" in told for told in await refusals())
    qcow2(theirs)
    assert await refusals() == []


async def test_a_moment_is_marked_under_its_time_or_a_name(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, front = context(lab)
    outcome: Any = await by_id("snapshot.create").run(ctx, Args({"vm": "last", "description": "works"}))
    made = outcome.data["snapshot"]
    assert re.fullmatch(r"snap-\d{6}", made["name"])
    assert (made["description"], made["parent"]) == ("works", "two")
    assert not front.said
    make_disk(lab.store, UUID, one=5 << 20)
    (tmp_path / "config.yaml").write_text("schema: 1\nbudget: 2MiB\n")
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    await by_id("snapshot.create").run(ctx, Args({"vm": "last", "snapshot": "dear"}))
    assert [line.partition(";")[0] for line in front.said] == ["warning: over the budget of 2.0M by 3.0M"]
    with pytest.raises(UsageError, match="cannot name a snapshot"):
        await do(lab, "snapshot.create", vm="last", snapshot="../x")
    with pytest.raises(LabError, match="has a snapshot 'one' already"):
        await do(lab, "snapshot.create", vm="last", snapshot="one")


# -- show ----------------------------------------------------------------------------------------


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
