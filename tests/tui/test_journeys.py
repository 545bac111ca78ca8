"""What people do with it, from one key to the next, on real VMs in a real terminal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tui.tmux import vmlab
from vmlab_tui.base.paths import Store

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux on this machine"),
]

HEAD = """\
schema: 1
name: journey
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
"""


def start_run(term: object, path: Path) -> None:
    """From the Lab area through the New-run screen to a run's own screen."""
    from tests.tui.tmux import Tmux

    assert isinstance(term, Tmux)
    term.press("n", "New run")
    term.keys(str(path))
    term.sees("journey")
    term.press("C-s", "[2 settings]")
    term.press("C-s", "preflight", 60)
    term.press("C-s", "Run journey-")


def test_from_a_failing_run_into_the_vm_and_back(tiny_image: str, tmp_path: Path, lab_store: Store) -> None:
    path = tmp_path / "fails.yaml"
    path.write_text(
        HEAD.format(image=tiny_image) + "steps:\n  - name: breaks\n    run: |\n      echo about to break\n"
        "      echo 'E: no such thing' >&2\n      exit 3\non_fail: keep\n"
    )
    with vmlab() as term:
        term.sees("tiny")
        start_run(term, path)
        shown = term.sees("FAILED", 120)
        # all that is needed stands on one screen of 80x24
        assert "E: no such thing" in shown
        assert "ssh" in shown
        term.press("s", "step 10 'breaks' exited with 3: exit 3", 60)
        term.keys("echo in-the-guest-$((40+2)) $(id -un) $VMLAB_STEP", "Enter")
        term.sees("in-the-guest-42 root 10")
        term.keys("exit", "Enter")
        shown = term.sees("E: no such thing")
        assert "in-the-guest-42" not in shown
        assert "FAILED" in shown
        term.press("X", "This is lost")
        term.press("y", "removed")
    assert list(lab_store.vms.iterdir()) == []


def test_a_run_goes_on_without_us_and_is_found_again(
    tiny_image: str, tmp_path: Path, lab_store: Store
) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(
        HEAD.format(image=tiny_image)
        + "steps:\n  - name: long\n    run: for i in $(seq 1 25); do echo line $i; sleep 1; done\n"
    )
    with vmlab() as first:
        first.sees("tiny")
        start_run(first, path)
        first.sees("running 10 long", 120)
        first.press("Enter", "line 2")
        first.keys("Escape")
        shown = first.press("q", "exit 0.")
        assert "goes on without" in shown
    with vmlab(120, 30) as again, vmlab() as other:
        again.sees("1 running")
        again.press("2", "running")
        again.press("Enter", "Run journey-")
        other.press("2", "journey-")
        other.press("Enter", "Run journey-")
        again.sees("line 20", 60)
        again.sees("PASSED", 60)
        other.sees("PASSED", 5)
        other.press("q", "exit 0.")
    assert list(lab_store.vms.iterdir()) == []
