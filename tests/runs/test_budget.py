"""The budget of a lab in a run: what is counted, what goes first, what stays, and what the log says."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import rmtree
from typing import Any, cast

import pytest
from pydantic import JsonValue

from tests.lab.disks import add_snapshot, qemu_img
from tests.lab.test_templates import put
from tests.runs.samples import UUID, plan
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.base.units import size
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Domain, Power, Snapshot
from vmlab_tui.journal.log import Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab import templates
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.inventory import InventoryReader
from vmlab_tui.lab.leases import Lease, write_lease
from vmlab_tui.runs.budget import make_room, measure
from vmlab_tui.runs.checkpoints import after_step, before_step, phase
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.context import RunContext
from vmlab_tui.tui.labview import details
from vmlab_tui.tui.runview import head
from vmlab_tui.verbs.shapes import summary
from vmlab_tui.verbs.vms import as_json

M = 1 << 20
STEPS = [
    {"kind": "run", "name": name, "script": "true", "timeout": 60, "checkpoint": name == "three"}
    for name in ("one", "two", "three", "four", "five")
]


def make_disk(store: Store, uuid: str, **held: int) -> Path:
    """A VM's directory with its disk, in which there are snapshots with so many bytes of memory."""
    folder = store.vm(uuid)
    folder.mkdir(parents=True, exist_ok=True)
    disk = folder / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", disk, "1M")
    for name, memory in held.items():
        add_snapshot(disk, name, memory)
    return disk


class Snapshots:
    """libvirt's part in a checkpoint, on a disk that no QEMU has open; each holds ``memory`` bytes."""

    def __init__(self, disk: Path, memory: int) -> None:
        self.disk, self.memory = disk, memory
        self.names: list[str] = []
        self.gone: list[str] = []
        self.broken = ""
        self.stuck: tuple[str, ...] = ()
        self.beside: list[str] = []
        """The templates that were there when the latest was taken."""

    async def power(self, uuid: str) -> Power:
        return Power.ON

    async def snapshots(self, uuid: str) -> list[Snapshot]:
        return [
            Snapshot(name, None, "", at, Power.ON, memory=True, external=False, current=False)
            for at, name in enumerate(self.names)
        ]

    async def generation(self, uuid: str) -> str:
        return "as it was"

    async def create_snapshot(self, uuid: str, name: str, description: str = "") -> None:
        assert uuid == UUID
        if self.broken:
            self.names.append(name)
            raise LabError(self.broken)
        self.beside = [path.name for path in self.disk.parents[2].glob("templates/[!.]*")]
        add_snapshot(self.disk, name, self.memory)
        self.names.append(name)

    async def delete_snapshot(self, uuid: str, name: str) -> bool:
        if name in self.stuck:
            raise LabError("it is held")
        self.names.remove(name)
        self.gone.append(name)
        if not self.broken:
            qemu_img("snapshot", "-d", name, self.disk)
        return True


class Run(RunContext):
    """A run in a store of its own, whose guest need not be there."""

    def __init__(self, root: Path, budget: int, memory: int = M, **profile: Any) -> None:
        store = Store(root)
        self.snaps = Snapshots(make_disk(store, UUID), memory)
        folder = store.run("one")
        folder.mkdir(parents=True)
        made = plan(root, steps=STEPS, **profile)
        made = made.model_copy(update={"budget": budget, "checkpoints": made.profile.checkpoints})
        journal = Journal.append(folder / "journal.jsonl")
        super().__init__(made, folder, journal, RunState(), cast("Host", self.snaps), {})

    def step(self, name: str) -> Any:
        return next(one for one in self.plan.steps if one.name == name)

    async def before(self, name: str, since: float = 60) -> None:
        await before_step(self, self.step(name), since)

    async def boot(self) -> None:
        await phase(self, self.step("clean-boot"))

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.state.checkpoints]

    @property
    def notes(self) -> list[str]:
        return [note.text for note in self.state.notes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("vms", "runs", "templates"):
        (tmp_path / name).mkdir()
    return tmp_path


# -- what is counted ---------------------------------------------------------------------------------


def lease_of(store: Store, uuid: str, **more: Any) -> None:
    folder = store.vm(uuid)
    folder.mkdir(exist_ok=True)
    base = {"uuid": uuid, "name": uuid, "run_id": "fork-1", "profile": "", "image": "", "owner": "me"}
    write_lease(store, Lease.model_validate({**base, "created": "", **more}))


def domain_of(uuid: str, disk: Path, *names: str) -> Domain:
    shots = tuple(Snapshot(name, None, "", 1, Power.ON, True, False, False) for name in names)
    return Domain(uuid, uuid, Power.OFF, True, 1, 1, None, (disk,), (disk,), shots, ("qcow2",))


def test_every_snapshot_of_every_vm_of_ours_counts_whoever_took_it(root: Path) -> None:
    store = Store(root)
    put(store, "a" * 32, size=M)
    disk = make_disk(store, "run", **{"clean-boot": 3 * M, "before-revert-101112": 2 * M})
    lease_of(store, "run")
    make_disk(store, "fork", forked=5 * M)  # half-made: no lease, no domain
    (store.vm("fork") / "broken.qcow2").write_text("no disk")
    adopted = make_disk(Store(root / "elsewhere"), "theirs", mine=7 * M)
    lease_of(store, "adopted", adopted=(str(adopted), str(adopted.with_name("gone.iso"))))
    foreign = make_disk(Store(root / "elsewhere"), "foreign", other=11 * M)
    use = measure(store)
    assert use.snapshots == 17 * M
    assert M <= use.templates["a" * 32] < 2 * M
    assert use.total == use.snapshots + use.templates["a" * 32]
    assert measure(Store(root / "nothing")).total == 0

    found = InventoryReader(Lab("test:///default", store)).join(
        [
            domain_of("run", disk, "clean-boot", "before-revert-101112"),
            domain_of("adopted", adopted, "mine"),
            domain_of("foreign", foreign, "other"),
        ]
    )
    assert found.budgeted == use.total, "the screen tells the same"
    vm = found.vm("run")
    assert vm and vm.size
    data = as_json(vm)
    assert (data["size"], data["snapshots_bytes"]) == (vm.size, 5 * M)
    told = details(found.by_key[vm.key], found, budget=1 << 40)
    assert ("", "5.0M of memory in snapshots") in told
    total = size(use.total)
    assert told[-1] == ("budget", f"{total} of 1.0T in snapshots and templates")
    (template,) = found.templates
    words = details(found.by_key[template.key], found, budget=M)[-1][1]
    assert words == f"{total} of 1.0M in snapshots and templates, which is too much"
    assert "budget" not in dict(details(found.by_key[vm.key], found))


async def test_a_run_tells_what_its_checkpoints_take_for_as_long_as_they_are_there(root: Path) -> None:
    run = Run(root, 99 * M)
    lease_of(run.store, UUID)
    await run.boot()
    await after_step(run, run.step("three"))
    lab = InventoryReader(Lab("test:///default", run.store)).join([])

    def told() -> tuple[JsonValue, bool, bool]:
        view = RunView("one", run.folder, run.plan, run.state, live=False)
        words = ("checkpoints 2.0M", "dim")
        return summary(view)["checkpoints_bytes"], words in head(view), words in head(view, lab)

    assert told() == (2 * M, True, True)
    run.write("ended", state="passed", exit=0, disposition="kept", seconds=1)
    assert told() == (2 * M, True, True)
    rmtree(run.store.vm(UUID))
    lab = InventoryReader(Lab("test:///default", run.store)).join([])
    assert told() == (0, True, False), "without a look at the lab only the journal tells"


# -- what a run decides ------------------------------------------------------------------------------


async def test_an_automatic_checkpoint_comes_where_it_costs_little_beside_the_work_at_stake(
    root: Path,
) -> None:
    run = Run(root, 99 * M)
    await run.before("one")
    assert run.names == [], "without a checkpoint before it nobody knows what one costs"
    await run.boot()
    await run.before("one")
    assert run.names == ["clean-boot"], "it is the state after the clean boot"
    await run.before("two", since=0)
    assert run.names == ["clean-boot"], "nothing is at stake"
    timed = run.step("two").model_copy(update={"usual": 3600.0})
    await before_step(run, timed, 0)
    after_one = run.step("one").number
    (made,) = run.state.checkpoints[1:]
    assert (made.name, made.after, made.why, made.size) == (
        f"before-{after_one + 1}-two",
        after_one,
        "auto",
        M,
    )
    await run.before("two")
    await after_step(run, run.step("two"))
    assert len(run.names) == 2, "taken once, and after the step only where the profile says so"
    await after_step(run, run.step("three"))
    assert run.state.checkpoints[-1].why == "named"
    assert not run.notes


@pytest.mark.parametrize(("policy", "names"), [("named", 1), ("none", 0)])
async def test_other_policies_take_none_by_themselves(root: Path, policy: str, names: int) -> None:
    run = Run(root, 99 * M, checkpoints=policy)
    await run.boot()
    await run.before("two")
    await after_step(run, run.step("three"))
    assert [one.why for one in run.state.checkpoints] == ["clean-boot", *["named"] * names]


async def test_the_run_does_without_a_checkpoint_that_fails_and_nothing_half_done_stays(root: Path) -> None:
    run = Run(root, 99 * M)
    await run.boot()
    run.snaps.broken = "no space left"
    await run.before("two")
    await after_step(run, run.step("three"))
    two, three = run.step("two").number, run.step("three").number
    assert run.notes == [
        f"no checkpoint before step {two}: no space left",
        f"no checkpoint after step {three}: no space left",
    ]
    assert run.names == run.snaps.names == ["clean-boot"]
    assert not run.state.pending


# -- what goes, in which order -----------------------------------------------------------------------


async def test_templates_then_the_oldest_automatic_checkpoints_go_the_rest_stays(root: Path) -> None:
    run = Run(root, 99 * M)
    store = Store(root)
    for key, used in (("a" * 32, 200.0), ("b" * 32, 100.0)):
        put(store, key, used=used, size=M)
    await run.boot()
    await run.before("two")
    await run.before("three")
    await after_step(run, run.step("three"))
    await run.before("five")
    number = {name: run.step(name).number for name in ("two", "three", "five")}
    autos = [f"before-{at}-{name}" for name, at in number.items()]
    kept = ["clean-boot", f"after-{number['three']}-three"]
    assert run.names == [kept[0], *autos[:2], kept[1], autos[2]]

    def tighten(budget: int) -> None:
        run.plan = run.plan.model_copy(update={"budget": budget})

    total = measure(store).total
    tighten(total)
    assert await make_room(run, 0) and not run.notes
    assert await make_room(run, M)
    assert [one.key for one in templates.scan_templates(store)[0]] == ["a" * 32], "the longest unused went"
    assert not run.snaps.gone

    tighten(5 * M)
    assert await make_room(run, M)
    assert templates.scan_templates(store) == ([], {})
    assert run.snaps.gone == autos[:1], "the oldest, and no more than it takes"

    tighten(M)
    run.snaps.stuck = (autos[1],)
    assert not await make_room(run, 0)
    assert run.snaps.gone == autos[:1]
    held = f"checkpoint {autos[1]} could not be removed: it is held"
    assert run.notes[-1] == held
    run.snaps.stuck = ()
    assert not await make_room(run, 0)
    assert run.snaps.gone == autos[:2], "clean-boot, what the profile wanted and the newest stay"
    assert run.names == [*kept, autos[2]] == [one.name for one in run.state.line]
    assert [re.sub(r"[\d.]+[BKM] are free.*", "", note) for note in run.notes if note != held] == [
        f"template {'b' * 12} removed to stay within the budget: ",
        f"template {'a' * 12} removed to stay within the budget: ",
        *(f"checkpoint {name} removed to stay within the budget: 1.0M" for name in autos[:2]),
    ]
    journal = (run.folder / "journal.jsonl").read_text()
    assert journal.count('"checkpoint_dropped"') == 2
    assert measure(store).snapshots == 3 * M, "the disk holds what the journal says"


async def test_where_nothing_more_fits_there_is_no_automatic_checkpoint_and_a_line_says_so(
    root: Path,
) -> None:
    run = Run(root, 2 * M - 1)
    await run.boot()
    await run.before("two")
    at = run.step("two").number
    assert run.names == ["clean-boot"]
    assert run.notes == [f"no checkpoint before step {at}: the budget of 2.0M is used up"]


async def test_what_a_run_must_have_is_taken_all_the_same_and_the_log_says_how_far_that_is_over(
    root: Path,
) -> None:
    run = Run(root, 3 * M, memory=2 * M)
    store = Store(root)
    put(store, "a" * 32, size=2 * M)
    await run.boot()
    assert templates.scan_templates(store) == ([], {}), "what can go went"
    assert run.snaps.beside, "nobody could know how large the first would be"
    put(store, "b" * 32, size=M)
    await after_step(run, run.step("three"))
    assert not run.snaps.beside, "of the next it is known: the room comes first"
    name = f"after-{run.step('three').number}-three"
    assert [note.partition(" removed")[0] for note in run.notes[:2]] == [
        f"template {'a' * 12}",
        f"template {'b' * 12}",
    ]
    assert run.notes[2:] == [f"checkpoint {name} is taken all the same: over the budget of 3.0M by 1.0M"]
    await phase(run, run.step("provisioned"))
    assert run.notes[-1] == "checkpoint provisioned is taken all the same: over the budget of 3.0M by 3.0M"
    assert run.state.notes[-1].level == "warn"
    assert run.names == ["clean-boot", name, "provisioned"]


async def test_the_checkpoint_that_the_present_stands_on_is_not_the_newest_of_an_abandoned_future(
    root: Path,
) -> None:
    run = Run(root, 99 * M)
    await run.boot()
    await run.before("two")
    await run.before("three")
    first, second = run.names[1:]
    run.write("went_back", name=first, after=run.state.checkpoints[1].after)
    run.plan = run.plan.model_copy(update={"budget": M})
    assert not await make_room(run, 0)
    assert run.snaps.gone == [second]
    assert [one.name for one in run.state.line] == ["clean-boot", first]
