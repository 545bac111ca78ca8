"""Looking at runs and following them, from another process, with the test as the run's worker."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminal import AtTerminal
from vmlab_tui.journal.log import read

if TYPE_CHECKING:
    from tests.cli.conftest import MadeRun


def run(vmlab: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*vmlab, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def failed(made_run: MadeRun) -> None:
    made_run.step(1)
    (made_run.folder / "console.log").write_bytes(b"boot\r\nlogin: \x1b[2J\x1b]0;evil\x07\r\n")
    made_run.step(
        10, "failed", "exit status 100\nE: no package", log=b"+ apt-get\n\x1b[31mE: no package xrdp\x1b[0m\n"
    )
    made_run.end("failed", 1, "kept", "2099-01-01T00:00:00+00:00")


def test_the_journal_goes_to_standard_output_as_it_is(
    made_run: MadeRun, vmlab: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with (
        out.open("wb") as file,
        subprocess.Popen(
            [*vmlab, "runs", "wait", made_run.id, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        limit = time.monotonic() + 30
        while not out.read_bytes():
            assert time.monotonic() < limit, "nothing comes before the run has ended"
            time.sleep(0.05)
        made_run.step(1)
        made_run.end()
        _, people = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.read_bytes() == (made_run.folder / "journal.jsonl").read_bytes()
    assert "01 preflight: ok" in people
    assert f"PASSED {made_run.id}" in people


def test_exit_codes_are_those_of_the_run(made_run: MadeRun, vmlab: list[str], tmp_path: Path) -> None:
    (made_run.folder / "junit.xml").write_text("<testsuites/>")
    failed(made_run)
    done = run(vmlab, "runs", "wait", "last", "--junit", str(tmp_path / "out.xml"))
    assert done.returncode == 1
    assert (tmp_path / "out.xml").read_text() == "<testsuites/>"
    assert done.stderr == ""


def test_a_failure_is_on_one_screen(made_run: MadeRun, vmlab: list[str]) -> None:
    failed(made_run)
    done = run(vmlab, "runs", "wait", "last")
    screen = done.stdout[done.stdout.index("\nFAIL") :].splitlines()
    text = "\n".join(screen)
    for told in (
        "FAIL 10 install desktop  1.5s  exit status 100",
        "   | E: no package xrdp",
        "   : login:",
        "VM sample-7f3a is kept until",
        f"vmlab ssh {made_run.id}",
        f"vmlab runs logs {made_run.id}",
        f"vmlab runs end {made_run.id}",
    ):
        assert told in text
    assert len(screen) <= 24
    assert max(map(len, screen)) < 80
    assert "\x1b" not in text


def test_a_dead_worker_is_seen_and_named(made_run: MadeRun, vmlab: list[str]) -> None:
    made_run.write("step_started", number=1, attempt=1)
    made_run.write("intent", what="domain", id="0b0b0b0b")
    made_run.die()
    done = run(vmlab, "runs", "wait", made_run.id)
    assert done.returncode == 4
    assert "INTERRUPTED" in done.stdout
    assert "still there: domain" in done.stdout
    assert f"vmlab runs resume {made_run.id}" in done.stdout
    assert f"vmlab runs end {made_run.id}" in done.stdout
    listed = json.loads(run(vmlab, "runs", "list", "--json").stdout)
    assert [one["status"] for one in listed["runs"]] == ["interrupted"]


def test_show_has_every_step_and_what_is_next(made_run: MadeRun, vmlab: list[str]) -> None:
    failed(made_run)
    done = run(vmlab, "runs", "show", made_run.id[:8])
    assert done.returncode == 0, done.stderr
    for step in made_run.plan.steps:
        assert f"{step.number:02}  {step.name}" in done.stdout
    assert "FAIL" in done.stdout
    data = json.loads(run(vmlab, "runs", "show", "last", "--json").stdout)
    assert [step["state"] for step in data["steps"] if step["state"] != "-"] == ["ok", "failed"]
    assert data["steps"][9]["exit_status"] is None
    assert data["disposition"] == "kept"


def test_logs(made_run: MadeRun, vmlab: list[str]) -> None:
    failed(made_run)
    assert run(vmlab, "runs", "logs", "last").stdout == "+ apt-get\nE: no package xrdp\n"
    assert run(vmlab, "runs", "logs", "last", "10").stdout == "+ apt-get\nE: no package xrdp\n"
    assert run(vmlab, "runs", "logs", "last", "install desktop").stdout.startswith("+ apt-get")
    assert run(vmlab, "runs", "logs", "last", "console").stdout == "boot\nlogin: \n"
    assert json.loads(run(vmlab, "runs", "logs", "last", "--json").stdout)["logs"][0]["text"].startswith(
        "+ apt"
    )
    unclear = run(vmlab, "runs", "logs", "last", "install")
    assert unclear.returncode == 2
    assert "10 install desktop, 11 install rdp" in unclear.stderr
    silent = run(vmlab, "runs", "logs", "last", "1")
    assert silent.returncode == 2
    assert "has printed nothing" in silent.stderr


def test_logs_follow_from_step_to_step_until_the_end(made_run: MadeRun, vmlab: list[str]) -> None:
    made_run.write("step_started", number=10, attempt=1)
    log = made_run.folder / "steps" / made_run.plan.step(10).log_name(1)
    log.write_bytes(b"one\n")
    with subprocess.Popen(
        [*vmlab, "runs", "logs", made_run.id, "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "== 10 install desktop\n"
        assert process.stdout.readline() == "one\n"
        with log.open("ab") as file:
            file.write(b"two\n")
        assert process.stdout.readline() == "two\n"
        made_run.write("step_finished", number=10, attempt=1, state="ok", seconds=1.0)
        made_run.step(11, log=b"three\n")
        assert process.stdout.readline() == "== 11 install rdp\n"
        assert process.stdout.readline() == "three\n"
        made_run.end()
        assert process.stdout.read() == ""
        assert process.wait(30) == 0


def test_ctrl_c_while_waiting_leaves_the_run_alone(made_run: MadeRun, vmlab: list[str]) -> None:
    made_run.write("step_started", number=5, attempt=1)
    terminal = AtTerminal([*vmlab, "runs", "wait", made_run.id])
    try:
        terminal.read_until("05 boot")
        terminal.press(b"\x03")
        terminal.read_until("goes on without you")
        assert terminal.status() == 130
    finally:
        terminal.close()
    assert [event.kind for event in read(made_run.folder / "journal.jsonl")][-1] == "step_started"


def test_a_closed_terminal_ends_the_watching_quietly(made_run: MadeRun, vmlab: list[str]) -> None:
    terminal = AtTerminal([*vmlab, "runs", "wait", made_run.id])
    try:
        terminal.read_until("run sample")
        terminal.hang_up()
        assert terminal.status() == -signal.SIGHUP
    finally:
        terminal.close()
    assert [event.kind for event in read(made_run.folder / "journal.jsonl")][-1] == "worker_started"


@pytest.mark.parametrize("options", [[], ["--connect", "test:///default"]])
def test_without_a_command_at_a_terminal_the_screen_opens(
    vmlab: list[str], options: list[str], made_run: MadeRun
) -> None:
    terminal = AtTerminal([*vmlab, *options])
    try:
        terminal.read_until("[1 Lab]")
        terminal.press(b"q")
        assert terminal.status() == 0
    finally:
        terminal.close()


def test_a_reader_that_leaves_does_not_make_a_run_passed(made_run: MadeRun, vmlab: list[str]) -> None:
    made_run.step(1)
    process = subprocess.Popen(
        [*vmlab, "runs", "wait", made_run.id, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout
        assert process.stdout.readline()
        process.stdout.close()
        made_run.step(2)
        assert process.wait(30) == 130
    finally:
        process.kill()


def test_ending_a_kept_run_asks_at_a_terminal_and_names_what_is_lost(
    made_run: MadeRun, vmlab: list[str]
) -> None:
    failed(made_run)
    disk = made_run.store / "vms" / made_run.plan.vm.uuid / "disk.qcow2"
    disk.parent.mkdir(parents=True)
    disk.touch()
    for answer, status in ((b"n\n", 130), (b"y\n", 0)):
        assert disk.exists()
        terminal = AtTerminal([*vmlab, "runs", "end", "last"])
        try:
            terminal.read_until("Go on? [y/N]")
            assert f"vm-dir {disk.parent}" in terminal.text
            terminal.press(answer)
            assert terminal.status() == status
        finally:
            terminal.close()
    assert not disk.parent.exists()


def test_without_a_terminal_ending_does_as_it_is_told(made_run: MadeRun, vmlab: list[str]) -> None:
    failed(made_run)
    disk = made_run.store / "vms" / made_run.plan.vm.uuid / "disk.qcow2"
    disk.parent.mkdir(parents=True)
    disk.touch()
    done = run(vmlab, "runs", "end", "last", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["disposition"] == "destroyed"
    assert {"what": "file", "id": str(disk)} in data["removed"]
    assert run(vmlab, "ssh", "last").returncode == 2
