"""The verbs on snapshots and going back: what they list, keep and refuse, on libvirt's own test driver."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.lab.disks import qcow2
from tests.runs.samples import UUID
from tests.runs.test_budget import make_disk
from tests.verbs.vm_bed import (
    FOREIGN,
    RUN,
    TRAVEL,
    context,
    do,
    domain,
    end_run,
    lease,
)
from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.hosts import rewind
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power, Snapshot
from vmlab_tui.journal.cache import load_state
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import write_lease
from vmlab_tui.lab.rewind import delete
from vmlab_tui.lab.safety import about
from vmlab_tui.verbs.registry import by_id
from vmlab_tui.verbs.snapshots import tree
from vmlab_tui.verbs.verb import Args


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
