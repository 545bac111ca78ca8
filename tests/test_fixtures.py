"""The fixtures themselves: what they promise to the rooms' tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import forked, leftovers
from tests.support.lab import Vm
from vmlab_tui.base.paths import Store
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.ssh import connect
from vmlab_tui.images.store import get_image, image_file, sha256_of


async def _said(endpoint: Endpoint, command: str, user: str = "root") -> str:
    async with connect(endpoint, timeout=60) as guest:
        done = await guest.execute(command, user=user, timeout=60)
        assert done.status == 0, done
        return done.out.decode()


@pytest.mark.guest
async def test_each_test_gets_a_tiny_guest_of_its_own(tiny_guest: Endpoint, tiny_template: Vm) -> None:
    assert tiny_guest.port != tiny_template.endpoint.port
    assert await _said(tiny_guest, "id -un; touch /root/mark") == "root\n"
    assert await _said(tiny_guest, "id -un", "lab") == "lab\n"


@pytest.mark.guest
async def test_a_fork_has_nothing_of_the_one_before(tiny_guest: Endpoint) -> None:
    assert await _said(tiny_guest, "ls /root") == ""


@pytest.mark.guest
def test_the_debian_template_is_a_quickstart_that_passed(debian_template: Vm) -> None:
    (folder,) = debian_template.store.runs.glob("quickstart-*")
    assert (folder / "report.md").read_text().startswith("# PASSED: quickstart")
    assert "hello" in (folder / "artifacts/srv/www/index.html").read_text()


@pytest.mark.guest
async def test_the_debian_template_is_past_cloud_init(template: Endpoint) -> None:
    assert "done" in await _said(template, "cloud-init status")
    assert await _said(template, "id -un", "lab") == "lab\n"


def test_an_image_in_the_lab_store_is_whole(lab_store: Store, tiny_image: str) -> None:
    image = get_image(lab_store, tiny_image)
    assert sha256_of(image_file(lab_store, image)) == image.digest
    assert image_file(lab_store, image).stat().st_mode & 0o777 == 0o444


def test_the_last_look_finds_a_detached_process_and_a_file() -> None:
    before = leftovers.look()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    stray = Path("/var/tmp/vmlab-test-stray")
    stray.touch()
    try:
        left = leftovers.look().more_than(before)
        assert any(line.startswith(f"processes: {sleeper.pid} ") for line in left)
        assert f"files: {stray}" in left
        assert any(line.startswith(f"{sleeper.pid} ") for line in leftovers.own_processes())
    finally:
        sleeper.kill()
        sleeper.wait()
        stray.unlink()


@pytest.mark.parametrize(
    "words", [("runs", "list", "--json"), ("profile", "check", "none.yaml"), ("bogus",), ("--help",)]
)
def test_a_forked_command_is_like_one_with_an_interpreter_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.yaml").write_text("schema: 1\nname: [x]\n")
    there = {"VMLAB_STORE": str(tmp_path / "store")}
    own = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", *words], env={**os.environ, **there}, capture_output=True
    )
    done = forked.run(*words, env=there)
    assert (done.returncode, done.stdout, done.stderr) == (own.returncode, own.stdout, own.stderr)
    assert done.stdout or done.stderr


def test_a_forked_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    # waits for the other end of the pipe, for ever
    pipe = tmp_path / "profile.yaml"
    os.mkfifo(pipe)
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run("profile", "check", pipe, timeout=1)
    forked.stop()
    assert leftovers.own_processes() == []
