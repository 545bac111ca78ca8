"""What really comes back when files go."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmlab_tui.hosts.fork import copy_disk
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.sizes import comes_back, shared_extents, together, weigh

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
    ((of_full,), (of_other,)) = (weigh(facts(path))[1] for path in (full, other))
    assert together([of_full, of_other]) == MIB, "the last of two names takes the blocks along"
    assert together([of_full]) == together([of_full], [of_other]) == 0
    (tmp_path / "link").symlink_to(full)
    assert comes_back(facts(tmp_path / "link")) == 0


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    tool = shutil.which(f"mkfs.{request.param}")
    if tool is None or os.geteuid() != 0:
        pytest.skip(f"needs root, and mkfs.{request.param} (script/bootstrap --dev installs it)")
    disk, place = tmp_path / "disk", tmp_path / "place"
    place.mkdir()
    subprocess.run(["truncate", "-s", "400M", disk], check=True)
    subprocess.run([tool, "-q", disk], check=True, capture_output=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", disk, place], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"{request.param} cannot be mounted here: {mounted.stderr.strip()}")
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
    assert sum(length for _, length in shared_extents(str(one))) == 4 * MIB
    assert comes_back(facts(one)) < MIB
    told = comes_back(facts(two))
    assert MIB <= told < 2 * MIB
    three = sharing / "three"
    subprocess.run(["cp", "--reflink=always", one, three], check=True)
    os.sync()
    shares = [weigh(facts(path))[1] for path in (one, two, three)]
    assert together([*shares[0], *shares[1]], shares[2]) == 0, "the third has them too"
    assert together([*shares[0], *shares[1], *shares[2]]) == 4 * MIB
    assert together(shares[0]) == 0, "whoever has them besides is not known"
    assert 5 * MIB <= comes_back(facts(one, two, three)) < 6 * MIB, "the blocks count once"
    three.unlink()
    os.sync()
    before = free(sharing)
    two.unlink()
    for _ in range(100):
        if (freed := free(sharing) - before) >= told:
            break
        time.sleep(0.1)  # btrfs gives it back with its next transaction
    assert told <= freed < told + MIB


async def test_a_disk_is_copied_without_its_blocks(sharing: Path) -> None:
    one, two = sharing / "one", sharing / "two"
    one.write_bytes(os.urandom(4 * MIB))
    os.sync()
    before = free(sharing)
    await copy_disk(Host("test:///default"), None, one, two)
    assert two.read_bytes() == one.read_bytes()
    os.sync()
    assert sum(length for _, length in shared_extents(str(two))) == 4 * MIB
    assert before - free(sharing) < MIB


def free(place: Path) -> int:
    os.sync()
    facts = os.statvfs(place)
    return facts.f_bfree * facts.f_frsize
