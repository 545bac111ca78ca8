"""What really comes back when files go."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmlab_tui.lab.sizes import comes_back, shared_bytes

MIB = 1 << 20


def facts(*paths: Path) -> dict[str, os.stat_result]:
    return {str(path): path.stat() for path in paths}


def test_holes_and_further_names_are_not_counted(tmp_path: Path) -> None:
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    with sparse.open("wb") as file:
        file.truncate(100 * MIB)
    full.write_bytes(os.urandom(MIB))
    assert comes_back(facts(sparse)) < MIB
    assert comes_back(facts(full)) == MIB
    other = tmp_path / "other"
    os.link(full, other)
    assert comes_back(facts(full)) == 0, "it has another name"
    assert comes_back(facts(full, other)) == MIB, "both names go"
    (tmp_path / "link").symlink_to(full)
    assert comes_back(facts(tmp_path / "link")) == 0


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    tool = shutil.which("mkfs.xfs") or shutil.which("mkfs.btrfs")
    if tool is None or os.geteuid() != 0:
        pytest.skip("needs root, and mkfs.xfs or mkfs.btrfs")
    disk, place = tmp_path / "disk", tmp_path / "place"
    place.mkdir()
    subprocess.run(["truncate", "-s", "400M", disk], check=True)
    subprocess.run([tool, disk], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", disk, place], check=False, capture_output=True).returncode:
        pytest.skip("such a file system cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_blocks_shared_with_a_copy_are_not_counted(sharing: Path) -> None:
    one, two = sharing / "one", sharing / "two"
    one.write_bytes(os.urandom(4 * MIB))
    subprocess.run(["cp", "--reflink=always", one, two], check=True)
    with two.open("ab") as file:
        file.write(os.urandom(MIB))
    os.sync()
    assert shared_bytes(str(one)) == 4 * MIB
    assert comes_back(facts(one)) < MIB
    assert MIB <= comes_back(facts(two)) < 2 * MIB
