"""Where two runs part, told by plans and journals alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.command import vmlab
from tests.runs.samples import plan, told, worker
from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import Store
from vmlab_tui.journal.log import Journal
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.compare import divergence, last_passed, timed
from vmlab_tui.runs.keys import Parts, digest
from vmlab_tui.runs.plan import PlannedKey, write_plan

BOOT, FIRST, SECOND, CHECKS = 9, 10, 11, 12


def steps(*scripts: str) -> list[dict[str, Any]]:
    return [
        {"kind": "run", "name": f"s{at}", "script": text, "timeout": 60} for at, text in enumerate(scripts)
    ]


def run(
    name: str,
    scripts: tuple[str, ...] = ("echo a\necho b", "true"),
    *,
    image: str = "d",
    failed: int = 0,
    seconds: float = 1.0,
    check: str = "passed",
    runs: Path = Path("/nowhere"),
) -> RunView:
    """A run that has ended, of these scripts; ``failed``: at which step, 0 for none. In files if ``runs``
    is there."""
    made = plan(steps=steps(*scripts), checks=[{"kind": "command", "params": {"command": "true"}}])
    keys, key = [], ""
    parts: list[tuple[int, Parts]] = [(BOOT, {"image": image})]
    parts += [(FIRST + at, {"script": digest(text), "user": "root"}) for at, text in enumerate(scripts)]
    for number, part in parts:
        key = digest([key, dict(part)])
        keys.append(PlannedKey(number=number, key=key, parts=part))
    made = made.model_copy(update={"run_id": name, "keys": tuple(keys)})
    events: list[tuple[str, dict[str, Any]]] = [worker()]
    for step in made.steps:
        bad = step.number == failed
        events.append(("step_started", {"number": step.number}))
        if step.kind == "checks":
            events.append(("check_result", {"number": step.number, "check": "command true", "state": check}))
        state = "failed" if bad or (step.kind == "checks" and check != "passed") else "ok"
        data = {"number": step.number, "state": state, "seconds": seconds, "detail": "boom" if bad else ""}
        events.append(("step_finished", data))
        if bad:
            break
    state = "failed" if failed or check != "passed" else "passed"
    events.append(("ended", {"state": state, "exit": 0, "disposition": "destroyed", "seconds": 1}))
    if runs.is_dir():
        (runs / name).mkdir()
        write_plan(runs / name, made)
        with Journal.append(runs / name / "journal.jsonl") as journal:
            for kind, payload in events:
                journal.write(kind, **payload)
    return RunView(name, runs / name, made, told(*events), live=False)


def test_the_same_twice_does_not_part() -> None:
    assert divergence(run("one"), run("two")) is None


def test_another_script_is_named_with_its_lines() -> None:
    found = divergence(run("new", ("echo a\necho c", "true"), failed=FIRST), run("old"))
    assert found is not None
    assert (found.step.number, found.kind) == (FIRST, "plan")
    assert found.why[0] == "script changed"
    assert "failed here, ok in old" in found.why
    assert {"-echo b", "+echo c"} <= set(found.script)


def test_the_same_with_another_end() -> None:
    found = divergence(run("new", failed=SECOND), run("old"))
    assert found is not None
    assert (found.step.number, found.kind) == (SECOND, "outcome")
    assert found.why == ("failed here, ok in old", "here: boom")


def test_another_image_shows_at_the_boot_that_failed_or_the_clean_boot() -> None:
    found = divergence(run("new", image="e"), run("old"))
    assert found is not None
    assert (found.step.kind, found.kind, found.why) == ("clean-boot", "plan", ("image changed",))
    found = divergence(run("new", image="e", failed=5), run("old"))
    assert found is not None
    assert (found.step.number, found.why[0]) == (5, "image changed")


def test_a_step_more_and_a_step_less() -> None:
    more = divergence(run("new", ("echo a\necho b", "true", "false")), run("old"))
    assert more is not None
    assert (more.step.number, more.kind) == (CHECKS, "plan")
    less = divergence(run("new", ("echo a\necho b",)), run("old"))
    assert less is not None
    assert (less.step.kind, less.why) == ("checks", ("step 's1' before it is gone",))


def test_a_check_that_fails() -> None:
    found = divergence(run("new", check="failed"), run("old"))
    assert found is not None
    assert (found.step.kind, found.why) == ("checks", ("check 'command true' failed here (passed in old)",))


def test_times_stand_beside_each_other_and_slow_ones_are_marked() -> None:
    usual = {("run", "s0"): 2.0, ("run", "s1"): 3.2}
    rows = {row.step.name: row for row in timed(run("new", seconds=5.0), run("old"), usual)}
    first, second = rows["s0"], rows["s1"]
    assert (first.seconds, first.other_seconds, first.usual, first.slow) == (5.0, 1.0, 2.0, True)
    assert not second.slow, "more than one and a half times as long, but not two seconds longer"
    assert not rows["boot"].slow


def test_the_other_one_is_the_last_that_passed() -> None:
    views = [run("new", failed=FIRST), run("bad", failed=FIRST), run("good"), run("older")]
    assert last_passed(views, views[0]).run_id == "good"
    with pytest.raises(UsageError, match="no other run"):
        last_passed(views[:2], views[0])


def test_a_step_that_was_edited_in_between_is_not_what_it_was() -> None:
    edited = run("new")
    state = edited.state.model_copy(update={"amended": {SECOND: 2}})
    found = divergence(replace(edited, state=state), run("old"))
    assert found is not None
    assert (found.step.number, found.why) == (SECOND, ("edited while the run stood still: new",))


async def test_the_command_needs_neither_libvirt_nor_vms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu+ssh://nobody@nowhere.invalid/system")
    store = Store(tmp_path)
    store.runs.mkdir()
    run("sample-1", runs=store.runs)
    run("sample-2", ("echo a\necho \x1b[2Jc", "true"), failed=FIRST, seconds=5.0, runs=store.runs)
    said = await vmlab(store, "compare", "sample-2")
    assert said.status == 0, said.err
    assert "step 10 's0' is not what it was" in said.out
    assert "script changed" in said.out
    assert "\x1b" not in said.out
    assert "no longer in the store, age not known; the same there" in said.out
    (row,) = (line for line in said.out.splitlines() if line.startswith("  FAIL"))
    assert row.split() == ["FAIL", "10", "s0", "5.0s", "1.0s", "1.0s", "slow"]
    told = (await vmlab(store, "compare", "sample-2", "sample-1", "--json")).data
    assert (told["other"], told["diverges"]["step"], told["diverges"]["kind"]) == ("sample-1", FIRST, "plan")
    itself = await vmlab(store, "compare", "sample-1")
    assert itself.status == 2
    assert "no other run of profile sample has passed" in itself.err
