"""Keys: what changes them, what does not, and which steps a run does again after an edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs.samples import plan
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.model import HostFacts
from vmlab_tui.hosts.xml import domain_xml
from vmlab_tui.journal.events import Checkpoint
from vmlab_tui.journal.state import RunState, StepState
from vmlab_tui.lab.leases import Lease
from vmlab_tui.runs.keys import SecretHash, differences, plan_keys
from vmlab_tui.runs.plan import Plan, PlannedKey, PlannedStart
from vmlab_tui.runs.reuse import Kept, best_first, why_not_later
from vmlab_tui.runs.start import told

FACTS = HostFacts("test:///default", (9, 0, 0), (7, 2, 0), 0, 0, 2, 1 << 34, 1 << 33)


def run_step(script: str = "true", **more: Any) -> dict[str, Any]:
    return {"kind": "run", "name": "one", "script": script, "timeout": 60, **more}


def keys(made: Plan, facts: HostFacts = FACTS, **secrets: str) -> list[str]:
    return [one.key for one in plan_keys(made, facts, secrets)]


def first_difference(one: Plan, other: Plan, **how: Any) -> int | None:
    """The place of the first key that differs; None when all are the same."""
    pairs = zip(keys(one), keys(other, **how), strict=True)
    return next((place for place, (mine, theirs) in enumerate(pairs) if mine != theirs), None)


STEPS = [
    run_step("a"),
    run_step("b"),
    {"kind": "wait", "name": "w", "seconds": 1, "timeout": 60},
    run_step("c"),
]


def test_a_key_for_the_boot_and_each_step_of_the_profile() -> None:
    made = plan(steps=STEPS)
    found = list(plan_keys(made, FACTS, {}))
    assert [made.step(one.number).kind for one in found] == ["clean-boot", "run", "run", "wait", "run"]
    assert len({one.key for one in found}) == 5


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ([run_step("A"), *STEPS[1:]], 1),
        ([STEPS[0], run_step("b", user="lab"), *STEPS[2:]], 2),
        ([STEPS[0], run_step("b", env={"X": "1"}), *STEPS[2:]], 2),
        ([*STEPS[:2], {**STEPS[2], "seconds": 2}, STEPS[3]], 3),
        ([STEPS[1], STEPS[0], *STEPS[2:]], 1),
        ([*STEPS[:3], {"kind": "reboot", "name": "r", "timeout": 60}], 4),
        # what does not reach the guest
        ([run_step("a", name="another"), *STEPS[1:]], None),
        ([run_step("a", timeout=5), *STEPS[1:]], None),
        ([run_step("a", component="web", checkpoint=True), *STEPS[1:]], None),
    ],
)
def test_the_key_changes_from_the_edited_step_on(steps: list[dict[str, Any]], place: int | None) -> None:
    assert first_difference(plan(steps=STEPS), plan(steps=steps)) == place
    if place is not None:
        mine, theirs = keys(plan(steps=STEPS)), keys(plan(steps=steps))
        assert not set(mine[place:]) & set(theirs[place:])


def test_image_shape_and_cloud_init_change_everything_names_and_ports_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = plan(steps=STEPS)

    def vm(**change: Any) -> Plan:
        return made.model_copy(update={"vm": made.vm.model_copy(update=change)})

    image = made.image.model_copy(update={"digest": "e" * 64})
    everything = [
        made.model_copy(update={"image": image}),
        *(vm(**{name: 2 << 30}) for name in ("cpus", "memory", "disk")),
        *(vm(**pair) for pair in ({"network": "user"}, {"accel": "kvm"}, {"firmware": "uefi"})),
        plan(steps=STEPS, cloud_init={"packages": ["x"]}),
    ]
    for other in everything:
        assert first_difference(made, other) == 0
    assert first_difference(made, made, facts=replace(FACTS, qemu=(7, 2, 1))) == 0, "QEMU was upgraded"
    assert first_difference(made, made, facts=replace(FACTS, memory_free=1)) is None
    for other in (vm(name="another", uuid="x", mac="52:54:00:00:00:02"), plan(steps=STEPS, checks=[])):
        assert first_difference(made, other) is None
    assert first_difference(made, made.model_copy(update={"ports": {"ssh": 22, "web": 80}})) is None
    before = keys(made)
    monkeypatch.setattr("vmlab_tui.runs.keys.domain_xml", lambda spec: domain_xml(spec).replace("q35", "pc"))
    assert not set(keys(made)) & set(before), "another machine type"


def test_variables_count_in_scripts_only_and_secrets_only_as_a_hash(tmp_path: Path) -> None:
    made = plan(steps=STEPS[2:])  # wait, then a script
    assert first_difference(made, made.model_copy(update={"env": {"X": "1"}})) == 2
    (tmp_path / "keys").mkdir()
    passing = SecretHash(Store(tmp_path))
    assert not passing.lasting
    lasting = SecretHash(Store(tmp_path), make=True)
    assert lasting("hunter2") == SecretHash(Store(tmp_path))("hunter2") != lasting("hunter3")
    assert lasting("hunter2") != passing("hunter2")
    told = next(one for one in plan_keys(made, FACTS, {"TOKEN": lasting("hunter2")}) if "script" in one.parts)
    assert told.parts["env TOKEN"] == lasting("hunter2")
    assert (tmp_path / "keys/plan.key").stat().st_mode & 0o777 == 0o600


def test_files_are_told_apart_by_name(tmp_path: Path) -> None:
    (tmp_path / "site/deep").mkdir(parents=True)
    for name in ("index.html", "deep/a.css", "notes.tmp"):
        (tmp_path / "site" / name).write_text(name)
    step = {
        "kind": "copy", "name": "copy", "src": str(tmp_path / "site"), "to": "/srv", "timeout": 60,
        "exclude": ["*.tmp"],
    }  # fmt: skip
    made = plan(steps=[step])
    before = list(plan_keys(made, FACTS, {}))[-1]
    (tmp_path / "site/notes.tmp").write_text("left out, so nothing changes")
    (tmp_path / "site/index.html").touch()
    assert list(plan_keys(made, FACTS, {}))[-1] == before
    (tmp_path / "site/index.html").write_text("new")
    (tmp_path / "site/deep/a.css").chmod(0o755)
    (tmp_path / "site/more").symlink_to("index.html")
    after = list(plan_keys(made, FACTS, {}))[-1]
    assert after.key != before.key
    assert sorted(differences(after.parts, before.parts)) == [
        "file deep/a.css changed",
        "file index.html changed",
        "file more is new",
    ]


# -- which steps are done again ----------------------------------------------------------------------

_KINDS = {
    "run": st.tuples(st.sampled_from("ab"), st.sampled_from(("root", "lab")), st.sampled_from("xy")),
    "copy": st.sampled_from(("one", "two")),
    "wait": st.integers(1, 2),
    "reboot": st.none(),
}
_steps = st.lists(
    st.one_of(*(st.tuples(st.just(kind), what) for kind, what in _KINDS.items())),
    min_size=1,
    max_size=5,
)
_around = st.fixed_dictionaries(
    {
        "memory": st.sampled_from((1 << 30, 1 << 30, 2 << 30)),
        "digest": st.sampled_from(("d" * 64, "d" * 64, "e" * 64)),
        "packages": st.sampled_from(("a", "a", "b")),
        "env": st.sampled_from("mmn"),
        "secret": st.sampled_from("sst"),
    }
)
"""What a profile and its surroundings are; mostly the same, so that there is something to reuse."""
Drawn = tuple[str, Any]


def drawn_step(step: Drawn, trees: Path, **more: Any) -> dict[str, Any]:
    kind, what = step
    shape: dict[str, Any] = {"kind": kind, "name": "one", "timeout": 60, **more}
    match kind:
        case "run":
            return shape | {"script": what[0], "user": what[1], "env": {"OWN": what[2]}}
        case "copy":
            return shape | {"src": str(trees / what), "to": "/srv"}
        case "wait":
            return shape | {"seconds": what}
    return shape


def twisted(step: Drawn, how: str) -> Drawn:
    """A step as it was but for one thing, if it is a script."""
    kind, what = step
    if kind != "run":
        return step
    script, user, own = what
    return (kind, (script, user + "2", own) if how == "user" else (script, user, own + "2"))


def drawn_plan(steps: list[Drawn], around: dict[str, Any], trees: Path, **more: Any) -> Plan:
    made = plan(
        steps=[drawn_step(one, trees, **more) for one in steps], cloud_init={"packages": [around["packages"]]}
    )
    vm = made.vm.model_copy(update={"memory": around["memory"]})
    image = made.image.model_copy(update={"digest": around["digest"]})
    return made.model_copy(update={"vm": vm, "image": image, "env": {"X": around["env"]}})


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders with a file each that differ in what it says."""
    root = tmp_path_factory.mktemp("trees")
    for name in ("one", "two"):
        (root / name).mkdir()
        (root / name / "file").write_text(name)
    return root


def kept(made: Plan, found: list[PlannedKey], at: set[int]) -> Kept:
    """A VM of a run of ``made`` with checkpoints after the profile's steps numbered ``at`` (0: the boot)."""
    lease = Lease(
        uuid=made.vm.uuid,
        name="x",
        run_id=made.run_id,
        profile="sample",
        image="tiny",
        owner="me",
        created="",
    )
    checkpoints = tuple(
        Checkpoint(name=f"c{place}", after=one.number, key=one.key, created=place)
        for place, one in enumerate(found)
        if place in at
    )
    return Kept(lease, made, RunState(checkpoints=checkpoints))


@settings(max_examples=400, deadline=None)
@given(
    before=_steps,
    edits=st.lists(
        st.tuples(st.sampled_from(("put", "drop", "swap", "user", "own")), st.integers(0, 5), _steps),
        max_size=2,
    ),
    around=st.tuples(_around, _around),
    at=st.one_of(st.just(set(range(6))), st.sets(st.integers(0, 5))),
)
def test_exactly_the_steps_behind_the_longest_kept_prefix_are_done_again(
    before: list[Drawn],
    edits: list[tuple[str, int, list[Drawn]]],
    around: tuple[dict[str, Any], dict[str, Any]],
    at: set[int],
    trees: Path,
) -> None:
    after = list(before)
    for how, place, more in edits:
        if how in ("user", "own"):
            after[place : place + 1] = [twisted(one, how) for one in after[place : place + 1]]
            continue
        after[place : place + (how != "put")] = more[: how != "drop"]
    was, now = around
    old, new = drawn_plan(before, was, trees), drawn_plan(after, now, trees, name="renamed", timeout=9)
    scripts_same = (was["env"], was["secret"]) == (now["env"], now["secret"])
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        if before[same][0] == "run" and not scripts_same:
            break
        same += 1
    booted = all(was[what] == now[what] for what in ("memory", "digest", "packages"))
    usable = [place for place in at if place <= same and place <= len(before)] if booted else []
    ours = list(plan_keys(new, FACTS, {"KEY": now["secret"]}))
    theirs = list(plan_keys(old, FACTS, {"KEY": was["secret"]}))
    found = best_first([kept(old, theirs, at)], ours)
    assert [ours.index(next(key for key in ours if key.number == one.number)) for one in found] == sorted(
        usable, reverse=True
    )


def test_of_equal_prefixes_the_newest_and_a_checkpoint_without_key_never() -> None:
    made = plan(steps=STEPS)
    ours = list(plan_keys(made, FACTS, {}))
    older, newer = (
        Kept(
            kept(made, ours, set()).lease,
            made,
            RunState(checkpoints=(Checkpoint(name=name, after=10, key=ours[1].key, created=when),)),
        )
        for name, when in (("older", 100), ("newer", 200))
    )
    unsure = RunState(checkpoints=(Checkpoint(name="unsure", after=13, key="", created=300),))
    found = best_first([older, newer, Kept(older.lease, made, unsure)], ours)
    assert [one.checkpoint.name for one in found] == ["newer", "older"]


def test_why_a_step_is_done_again() -> None:
    old, new = plan(steps=STEPS), plan(steps=[STEPS[0], run_step("B", user="lab"), *STEPS[2:]])
    theirs = old.model_copy(update={"keys": tuple(plan_keys(old, FACTS, {}))})
    ours = list(plan_keys(new, FACTS, {}))

    def why(done: int, state: RunState | None = None, made: Plan = new) -> str:
        others = [Kept(kept(old, [], set()).lease, theirs, state or RunState())]
        return why_not_later(done, made.steps, list(plan_keys(made, FACTS, {})), others)

    boot = ours[0].number
    assert why(boot + 1) == f"step {boot + 2} 'one': script changed, user changed since run {old.run_id}"
    assert "did not get there" in why(boot, made=old)
    assert "no checkpoint was taken" in why(boot, _at(boot + 1, "ok"), old)
    assert "it failed in" in why(boot, _at(boot + 1, "failed"), old)
    assert "only the checks" in why(ours[-1].number)
    assert "no VM of an earlier run" in why_not_later(boot, new.steps, ours, [])
    bigger = new.model_copy(update={"vm": new.vm.model_copy(update={"memory": 1 << 30})})
    assert "the clean boot: memory changed" in why(boot, made=bigger)


def test_where_a_run_starts_is_told_with_the_run_it_comes_from() -> None:
    made = plan(steps=STEPS).model_copy(update={"why": "step 10 'one': script changed since run x-1"})
    assert told(made) == f"cold: boots from the image; {made.why}"

    def start(kind: str, after: int) -> Plan:
        fields = {"kind": kind, "source": "s", "snapshot": "n", "after": after, "key": "k", "run_id": "x-1"}
        begun = PlannedStart.model_validate({**fields, "instance_id": "i"})
        return made.model_copy(update={"start": begun})

    assert told(start("template", 8)) == (
        f"warm: from the clean boot that run x-1 left as a template; {made.why}"
    )
    assert told(start("checkpoint", 10)) == f"warm: run x-1 has done all up to 10 'one'; {made.why}"
    assert told(made.model_copy(update={"why": ""})) == "cold: boots from the image"


def _at(number: int, state: str) -> RunState:
    step = StepState.model_validate({"number": number, "state": state})
    return RunState(steps={number: step})
