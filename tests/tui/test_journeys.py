"""What people do with it, from one key to the next, on real VMs in a real terminal."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
        term.press("c", "Ctrl-] leaves --", 60)
        term.press("C-]", "E: no such thing")
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


def test_a_failure_is_found_in_the_guest_fixed_by_keys_and_passes_from_nothing(
    tiny_image: str, tmp_path: Path, lab_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "debug.yaml"
    path.write_text(
        HEAD.format(image=tiny_image)
        + """\
steps:
  - {name: one, run: "true"}
  - {name: settings, run: echo MODE=prod > /root/settings}   # what the guest really has
  - {name: three, run: "true", checkpoint: true}
  - name: use
    # the bug is in here
    run: |
      echo seen >> /root/seen
      . /root/settings
      test "$MODE" = production
checks:
  - {command: wc -l < /root/seen, expect: "1"}
"""
    )
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nexec sed -i s/production/prod/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    with vmlab() as term:
        term.sees("tiny")
        start_run(term, path)
        shown = term.sees("PAUSED", 120)
        assert "b back+retry" in shown
        term.press("s", "13 'use' exited with 1", 60)
        term.keys("cat /root/settings", "Enter")
        term.sees("MODE=prod")
        term.keys("exit", "Enter")
        term.sees("PAUSED")
        # edited and tried in place: the guest still has what the first attempt left in it
        shown = term.press("e", "again with this text?", 30)
        assert '+test "$MODE" = prod' in shown
        term.press("y", "Write the new text back")
        term.keys("y")
        term.sees("paused at 14 checks", 60)
        # so back to before the step, which has the new text
        term.keys("b")
        term.sees("PASSED", 90)
        term.press("q", "exit 0.")
    text = path.read_text()
    assert "# what the guest really has" in text
    assert "    # the bug is in here\n" in text
    assert '      test "$MODE" = prod\n' in text
    cold = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "run", path, "--cold"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert cold.returncode == 0, cold.stderr
    assert list(lab_store.vms.iterdir()) == []
