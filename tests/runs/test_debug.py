"""A run that stands still: look, fix, try again, go back, go on - on a real guest, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runs.command import Said, at_rest, only_run, show, show_when, vmlab
from vmlab_tui.base.paths import Store
from vmlab_tui.base.proc import arun

pytestmark = pytest.mark.guest

PROFILE = """\
schema: 1
name: debug
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
on_fail: pause
on_pass: keep
steps:
  # a remark that stays
  - name: first
    run: echo first >> /root/log
    checkpoint: true
  - name: second
    run: |
      echo second >> /root/log
      cat /root/log
      test -e /root/fixed
  - {{name: third, run: echo third >> /root/log}}
checks:
  - {{command: "grep -c . /root/log", expect: "3"}}
"""
FIRST, SECOND, THIRD, CHECKS = 10, 11, 12, 13


@pytest.fixture
def lab_store(warm_store: Store) -> Store:
    return warm_store


@pytest.fixture
def profile(tiny_image: str, tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE.format(image=tiny_image))
    return path


async def start(store: Store, profile: Path, *words: str, fault: str = "") -> str:
    said = await vmlab(store, "run", profile, "--detach", "--json", *words, VMLAB_FAULT=fault)
    assert said.status == 0, said.err
    return only_run(store).name


def journal(store: Store, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (store.run(run) / "journal.jsonl").read_text().splitlines()]


async def until(store: Store, run: str, *states: str, at: int | None = None, since: int = 0) -> Any:
    """What is shown of the run as soon as it is in one of these states, at that step, after that event."""

    def right(told: Any) -> bool:
        if told["status"] in states and at in (None, told["step"]) and told["seq"] > since:
            return True
        assert told["status"] not in ("passed", "failed", "error", "ended"), told
        return False

    return await show_when(store, run, right)


async def say(store: Store, verb: str, run: str, *words: str | Path) -> Said:
    return await vmlab(store, "runs", verb, run, *words)


async def log_of(store: Store, run: str) -> list[str]:
    said = await vmlab(store, "ssh", run, "--", "sudo cat /root/log")
    assert said.status == 0, said
    return said.out.split()


def attempts(store: Store, run: str) -> list[tuple[int, int]]:
    """Which attempts at the profile's own steps were begun, in order."""
    begun = [one["data"] for one in journal(store, run) if one["kind"] == "step_started"]
    return [(one["number"], one["attempt"]) for one in begun if FIRST <= one["number"] <= CHECKS]


async def test_a_fix_in_the_guest_and_a_retry_in_place(lab_store: Store, profile: Path) -> None:
    run = await start(lab_store, profile)
    shown = await until(lab_store, run, "paused", at=SECOND)
    assert shown["live"]
    told = (await vmlab(lab_store, "runs", "show", run)).out
    for command in ("retry", "back", "edit", "skip", "keep"):
        assert f"vmlab runs {command} {run}" in told
    refused = await say(lab_store, "continue", run)
    assert (refused.status, "has not passed" in refused.err) == (3, True)
    assert (await say(lab_store, "back", run, "--to", "nowhere", "--yes")).status == 3
    assert (
        await vmlab(lab_store, "ssh", run, "--", "sudo touch /root/fixed; sudo sh -c ': >/root/log'")
    ).status == 0
    assert (await say(lab_store, "retry", run)).status == 0
    await until(lab_store, run, "paused", at=CHECKS)  # the log lacks its first line
    assert (await say(lab_store, "skip", run, "--yes")).status == 0
    ended = await vmlab(lab_store, "runs", "wait", run)
    assert ended.status == 0, ended.err
    assert attempts(lab_store, run) == [(FIRST, 1), (SECOND, 1), (SECOND, 2), (THIRD, 1), (CHECKS, 1)]
    assert await log_of(lab_store, run) == ["second", "third"]
    folder = lab_store.run(run)
    # what was mended by hand is no start for a later run
    keys = {one["name"]: one["key"] for one in (await show(lab_store, run))["checkpoints"]}
    assert keys.pop("provisioned") == ""
    assert all(keys.values())
    planned = (await vmlab(lab_store, "run", profile, "--plan", "--json")).data["plan"]
    assert planned["start"]["after"] == FIRST
    assert f"step {SECOND} 'second': in run {run} somebody was in its guest by ssh" in planned["why"]
    assert (folder / f"steps/{SECOND}-second.1.log").read_text() == "first\nsecond\n"
    assert (folder / f"steps/{SECOND}-second.2.log").read_text() == "second\n"
    assert "| skipped |" in (folder / "report.md").read_text()
    refused = await say(lab_store, "retry", run)
    assert refused.status == 3
    assert f"vmlab run {profile}" in refused.err
    assert "copy of its VM" in refused.err
    assert (await vmlab(lab_store, "runs", "end", run, "--yes")).status == 0


async def test_back_to_before_the_step_with_another_text(
    lab_store: Store, profile: Path, tmp_path: Path
) -> None:
    run = await start(lab_store, profile)
    await until(lab_store, run, "paused", at=SECOND)
    fixed = tmp_path / "fixed.sh"
    fixed.write_text("echo second >> /root/log\ncat /root/log\n")
    empty = tmp_path / "empty.sh"
    empty.write_text("\n")
    assert (await say(lab_store, "back", run, "--script", empty, "--yes")).status == 2
    assert (await say(lab_store, "back", run, "--script", fixed, "--yes")).status == 0
    ended = await vmlab(lab_store, "runs", "wait", run)
    assert ended.status == 0, ended.err
    # the guest was where the first step had left it: nothing of the failed attempt is in it
    assert await log_of(lab_store, run) == ["first", "second", "third"]
    folder = lab_store.run(run)
    assert (folder / f"steps/{SECOND}-second.2.log").read_text() == "first\nsecond\n"
    assert (folder / f"steps/{SECOND}-second.2.sh").read_text() == fixed.read_text()
    assert attempts(lab_store, run) == [(FIRST, 1), (SECOND, 1), (SECOND, 2), (THIRD, 1), (CHECKS, 1)]
    shown = await show(lab_store, run)
    (went,) = [one["data"] for one in journal(lab_store, run) if one["kind"] == "went_back"]
    assert went == {"name": f"after-{FIRST}-first", "after": FIRST}
    # what was done with another text than the plan's is no start for a run of that plan
    keys = {one["name"]: one["key"] for one in shown["checkpoints"]}
    assert keys["provisioned"] == ""
    assert keys[f"after-{FIRST}-first"]
    assert (await vmlab(lab_store, "runs", "end", run, "--yes")).status == 0


async def test_breaks_steps_and_a_pause_that_somebody_asks_for(lab_store: Store, profile: Path) -> None:
    said = await vmlab(lab_store, "run", profile, "--break", "secnd")
    assert (said.status, "did you mean 'second'?" in said.err) == (2, True)
    run = await start(lab_store, profile, "--break", "first:after", "--break", str(SECOND))
    shown = await until(lab_store, run, "paused", at=FIRST)
    assert await log_of(lab_store, run) == ["first"]
    seen = shown["seq"]
    assert (await say(lab_store, "continue", run)).status == 0
    await until(lab_store, run, "paused", at=SECOND)
    # somebody who still looks at the first pause is refused
    from vmlab_tui.base.errors import Refused
    from vmlab_tui.runs.asking import ask

    with pytest.raises(Refused, match="moved on"):
        await ask(lab_store.run(run), verb="decide", do="skip", by="late", seq=seen)
    assert (await say(lab_store, "skip", run, "--yes")).status == 0
    await until(lab_store, run, "paused", at=CHECKS)
    assert await log_of(lab_store, run) == ["first", "third"]
    # back to the clean boot: everything again, breaks included
    assert (await say(lab_store, "back", run, "--to", "clean-boot", "--yes")).status == 0
    shown = await until(lab_store, run, "paused", at=FIRST)
    assert await log_of(lab_store, run) == ["first"]
    # into the future that was abandoned: on from where it had got to, with its own first attempt
    (lost,) = {one["name"] for one in shown["checkpoints"]} - {"clean-boot", f"after-{FIRST}-first-2"}
    assert (await say(lab_store, "back", run, "--to", lost, "--yes")).status == 0
    shown = await until(lab_store, run, "paused", at=SECOND)
    assert [one["attempt"] for one in shown["steps"] if one["number"] == FIRST] == [1]
    assert await log_of(lab_store, run) == ["first"]
    kept = await say(lab_store, "keep", run)
    assert kept.status == 0, kept.err
    assert (await show(lab_store, run))["disposition"] == "kept"
    assert (await vmlab(lab_store, "runs", "end", run, "--yes")).status == 0


async def test_somebody_goes_back_behind_our_back(lab_store: Store, profile: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.sh"
    slow.write_text("sleep 100\n")
    run = await start(lab_store, profile, "--break", "third", "--break", "second")
    await until(lab_store, run, "paused", at=SECOND)
    assert (await say(lab_store, "skip", run, "--yes")).status == 0
    await until(lab_store, run, "paused", at=THIRD)
    uuid = (await show(lab_store, run))["vm_uuid"]
    back = ["virsh", "-q", "-c", "qemu:///system", "snapshot-revert", uuid, "clean-boot"]
    await arun(back)
    seen = (await show(lab_store, run))["seq"]
    assert (await say(lab_store, "continue", run)).status == 0
    shown = await until(lab_store, run, "paused", since=seen)
    third = next(one for one in shown["steps"] if one["number"] == THIRD)
    assert (third["state"], "went back to another snapshot" in third["detail"]) == ("unknown", True)
    to = ("--to", f"after-{FIRST}-first", "--yes")
    assert (await say(lab_store, "back", run, *to)).status == 0
    await until(lab_store, run, "paused", at=SECOND)
    assert (await say(lab_store, "back", run, *to, "--script", slow)).status == 0
    await until(lab_store, run, "paused", at=SECOND)
    assert (await say(lab_store, "continue", run)).status == 0
    await until(lab_store, run, "running", at=SECOND)
    await arun(back)  # in mid-step
    shown = await until(lab_store, run, "paused")
    second = next(one for one in shown["steps"] if one["number"] == SECOND)
    assert second["state"] == "unknown", second
    assert (await vmlab(lab_store, "runs", "end", run, "--yes")).status == 0
    await vmlab(lab_store, "runs", "wait", run)
    assert (await vmlab(lab_store, "runs", "end", run, "--yes")).status == 0


@pytest.mark.parametrize("point", ["", "back.begun", "back.done"])
async def test_the_worker_dies_while_it_stands_still_or_goes_back(
    lab_store: Store, profile: Path, tmp_path: Path, point: str
) -> None:
    run = await start(lab_store, profile, fault=f"{point}:kill" if point else "")
    shown = await until(lab_store, run, "paused", at=SECOND)
    fixed = tmp_path / "fixed.sh"
    fixed.write_text("echo second >> /root/log\n")
    if point:
        await say(lab_store, "back", run, "--script", fixed, "--yes")
    else:
        import os
        import signal

        os.kill(
            json.loads((lab_store.run(run) / "journal.jsonl").read_text().splitlines()[1])["data"]["pid"],
            signal.SIGKILL,
        )
    assert (await at_rest(lab_store, run, 30))["status"] == "interrupted"
    assert (await vmlab(lab_store, "runs", "resume", run, "--detach")).status == 0
    if not point:
        again = await until(lab_store, run, "paused", at=SECOND)
        assert again["seq"] > shown["seq"]
        assert (await say(lab_store, "back", run, "--script", fixed, "--yes")).status == 0
    ended = await vmlab(lab_store, "runs", "wait", run)
    assert ended.status == 0, ended.err
    assert await log_of(lab_store, run) == ["first", "second", "third"]
    assert (await vmlab(lab_store, "runs", "end", run, "--yes")).status == 0
