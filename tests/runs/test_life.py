"""Whole runs on a real guest, through the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.runs.command import only_run, vmlab
from vmlab_tui.base.paths import Store
from vmlab_tui.base.picture import decode

pytestmark = pytest.mark.guest

BASE = """\
schema: 1
name: life
image: tiny
vm: {cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}
"""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def profile(tiny_image: str, tmp_path: Path) -> Any:
    """Writes a profile with these lines after the usual head; returns its path."""

    def write(text: str, head: str = BASE) -> Path:
        path = tmp_path / "profile.yaml"
        path.write_text(head.replace("image: tiny\n", f"image: {tiny_image}\n") + text)
        return path

    return write


def domains(store: Store) -> list[str]:
    """Names of the domains whose XML names this store."""
    words = ["virsh", "-q", "-c", "qemu:///system"]
    names = subprocess.run([*words, "list", "--all", "--name"], capture_output=True, text=True).stdout.split()
    xml = {
        name: subprocess.run([*words, "dumpxml", name], capture_output=True, text=True).stdout
        for name in names
    }
    return [name for name in names if str(store.root) in xml[name]]


async def test_a_run_that_passes_leaves_a_report_and_nothing_else(lab_store: Store, profile: Any) -> None:
    path = profile(
        """\
env: {WORD: "it's $HOME"}
steps:
  - name: write
    component: words
    run: printf '%s\\n' "$WORD" > /root/word
  - reboot: true
  - {name: again, run: "echo up | tee /root/up", component: words}
checks:
  - {command: "test ! -e /root/word", component: words}
artifacts: [/root/up]
"""
    )
    said = await vmlab(lab_store, "run", path, "--json", "--junit", path.parent / "out.xml")
    assert said.status == 0, said.err
    folder = only_run(lab_store)
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert said.events == journal
    text = (folder / "report.md").read_text()
    assert text.startswith("# PASSED: life")
    assert "| words | PASSED |" in text
    assert "steps/10-write.1.log" not in text
    assert (folder / "steps/12-again.1.log").read_text() == "up\n"
    assert "tiny: ready" in (folder / "console.log").read_text()
    report = json.loads((folder / "report.json").read_text())
    pictures = [decode((folder / one["file"]).read_bytes()) for one in report["screens"]]
    assert [(one.width, one.height) for one in pictures][-1] == (720, 400)
    assert 0 <= report["screens"][0]["after_boot"] <= report["screens"][-1]["after_boot"]
    assert f"(screens/{Path(report['screens'][0]['file']).name})" in text
    assert "screen while it booted: " in (await vmlab(lab_store, "runs", "show", "last")).out
    assert (folder / "artifacts/root/up").read_text() == "up\n"
    suite = ET.parse(path.parent / "out.xml").getroot()[0]
    assert suite.get("failures") == "0"
    assert domains(lab_store) == []
    assert list(lab_store.vms.iterdir()) == []
    assert json.loads(lab_store.ports.read_text())["ports"] == {}
    assert [one for one in folder.rglob("*") if one.is_file() and one.stat().st_mode & 0o077] == []


async def test_a_failing_step_keeps_the_vm_for_a_look(lab_store: Store, profile: Any) -> None:
    path = profile(
        "steps:\n  - {name: broken, run: 'echo before >/root/x; echo no such thing >&2; exit 7'}\n"
    )
    said = await vmlab(lab_store, "run", path)
    assert said.status == 1
    assert "start: cold: boots from the image; step 10 'broken': no VM of an earlier run" in said.err
    shown = said.out + said.err
    assert "broken" in shown
    assert "exited with 7" in shown
    assert "no such thing" in shown
    run = only_run(lab_store)
    report = (run / "report.md").read_text()
    assert report.startswith("# FAILED: life")
    assert "step 'broken' exited with 7" in report
    assert "kept until" in report
    assert len(domains(lab_store)) == 1
    inside = await vmlab(lab_store, "ssh", run.name, "--", "sudo", "cat", "/root/x")
    assert (inside.status, inside.out.strip()) == (0, "before")
    listed = await vmlab(lab_store, "runs", "list", "--json")
    assert "failed" in listed.out
    ended = await vmlab(lab_store, "runs", "end", run.name, "--yes")
    assert ended.status == 0, ended.err
    assert domains(lab_store) == []
    assert list(lab_store.vms.iterdir()) == []


async def test_all_missing_variables_are_named_at_once(lab_store: Store, profile: Any) -> None:
    path = profile("required: [GITHUB_TOKEN, REGION]\nsecret: [GITHUB_TOKEN]\n")
    said = await vmlab(lab_store, "run", path)
    assert said.status == 3
    assert "GITHUB_TOKEN" in said.err
    assert "REGION" in said.err
    assert not lab_store.runs.is_dir() or list(lab_store.runs.iterdir()) == []
    on_argv = await vmlab(lab_store, "run", path, "--env", "GITHUB_TOKEN=hunter2hunter2")
    assert on_argv.status == 2
    assert "hunter2" not in on_argv.err


async def test_a_secret_reaches_the_step_and_nothing_that_is_kept(lab_store: Store, profile: Any) -> None:
    secret = "s3cr3t-Zq81/+=x"
    path = profile(
        """\
required: [TOKEN]
secret: [TOKEN]
steps:
  - name: use
    run: |
      test "$TOKEN" = "$(printf 's3cr3t-%s' 'Zq81/+=x')"
      echo "$TOKEN"
      echo "$TOKEN" > /dev/console
      false
"""
    )
    said = await vmlab(lab_store, "run", path, "--env", "TOKEN", "--on-fail", "destroy", TOKEN=secret)
    assert said.status == 1
    folder = only_run(lab_store)
    assert "[masked]" in (folder / "steps/10-use.1.log").read_text()
    for file in folder.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    assert secret not in said.out + said.err


async def test_a_guest_that_never_answers_names_the_stage_it_reached(lab_store: Store, profile: Any) -> None:
    blank = lab_store.root / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", blank, "16M"], check=True)
    added = await vmlab(lab_store, "image", "add", blank, "--name", "blank")
    assert added.status == 0, added.err
    path = profile("boot_timeout: 8s\non_fail: destroy\n", BASE.replace("tiny", "blank"))
    said = await vmlab(lab_store, "run", path, "--json")
    assert said.status == 4
    failed = next(
        one for one in said.events if one["kind"] == "step_finished" and one["data"]["state"] == "failed"
    )
    detail = failed["data"]["detail"]
    assert "no SSH login within 8 s" in detail
    assert "stage" in detail
    assert re.search(r"Boot|SeaBIOS|boot", detail), detail


async def test_two_runs_at_once_do_not_meet(lab_store: Store, profile: Any) -> None:
    path = profile("ports: {web: 80}\nsteps:\n  - {name: id, run: 'hostname; sleep 2'}\n")
    both = await asyncio.gather(*(vmlab(lab_store, "run", path, "--json") for _ in range(2)))
    assert [one.status for one in both] == [0, 0], [one.err for one in both]
    names = {(folder / "steps/10-id.1.log").read_text() for folder in lab_store.runs.iterdir()}
    assert len(names) == 2


async def test_control_bytes_of_a_guest_reach_no_screen_and_no_report(lab_store: Store, profile: Any) -> None:
    path = profile(
        r"""
steps:
  - name: paint
    run: |
      printf '\033]0;owned\007\033[2J\033[31mred\033[0m \302\233K \342\200\256 \233 end\n'
      printf '\033[5n\016broken\017\n' >&2
      printf 'x\033]52;c;aGk=\007y' > /proc/sys/kernel/hostname
      hostname > /dev/console
      exit 3
checks:
  - {command: "printf '\\033[2J'; false"}
on_fail: destroy
"""
    )
    said = await vmlab(lab_store, "run", path)
    assert said.status == 1
    folder = only_run(lab_store)
    assert b"\x1b]0;owned\x07" in next(folder.glob("steps/10-*.log")).read_bytes()
    for text in (
        said.out,
        said.err,
        *((folder / name).read_text() for name in ("report.md", "report.json", "junit.xml")),
    ):
        found = CONTROL.search(text)
        assert not found, text[max(0, found.start() - 80) : found.end() + 20].encode()
    for command in (("runs", "logs", folder.name), ("runs", "show", folder.name), ("runs", "list")):
        shown = await vmlab(lab_store, *command)
        found = CONTROL.search(re.sub(r"\x1b\[[0-9;]*m", "", shown.out))
        assert not found, (command, shown.out)


async def test_a_run_is_ended_by_its_worker_when_asked(lab_store: Store, profile: Any) -> None:
    path = profile("steps:\n  - {name: long, run: 'sleep 300'}\non_fail: destroy\n")
    started = await vmlab(lab_store, "run", path, "--detach", "--json")
    run = started.data["run"]
    journal = lab_store.run(run) / "journal.jsonl"
    async with asyncio.timeout(120):
        while '"number":10' not in journal.read_text():
            await asyncio.sleep(0.2)
    ended = await vmlab(lab_store, "runs", "end", run, "--yes")
    assert ended.status == 0, ended.err
    waited = await vmlab(lab_store, "runs", "wait", run)
    assert waited.status == 130
    assert domains(lab_store) == []


@pytest.mark.parametrize("moment", ["lease.extended", "before-ended"])
async def test_a_wish_that_comes_too_late_for_the_worker_is_carried_out(
    lab_store: Store, profile: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = profile("steps:\n  - {name: fails, run: 'exit 3'}\non_fail: keep\n")
    monkeypatch.setenv("VMLAB_FAULT", f"{moment}:stop")
    run = (await vmlab(lab_store, "run", path, "--detach", "--json")).data["run"]
    monkeypatch.delenv("VMLAB_FAULT")
    async with asyncio.timeout(120):
        while not (worker := stopped_worker(lab_store.run(run))):
            await asyncio.sleep(0.1)
    ending = asyncio.create_task(vmlab(lab_store, "runs", "end", run, "--destroy", "--yes"))
    await asyncio.sleep(2)
    os.kill(worker, signal.SIGCONT)
    ended = await ending
    assert ended.status == 0, ended.err
    assert domains(lab_store) == []
    assert list(lab_store.vms.iterdir()) == []


def stopped_worker(folder: Path) -> int | None:
    """The pid of the run's worker once it has stopped itself."""
    for line in (folder / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "worker_started":
            pid = int(event["data"]["pid"])
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            return pid if state == "T" else None
    return None


async def test_ctrl_c_asks_the_worker_and_a_closed_terminal_does_not(lab_store: Store, profile: Any) -> None:
    path = profile("steps:\n  - {name: long, run: 'sleep 300'}\non_fail: destroy\n")

    async def begun() -> tuple[asyncio.subprocess.Process, Path]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vmlab_tui", "run", path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(120):
            while True:
                for folder in lab_store.runs.glob("life-*"):
                    journal = folder / "journal.jsonl"
                    text = journal.read_text() if journal.exists() else ""
                    if '"number":10' in text and '"ended"' not in text:
                        return process, folder
                await asyncio.sleep(0.2)

    process, folder = await begun()
    process.send_signal(signal.SIGHUP)
    await process.wait()
    await asyncio.sleep(0.5)
    live = await vmlab(lab_store, "runs", "show", folder.name, "--json")
    assert (live.data["status"], live.data["live"]) == ("running", True)
    await vmlab(lab_store, "runs", "end", folder.name, "--yes")
    await vmlab(lab_store, "runs", "wait", folder.name)

    process, folder = await begun()
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 60) == 130
    assert '"kind":"ended"' in (folder / "journal.jsonl").read_text()
    assert domains(lab_store) == []


async def test_the_time_limit_of_a_step_and_of_a_run(lab_store: Store, profile: Any) -> None:
    path = profile("steps:\n  - {name: slow, run: 'sleep 300', timeout: 2s}\non_fail: destroy\n")
    said = await vmlab(lab_store, "run", path)
    assert said.status == 1
    assert "its time limit" in said.out + said.err
    path = profile("steps:\n  - {name: slow, run: 'sleep 300'}\nmax_duration: 30s\non_fail: destroy\n")
    said = await vmlab(lab_store, "run", path)
    assert said.status == 1
    assert "max_duration" in said.out + said.err


async def test_a_check_that_fails_is_named_and_the_others_are_made(lab_store: Store, profile: Any) -> None:
    path = profile(
        """\
checks:
  - {file: /no/such/file, component: files}
  - {command: "echo yes", expect: "yes", component: words}
on_fail: destroy
"""
    )
    said = await vmlab(lab_store, "run", path)
    assert said.status == 1
    report = (only_run(lab_store) / "report.md").read_text()
    assert "| files | FAILED |" in report
    assert "| words | PASSED |" in report


# as Debian's writes it; that it does is seen where one boots (tests/lab/test_forks.py)
_ERROR = "('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"


async def test_an_error_of_cloud_init_fails_the_run(lab_store: Store, profile: Any) -> None:
    result = json.dumps({"v1": {"datasource": "DataSourceNoCloud", "errors": [_ERROR]}})
    seed = json.dumps([f"mkdir /run/cloud-init; echo {shlex.quote(result)} >/run/cloud-init/result.json"])
    path = profile("cloud_init: {bootcmd: " + seed + "}\nsteps: [{run: echo never}]\non_fail: destroy\n")
    said = await vmlab(lab_store, "run", path)
    assert said.status == 1, said.out + said.err
    assert _ERROR in said.out + said.err
    assert "cloud-init.log" in said.out + said.err
    folder = only_run(lab_store)
    assert "cloud-init" in (folder / "report.md").read_text()
    assert not list(folder.glob("steps/*"))
