"""Runs that do not start from nothing: templates, and checkpoints of kept VMs."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.runs.command import Said, vmlab
from vmlab_tui.base.paths import Store

pytestmark = pytest.mark.guest

HEAD = """\
schema: 1
name: warm
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
"""
STEPS = """\
env: {WORD: one}
steps:
  - {name: first, run: "echo $WORD >> /root/log", checkpoint: true}
  - {copy: {from: ./files, to: /root/files}, name: files, checkpoint: true}
  - {name: second, run: "echo two >> /root/log; cat /root/files/a >> /root/log", checkpoint: true}
  - {name: third, run: "cat /root/log; test -e /root/fixed"}
"""
FIRST, FILES, SECOND, THIRD = 10, 11, 12, 13
BOOT = 9


@pytest.fixture
def profile(tiny_image: str, tmp_path: Path) -> Any:
    """Writes a profile with these lines after the usual head; returns its path."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("a\n")

    def write(text: str, image: str = tiny_image) -> Path:
        path = tmp_path / "profile.yaml"
        path.write_text(HEAD.format(image=image) + text)
        return path

    return write


def states(said: Said) -> dict[int, str]:
    """How each step of a run with --json ended."""
    return {
        one["data"]["number"]: one["data"]["state"] for one in said.events if one["kind"] == "step_finished"
    }


def newest(store: Store) -> Path:
    return max(
        store.runs.iterdir(), key=lambda folder: json.loads((folder / "plan.json").read_text())["created"]
    )


async def inside(store: Store, run: str, command: str) -> str:
    said = await vmlab(store, "ssh", run, "--", command)
    assert said.status == 0, said
    return said.out.strip()


async def end(store: Store, *runs: str) -> None:
    for run in runs:
        assert (await vmlab(store, "runs", "end", run, "--yes")).status == 0


async def test_the_first_run_leaves_a_template_and_the_next_starts_from_it(
    lab_store: Store, profile: Any
) -> None:
    path = profile("steps:\n  - {name: say, run: 'hostname; cat /proc/uptime'}\n")
    cold = await vmlab(lab_store, "run", path, "--json")
    assert cold.status == 0, cold.err
    assert "reused" not in states(cold).values()
    (template,) = (await vmlab(lab_store, "template", "list", "--json")).data["templates"]
    folder = lab_store.templates / template["key"]
    assert (folder.stat().st_mode & 0o777, (folder / "disk.qcow2").stat().st_mode & 0o777) == (0o700, 0o600)
    subprocess.run(["qemu-img", "check", "-q", folder / "disk.qcow2"], check=True)
    planned = (await vmlab(lab_store, "run", path, "--plan", "--json")).data["plan"]["start"]
    assert (planned["kind"], planned["source"], planned["after"]) == ("template", template["key"], BOOT - 1)
    warm = await vmlab(lab_store, "run", path, "--json", "--keep")
    assert warm.status == 0, warm.err
    # the last one is the clean-up of a VM that is kept
    assert {step: state for step, state in states(warm).items() if state != "ok"} == {
        8: "reused",
        15: "skipped",
    }
    run = newest(lab_store)
    plan = json.loads((run / "plan.json").read_text())
    assert await inside(lab_store, run.name, "hostname") == plan["vm"]["name"]
    # its own clean boot, with its own identity: the pin is right after going back, too
    assert (await vmlab(lab_store, "snapshot", "revert", run.name, "clean-boot", "--yes")).status == 0
    assert await inside(lab_store, run.name, "hostname") == plan["vm"]["name"]
    await end(lab_store, run.name)
    again = (await vmlab(lab_store, "run", path, "--plan", "--json", "--cold")).data["plan"]
    assert (again["start"], again["why"]) == (None, "asked for: everything from nothing")
    (file,) = lab_store.images.glob("*.qcow2")
    shutil.copy2(
        file, own := file.with_suffix(".own")
    )  # other sessions' stores share its bytes, and use them
    own.replace(file)
    removed = await vmlab(lab_store, "image", "rm", plan["image"]["name"], "--yes")
    assert removed.status == 0, removed.err
    assert list(lab_store.templates.glob("[0-9a-f]*")) == []


async def test_after_an_edit_only_what_changed_is_done_again(lab_store: Store, profile: Any) -> None:
    path = profile(STEPS)
    failed = await vmlab(lab_store, "run", path, "--json")
    assert failed.status == 1, failed.err
    evidence = newest(lab_store).name

    async def after(text: str = STEPS) -> tuple[int, str]:
        """With which step done a run of this text would start, and why not later."""
        said = await vmlab(lab_store, "run", profile(text), "--plan", "--json")
        assert said.status == 0, said.err
        plan = said.data["plan"]
        return plan["start"]["after"], plan["why"]

    boot = BOOT - 1  # the clean boot is taken anew
    assert await after() == (SECOND, f"step {THIRD} 'third': it failed in run {evidence}")
    assert (await after(STEPS.replace("test -e /root/fixed", "true")))[0] == SECOND
    assert (await after(STEPS.replace("echo two", "echo 2")))[0] == FILES
    assert "script changed" in (await after(STEPS.replace("echo two", "echo 2")))[1]
    assert await after(STEPS.replace("WORD: one", "WORD: 1")) == (
        boot,
        f"step {FIRST} 'first': env WORD changed since run {evidence}",
    )
    (path.parent / "files/a").write_text("b\n")
    assert await after() == (FIRST, f"step {FILES} 'files': file a changed since run {evidence}")
    (path.parent / "files/a").write_text("a\n")
    swapped = STEPS.replace("name: first", "name: renamed").replace(
        "checkpoint: true}\n", "timeout: 9m}\n", 1
    )
    assert (await after(swapped))[0] == SECOND, "names and time limits change nothing in the guest"

    done = await vmlab(
        lab_store, "run", profile(STEPS.replace("test -e /root/fixed", "true")), "--json", "--keep"
    )
    assert done.status == 0, done.err
    told = states(done)
    assert [told[number] for number in (BOOT, FIRST, FILES, SECOND, THIRD)] == ["reused"] * 4 + ["ok"]
    run = newest(lab_store).name
    log = (lab_store.run(run) / f"steps/{THIRD}-third.1.log").read_text()
    assert log.split() == ["one", "two", "a"], "no step was done twice"
    report = (lab_store.run(run) / "report.md").read_text()
    assert f"| {FIRST} | first | reused |" in report
    assert evidence in report
    # the evidence goes on untouched, and both have their own identity
    names = {
        ref: json.loads((lab_store.run(ref) / "plan.json").read_text())["vm"]["name"]
        for ref in (evidence, run)
    }
    for ref, name in names.items():
        assert await inside(lab_store, ref, "hostname") == name
    assert (
        await inside(lab_store, evidence, "cat /root/log 2>/dev/null || sudo cat /root/log") == "one\ntwo\na"
    )
    # a passed VM that is kept holds every step: only the checks are left to do
    start, why = await after(
        STEPS.replace("test -e /root/fixed", "true") + "checks:\n  - {command: 'true'}\n"
    )
    assert (start, why) == (THIRD, "every step is as it was; only the checks are made again")
    # somebody else's snapshot of the same name is not the one that the journal tells of
    held = [(await vmlab(lab_store, "runs", "show", run, "--json")).data["checkpoints_bytes"]]
    assert (await vmlab(lab_store, "snapshot", "delete", run, "provisioned", "--yes")).status == 0
    shown = await vmlab(lab_store, "runs", "show", run)
    assert re.search(r"\n  provisioned .* deleted\n", shown.out), shown.out
    held.append((await vmlab(lab_store, "runs", "show", run, "--json")).data["checkpoints_bytes"])
    assert 0 < held[1] < held[0]
    assert (await after(STEPS.replace("test -e /root/fixed", "true")))[0] == SECOND
    # what began with the second step done has no state from before it, whatever the profile marks
    taken = [one["data"] for one in done.events if one["kind"] == "checkpoint"]
    assert [one["after"] for one in taken if one["why"] != "provisioned"] == [SECOND]
    await end(lab_store, evidence)
    assert (await after(STEPS.replace("echo two", "echo 2")))[0] == boot
    assert (await after())[0] == SECOND
    await end(lab_store, run)
    assert (await after())[0] == boot


async def test_the_vm_of_a_run_that_goes_on_is_left_alone(lab_store: Store, profile: Any) -> None:
    path = profile(STEPS.replace("test -e /root/fixed", "until test -e /root/go; do sleep 0.1; done"))
    said = await vmlab(lab_store, "run", path, "--detach", "--on-pass", "destroy")
    assert said.status == 0, said
    run = newest(lab_store)
    async with asyncio.timeout(120):
        while not (run / f"steps/{THIRD}-third.1.log").exists():
            await asyncio.sleep(0.1)
    start = (await vmlab(lab_store, "run", path, "--plan", "--json")).data["plan"]["start"]
    assert (start["kind"], start["after"]) == ("template", BOOT - 1), "it will be gone before it is copied"
    await inside(lab_store, run.name, "sudo touch /root/go")
    assert (await vmlab(lab_store, "runs", "wait", run.name)).status == 0


@dataclass(frozen=True)
class Edit:
    """One kind of change to a profile, which steps a run of it takes over, and what its log has then."""

    kind: str
    old: str
    new: str
    reused: tuple[str, ...]
    log: str
    words: tuple[str, ...] = ()


EDITS = (
    Edit("script", "echo two", "echo 2", ("first", "files"), "one 2 a"),
    Edit("variable", "WORD: one", "WORD: 1", (), "1 two a"),
    Edit("secret", "steps:", "secret: [KEY]\nsteps:", (), "one two a", ("--env", "KEY")),
    Edit("file", "./files", "./others", ("first",), "one two b"),
    Edit(
        "added",
        "  - {name: third",
        "  - {name: more, run: 'echo 3 >> /root/log'}\n  - {name: third",
        ("first", "files", "second"),
        "one two a 3",
    ),
    Edit("removed", STEPS.splitlines(True)[4], "", ("first", "files"), "one"),
    Edit(
        "step-env",
        "{name: second, ",
        "{name: second, env: {OWN: x}, ",
        ("first", "files"),
        "one two a",
    ),
    Edit(
        "reordered",
        "".join(STEPS.splitlines(True)[2:4]),
        "".join(STEPS.splitlines(True)[3:1:-1]),
        (),
        "one two a",
    ),
    Edit("cloud-init", "steps:", "cloud_init: {packages: []}\nsteps:", (), "one two a"),
    Edit("memory", "", "", (), "one two a", ("--set", "vm.memory=200MiB")),
    Edit("image", "", "", (), "one two a", ("--set", "image=other")),
)


async def test_each_kind_of_change_for_real(
    lab_store: Store, tiny_image: str, profile: Any, tmp_path: Path
) -> None:
    (disk,) = lab_store.images.glob(f"{tiny_image}-*.qcow2")
    other = tmp_path / "other.qcow2"  # the same, in another file
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=32k", disk, other], check=True)
    assert (await vmlab(lab_store, "image", "add", other)).status == 0
    others = tmp_path / "others"
    others.mkdir()
    (others / "a").write_text("b\n")
    base = await vmlab(lab_store, "run", profile(STEPS), "--json")
    assert base.status == 1, base.err
    evidence = newest(lab_store).name
    two_at_a_time = asyncio.Semaphore(2)

    async def redone(edit: Edit) -> None:
        text = STEPS.replace(edit.old, edit.new) if edit.old else STEPS
        assert (text != STEPS) is bool(edit.old)
        text += "on_fail: destroy\non_pass: destroy\n"
        path = profile(text.replace("test -e /root/fixed", "true")).rename(tmp_path / f"{edit.kind}.yaml")
        async with two_at_a_time:
            words = ("--json", "--set", f"name={edit.kind}", *edit.words)
            said = await vmlab(lab_store, "run", path, *words, KEY="of-a-secret")
        assert said.status == 0, (edit.kind, said.err)
        (run,) = lab_store.runs.glob(f"{edit.kind}-2*")
        names = {one["number"]: one["name"] for one in json.loads((run / "plan.json").read_text())["steps"]}
        reused = [names[step] for step, state in states(said).items() if state == "reused" and step > BOOT]
        (log,) = run.glob("steps/*-third.1.log")
        assert (reused, log.read_text().split()) == (list(edit.reused), edit.log.split()), edit.kind

    async with asyncio.TaskGroup() as group:  # the first that fails ends the others
        for edit in EDITS:
            group.create_task(redone(edit))
    assert await inside(lab_store, evidence, "sudo cat /root/log") == "one\ntwo\na", (
        "the evidence is as it was"
    )
    await end(lab_store, evidence)
