"""The program as a process: exit codes, streams, quick start-up, and no traceback ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NO_LIBVIRT = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"
PROFILE = "schema: 1\nname: needy\nimage: no-such-image\nrequired: [VMLAB_TEST_A, VMLAB_TEST_B]\n"


def run(vmlab: list[str], *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*vmlab, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("VMLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "needy.yaml").write_text(PROFILE)
    monkeypatch.setenv("VMLAB_NEEDY", str(tmp_path / "needy.yaml"))


def test_exit_0_and_2(vmlab: list[str]) -> None:
    assert run(vmlab, "--version").returncode == 0
    assert run(vmlab, "profile", "check", "quickstart").returncode == 0
    assert run(vmlab, "nonsense").returncode == 2


def test_exit_3_says_all_that_is_missing_at_once_and_touches_nothing(
    vmlab: list[str], tmp_path: Path
) -> None:
    done = run(vmlab, "run", os.environ["VMLAB_NEEDY"], env={"LIBVIRT_DEFAULT_URI": "qemu:///system"})
    assert done.returncode == 3, done.stderr
    assert "VMLAB_TEST_A" in done.stderr
    assert "VMLAB_TEST_B" in done.stderr
    assert "there is no image 'no-such-image'" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "store").exists()


def test_a_plan_is_shown_whole_with_all_that_speaks_against_it(vmlab: list[str], tmp_path: Path) -> None:
    words = ("run", os.environ["VMLAB_NEEDY"], "--plan", "--set", "vm.memory=900000GiB", "--accel", "tcg")
    before = sorted(tmp_path.rglob("*"))
    done = run(vmlab, *words, env={"LIBVIRT_DEFAULT_URI": "qemu:///system"})
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "plan of needy on image no-such-image"
    assert any(line.split()[:2] == ["5", "boot"] for line in lines)
    for told in ("image: there is no image", "variables: 2 variables", "space: ", "memory: the VM wants"):
        (at,) = (at for at, line in enumerate(lines) if f"REFUSED  {told}" in line)
        assert lines[at + 1].startswith("    -> "), lines[at + 1]
    done = run(vmlab, *words, "--json", env={"LIBVIRT_DEFAULT_URI": "qemu:///system"})
    assert done.returncode == 3
    data = json.loads(done.stdout)
    assert (data["refused"], data["build"]) == (True, None)
    assert len(data["plan"]["steps"]) == 14
    bad = {one["what"]: one for one in data["findings"] if one["level"] == "refuse"}
    assert {"image", "variables", "space", "memory"} <= bad.keys()
    assert all(one["fix"] for one in bad.values())
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_built_for_a_run_that_is_refused_all_the_same(
    vmlab: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/made.yaml").write_text("schema: 1\nname: made\nsuite: no-such-suite\n")
    monkeypatch.chdir(tmp_path)
    done = run(vmlab, "run", "needy.yaml", "--image", "made", env={"LIBVIRT_DEFAULT_URI": "qemu:///system"})
    assert done.returncode == 3
    assert "image: there is no image 'made'" in done.stderr
    assert "-> build it: vmlab image build made" in done.stderr
    assert "VMLAB_TEST_A is not set" in done.stderr
    assert not (tmp_path / "store").exists()


def test_exit_4_when_libvirt_does_not_answer(vmlab: list[str]) -> None:
    done = run(vmlab, "ls", env={"LIBVIRT_DEFAULT_URI": NO_LIBVIRT})
    assert done.returncode == 4
    assert done.stderr.startswith("vmlab: ")
    assert "-> " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_without_arguments_and_terminal_it_runs_quickstart(vmlab: list[str]) -> None:
    bare = run(vmlab, env={"LIBVIRT_DEFAULT_URI": NO_LIBVIRT})
    told = run(vmlab, "run", "quickstart", env={"LIBVIRT_DEFAULT_URI": NO_LIBVIRT})
    assert (bare.returncode, bare.stderr) == (told.returncode, told.stderr)
    assert bare.returncode == 4


def test_an_unknown_store_of_nothing_is_empty(vmlab: list[str]) -> None:
    done = run(vmlab, "runs", "list", "--json")
    assert (done.returncode, json.loads(done.stdout)["runs"]) == (0, [])


def test_help_is_quick_because_it_imports_little() -> None:
    code = (
        "import sys\n"
        "from vmlab_tui.cli.app import run\n"
        "try: run(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'libvirt', 'asyncssh', 'pydantic', 'yaml', 'textual', 'pycdlib', 'asyncio'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stdout[-200:]


def test_a_closed_pipe_is_no_error(vmlab: list[str]) -> None:
    line = " ".join(f"'{word}'" for word in vmlab)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} profile schema | true"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_bug_is_one_line_and_its_details_are_in_a_file(vmlab: list[str], tmp_path: Path) -> None:
    code = (
        "from vmlab_tui.cli import app\n"
        "from vmlab_tui.verbs.vms import Ls\n"
        "async def broken(self, ctx, args): raise ZeroDivisionError('by design')\n"
        "Ls.run = broken\n"
        "app.run(['ls'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert done.stderr.splitlines()[0] == "vmlab: internal error: ZeroDivisionError: by design"
    assert "Traceback" not in done.stderr
    assert "by design" in (tmp_path / "cache" / "last-error.txt").read_text()


def test_a_full_disk_is_said_plainly(vmlab: list[str]) -> None:
    done = subprocess.run(
        ["bash", "-c", " ".join(f"'{word}'" for word in vmlab) + " profile schema > /dev/full"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 4
    assert done.stderr.startswith("vmlab: No space left on device"), done.stderr


def test_ls_marks_foreign_vms(vmlab: list[str]) -> None:
    driver = {"LIBVIRT_DEFAULT_URI": "test:///default"}  # libvirt's own test driver: one domain, called test
    rows = run(vmlab, "ls", env=driver).stdout.splitlines()
    assert rows[0].split() == ["vm", "power", "size", "ssh", "lease", "run"]
    assert rows[1].split() == ["test", "on", "-", "-", "foreign", "-"]
    (found,) = json.loads(run(vmlab, "ls", "--json", env=driver).stdout)["vms"]
    assert (found["name"], found["foreign"], found["run"]) == ("test", True, None)
    assert run(vmlab, "ls", "--own", env=driver).stdout.startswith("no VMs of ours on test:///default")
