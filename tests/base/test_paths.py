"""Paths stay under their root, files are whole or old, locks tell the living from the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import (
    Locked,
    Store,
    cache_dir,
    config_dir,
    default_store,
    is_locked,
    locked,
    shipped,
    under,
    write_durably,
)


@pytest.mark.parametrize(
    "parts", [("..",), ("a", "..", ".."), ("/etc/passwd",), ("",), (".",), ("a", "/etc")]
)
def test_a_path_that_leaves_its_root_is_refused(tmp_path: Path, parts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="outside"):
        under(tmp_path, *parts)


def test_a_symlink_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "x")
    with pytest.raises(UsageError):
        under(root, "out", "file")
    assert under(root, "in") == root / "x"


@given(st.lists(st.sampled_from(["a", "..", ".", "b/c", "../..", "/", "a/../../b"]), max_size=6))
def test_under_never_leaves(parts: list[str]) -> None:
    root = Path("/nonexistent/root")
    try:
        path = under(root, *parts)
    except UsageError:
        return
    assert path.is_relative_to(root) and path != root and ".." not in path.parts


def test_ids_become_paths_only_inside_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.vm("u-1") == tmp_path / "vms" / "u-1"
    assert store.run("r-1") == tmp_path / "runs" / "r-1"
    with pytest.raises(UsageError):
        store.vm("../images")
    with pytest.raises(UsageError):
        store.run("")


def test_which_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VMLAB_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_store("qemu:///system").root == Path("/var/lib/vmlab")
    assert default_store("qemu:///session").root == tmp_path / "vmlab"
    monkeypatch.setenv("VMLAB_STORE", "rel")
    assert default_store("qemu:///system").root == Path.cwd() / "rel"


def test_folders_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_CONFIG", "/x/config")
    monkeypatch.setenv("VMLAB_CACHE", "/x/cache")
    assert (config_dir(), cache_dir()) == (Path("/x/config"), Path("/x/cache"))
    assert shipped().is_dir()


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444])
def test_write_durably_replaces_with_the_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    write_durably(path, "new é", mode=mode)
    assert path.read_text() == "new é"
    assert path.stat().st_mode & 0o7777 == mode
    write_durably(path, b"\xff")
    assert path.read_bytes() == b"\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from vmlab_tui.base.paths import write_durably
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
write_durably(Path(sys.argv[1]), "much more than ten bytes")
"""
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, timeout=60, check=False)
    assert b"File too large" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_while_writing_there_is_always_a_whole_file(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from vmlab_tui.base.paths import write_durably
number = 0
while True:
    number += 1
    write_durably(Path(sys.argv[1]), f"{number}\\n" * 20_000)
    print(number, flush=True)
"""
    path = tmp_path / "file"
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _line in range(5):
                process.stdout.readline()
            process.kill()
        lines = path.read_text().splitlines()
        assert len(lines) == 20_000 and len(set(lines)) == 1


HOLDER = """
import sys
from pathlib import Path
from vmlab_tui.base.paths import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_seen_by_others_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists(), "asking creates nothing"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_locked(path)
        with pytest.raises(Locked, match="held by another process"), locked(path, wait=False):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not is_locked(path)
    with locked(path, wait=False):
        assert is_locked(path)
    assert not is_locked(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "lock"):
        raise RuntimeError
    assert not is_locked(tmp_path / "lock")
