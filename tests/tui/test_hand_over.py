"""The terminal in another program's hands: what happens to it meanwhile, vmlab makes good."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.tui.run_samples import MadeRun
from tests.tui.tmux import Tmux, vmlab
from vmlab_tui.base.paths import is_locked
from vmlab_tui.journal.cache import load_state


def processes(store: Path) -> set[int]:
    """Those that were started with this store: vmlab, and what it handed the terminal to."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                there = f"VMLAB_STORE={store}\0".encode() in (folder / "environ").read_bytes()
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if there and words and not words.startswith(b"tmux"):
                found.add(int(folder.name))
    return found


def whole(term: Tmux, columns: int, rows: int) -> None:
    """Wait until vmlab's run screen fills the terminal of this size."""
    shown = term.sees("? keys").split("\n")
    limit = time.monotonic() + 20
    while True:
        lines = term.screen().rstrip("\n").split("\n")
        if len(lines) == rows and "? keys" in lines[-1] and lines[0].startswith(" Run sample"):
            break
        assert time.monotonic() < limit, shown
        time.sleep(0.1)
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("size", [(120, 40), (60, 15)])
def test_resized_and_closed_while_another_program_has_it(
    made: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    pager = tmp_path / "pager"
    pager.write_text(
        "#!/bin/sh\nexec </dev/tty\nstty size\necho it is mine\nread answer\nstty size\nexit 3\n"
    )
    pager.chmod(0o755)
    monkeypatch.setenv("PAGER", str(pager))
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setenv("TMPDIR", str(copies))
    made.steps(1, 9)
    made.begin(10, log=b"something to read\n")
    before = load_state(made.folder).seq
    with vmlab() as term:
        term.sees("1 running")
        term.press("2", "sample")
        term.press("Enter", "10  install desktop")
        term.press("o", "it is mine")
        term.resize(*size)
        time.sleep(0.5)
        term.keys("Enter")
        whole(term, *size)
        term.press("Down", "Run sample")
        whole(term, *size)
        term.press("o", "it is mine")
        assert processes(made.store)
        (copy,) = copies.glob("vmlab-*.log")
        assert copy.stat().st_mode & 0o777 == 0o600
    # the terminal is gone
    limit = time.monotonic() + 20
    while left := processes(made.store):
        assert time.monotonic() < limit, left
        time.sleep(0.1)
    assert not list(copies.iterdir())
    assert is_locked(made.folder / "lock")
    assert load_state(made.folder).seq == before, "the run was told nothing"
