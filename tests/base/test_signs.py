"""What is remembered of files, and what is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vmlab_tui.base import signs
from vmlab_tui.base.signs import Remembered


def look(memory: Remembered[bytes], path: Path) -> tuple[bytes, bool]:
    """Its content by that memory, and whether it was read for it."""
    read = []

    def content() -> bytes:
        read.append(path)
        return path.read_bytes()

    memory.begin()
    return memory.get(str(path), path.stat(), content), bool(read)


@pytest.fixture
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "SETTLED", 50_000_000)


def test_only_what_has_been_left_alone_is_remembered(tmp_path: Path, settled_at_once: None) -> None:
    memory: Remembered[bytes] = Remembered()
    path = tmp_path / "x"
    path.write_bytes(b"one")
    assert look(memory, path) == (b"one", True)
    assert look(memory, path) == (b"one", True), "too young: a change may fall into the same tick"
    time.sleep(0.1)
    assert look(memory, path) == (b"one", True)
    assert look(memory, path) == (b"one", False)
    facts = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert look(memory, path) == (b"two", True), "size and times of content are as before"
    time.sleep(0.1)
    look(memory, path)
    other = tmp_path / "y"
    other.write_bytes(b"abc")
    time.sleep(0.1)
    other.rename(path)
    assert look(memory, path)[0] == b"abc"


def test_what_was_not_asked_for_is_forgotten(tmp_path: Path, settled_at_once: None) -> None:
    memory: Remembered[bytes] = Remembered()
    path = tmp_path / "x"
    path.write_bytes(b"one")
    time.sleep(0.1)
    look(memory, path)
    memory.begin()
    assert look(memory, path)[1]


def test_nothing_of_a_share_is_remembered(
    tmp_path: Path, settled_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "file_systems", lambda: {tmp_path.stat().st_dev: "nfs4"})
    memory: Remembered[bytes] = Remembered()
    path = tmp_path / "x"
    path.write_bytes(b"one")
    time.sleep(0.1)
    look(memory, path)
    assert look(memory, path)[1]


def test_the_kinds_of_file_systems_are_known(tmp_path: Path) -> None:
    assert signs.file_systems()[Path("/proc").stat().st_dev] == "proc"
