"""What ``vmlab fork`` refuses, previews and is told by a screen, on libvirt's own test driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verbs.vm_bed import DARK, context, do, domain
from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.inventory import VmEntry
from vmlab_tui.lab.leases import read_lease, write_lease
from vmlab_tui.tui.selection import Target, fits, values
from vmlab_tui.verbs.fork import _names
from vmlab_tui.verbs.registry import by_id
from vmlab_tui.verbs.verb import Args

OURS = "sample-7f3a"


async def refused(lab: Lab, **given: str) -> LabError:
    with pytest.raises(LabError) as caught:
        await do(lab, "vm.fork", interactive=True, data=True, **given)
    ctx, _ = context(lab)
    with pytest.raises((Refused, UsageError)) as before:
        await by_id("vm.fork").preview(ctx, Args(given))
    assert before.value.message == caught.value.message, "the preview refuses the same"
    return caught.value


async def test_a_foreign_vm_is_refused(lab: Lab) -> None:
    error = await refused(lab, vm="web")
    assert "no vmlab lease" in error.message
    assert "vmlab ls --own" in error.hint


async def test_a_snapshot_that_is_not_there_or_holds_no_memory(lab: Lab) -> None:
    error = await refused(lab, vm=f"{OURS}@three")
    assert "three" in error.message
    assert f"vmlab fork {OURS}@two   # it has: one, two" in error.hint


async def test_an_off_vm_without_snapshots_is_refused(lab: Lab) -> None:
    lab.store.vm(DARK).mkdir()
    (ours,) = [path for path in lab.store.vms.iterdir() if path.name != DARK]
    write_lease(lab.store, read_lease(ours).model_copy(update={"uuid": DARK, "name": "dark"}))
    node, off = Path(lab.uri.removeprefix("test://")), "<test:runstate>5</test:runstate>"
    without = node.read_text()
    bare = domain("dark", DARK, head=off)
    assert bare in without
    node.write_text(without.replace(bare, domain("dark", DARK, disk="qcow2", head=off)))
    error = await refused(lab, vm="dark")
    assert "is off: there is no now" in error.message
    assert "vmlab start dark" in error.hint
    # where starting it would not help, nobody is told to
    loader = "<loader readonly='yes' type='pflash'>/x.fd</loader>"
    for now, reason in (
        (bare, "no disk that could hold snapshots"),
        (domain("dark", DARK, disk="qcow2", head=off, loader=loader), "cannot snapshot UEFI guests"),
    ):
        node.write_text(without.replace(bare, now))
        for vm in ("dark", "dark@clean-boot"):
            error = await refused(lab, vm=vm)
            assert "VM dark: no time travel: " in error.message
            assert reason in error.message
            assert "start" not in error.hint


async def test_a_vm_on_a_libvirt_network_is_refused_with_what_to_do(lab: Lab) -> None:
    (folder,) = lab.store.vms.iterdir()
    write_lease(lab.store, read_lease(folder).model_copy(update={"network": "default"}))
    error = await refused(lab, vm=f"{OURS}@two")
    assert "'" not in error.message
    assert "network default" in error.message
    assert "--set vm.network=isolated" in error.hint


@pytest.mark.parametrize("count", ["0", "65", "two", "-1", "1.5"])
async def test_counts(lab: Lab, count: str) -> None:
    assert f"--count '{count}'" in (await refused(lab, vm=OURS, count=count)).message


def test_names() -> None:
    vm = VmEntry("u", "web-" + "x" * 59, None, None)
    made = _names(Args({}), vm, 9, set())
    assert len(set(made)) == 9
    assert all(len(name) <= 63 and name.startswith("web-xx") and "-fork-" in name for name in made)
    assert _names(Args({"name": "copy"}), vm, 1, set()) == ["copy"]
    assert _names(Args({"name": "copy"}), vm, 2, {"copy"}) == ["copy-1", "copy-2"]
    with pytest.raises(UsageError, match="copy-2 already"):
        _names(Args({"name": "copy"}), vm, 2, {"copy-2"})
    with pytest.raises(UsageError, match="cannot name"):
        _names(Args({"name": "a b"}), vm, 1, set())


def test_a_screen_names_a_vm_or_one_of_its_snapshots() -> None:
    verb = by_id("vm.fork")
    vm = Target("vm", "uuid", "web", state="on")
    snapshot = Target("snapshot", "clean-boot", "clean-boot", parent="uuid")
    assert fits(verb, vm)
    assert fits(verb, snapshot)
    assert not fits(verb, Target("vm", "uuid", "web", state="off")), "its snapshots can be forked"
    assert not fits(verb, Target("image", "debian-12", "debian-12"))
    assert values(verb, [vm]) == {"vm": "uuid"}
    assert values(verb, [snapshot]) == {"vm": "uuid@clean-boot"}
