"""Runs in the foreground of a real terminal, on the tiny guest: Ctrl-C, the closed terminal, ssh."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import AtTerminal
from vmlab_tui.base.paths import Store

pytestmark = pytest.mark.guest

PROFILE = """\
schema: 1
name: front
image: tiny
vm: {cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}
steps:
  - name: work
    run: |
      for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done
on_pass: destroy
on_fail: keep
"""


@pytest.fixture
def terminal(tiny_image: str, tmp_path: Path, vmlab: list[str]) -> Iterator[AtTerminal]:
    """A foreground run whose script has begun."""
    profile = tmp_path / "front.yaml"
    profile.write_text(PROFILE)
    made = AtTerminal([*vmlab, "run", str(profile)])
    try:
        made.read_until("| line 2", 120)
        yield made
    finally:
        made.close()


def shown(vmlab: list[str]) -> dict[str, Any]:
    words = ["runs", "show", "last", "--json"]
    done = subprocess.run([*vmlab, *words], capture_output=True, timeout=60, check=True)
    return dict(json.loads(done.stdout))


def test_ctrl_c_ends_by_the_table_and_the_kept_vm_is_ours_to_look_at(
    terminal: AtTerminal, vmlab: list[str], lab_store: Store
) -> None:
    terminal.press(b"\x03")
    terminal.read_until("Ctrl-C again destroys it at once.")
    assert terminal.status(60) == 130
    assert "is kept until" in terminal.text
    run = shown(vmlab)
    assert (run["status"], run["disposition"]) == ("ended", "kept")
    done = subprocess.run(
        [*vmlab, "ssh", "last", "--", "id -un; exit 9"],
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (9, b"lab\n"), done.stderr
    inside = AtTerminal([*vmlab, "ssh", run["vm"]])
    try:
        inside.read_until("$ ", 60)
        inside.press(b"tty; exit 3\n")
        inside.read_until("/dev/pts/", 60)
        assert inside.status() == 3
    finally:
        inside.close()
    subprocess.run([*vmlab, "runs", "end", "last"], check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert list(lab_store.vms.iterdir()) == []


def test_ctrl_c_twice_leaves_nothing(terminal: AtTerminal, vmlab: list[str], lab_store: Store) -> None:
    terminal.press(b"\x03")
    terminal.read_until("Ctrl-C again destroys it at once.")
    terminal.press(b"\x03")
    assert terminal.status(60) == 130
    assert shown(vmlab)["owns"] == []
    assert list(lab_store.vms.iterdir()) == []


def test_a_closed_terminal_does_not_stop_the_run(
    terminal: AtTerminal, vmlab: list[str], lab_store: Store
) -> None:
    terminal.hang_up()
    assert terminal.status() < 0
    limit = time.monotonic() + 60
    while shown(vmlab)["live"]:
        assert time.monotonic() < limit
        time.sleep(0.5)
    run = shown(vmlab)
    assert (run["status"], run["exit"]) == ("passed", 0)
    assert list(lab_store.vms.iterdir()) == []
