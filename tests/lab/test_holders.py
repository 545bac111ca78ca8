"""Who has a file open: by the kernel's word for few files, by a list of processes for many."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmlab_tui.lab.holders import _lives, ask_kernel, who_holds

MAPPED = (
    "import ctypes, os; size = ctypes.c_size_t\n"
    "call = ctypes.CDLL(None).mmap; call.restype = ctypes.c_void_p\n"
    "assert call(None, size(4096), 1, 2, 0, size(0)) != size(-1).value; os.close(0)"
)
"""Maps standard input and closes it; Python's own mmap would keep it open."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(8192))
    return path


def alone(*paths: Path) -> bool:
    return ask_kernel({str(path): path.stat() for path in paths}).free


@contextmanager
def another(file: Path, mode: str) -> Iterator[None]:
    with file.open(mode) as handle:
        process = subprocess.Popen(["sleep", "60"], stdin=handle)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def reading(file: Path) -> Iterator[None]:
    with another(file, "rb"):
        yield


@contextmanager
def writing(file: Path) -> Iterator[None]:
    with another(file, "r+b"):
        yield


@contextmanager
def python(file: Path, words: str) -> Iterator[None]:
    """A process that has ``file`` as its standard input and has done that with it."""
    with file.open("rb") as handle:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{words}\nimport time; print(flush=True); time.sleep(60)"],
            stdin=handle,
            stdout=subprocess.PIPE,
        )
    assert process.stdout
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def mapped(file: Path) -> Iterator[None]:
    with python(file, MAPPED):
        assert not who_holds({(file.stat().st_dev, file.stat().st_ino)}).found, (
            "a list of open files shows none"
        )
        yield


@contextmanager
def leased(file: Path) -> Iterator[None]:
    with python(file, "import fcntl; fcntl.fcntl(0, fcntl.F_SETLEASE, fcntl.F_RDLCK)"):
        yield


@contextmanager
def loop(file: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    made = subprocess.run(["losetup", "-r", "-f", "--show", file], capture_output=True, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


@pytest.mark.parametrize("way", [reading, writing, mapped, leased, loop])
def test_a_file_in_use_is_not_nobodys(file: Path, way: Callable[[Path], Iterator[None]]) -> None:
    assert alone(file)
    with way(file):  # type: ignore[attr-defined]
        assert not alone(file)
    assert alone(file)


def test_by_another_name_it_is_the_same_file(file: Path) -> None:
    other = file.with_name("other")
    os.link(file, other)
    with reading(other):
        assert not alone(file)


def test_what_is_not_the_file_that_was_seen_is_not_vouched_for(file: Path, tmp_path: Path) -> None:
    seen = {str(file): file.stat()}
    file.rename(tmp_path / "away")
    assert not ask_kernel(seen).sure
    file.write_bytes(b"x")
    assert not ask_kernel(seen).sure
    link = tmp_path / "link"
    link.symlink_to(file)
    assert not alone(link)
    os.mkfifo(tmp_path / "pipe")
    assert not alone(tmp_path / "pipe")


def test_what_this_process_itself_has_open_does_not_count(file: Path) -> None:
    with file.open("rb"):
        assert alone(file)
        with reading(file):
            assert alone(file), "whose it is the list of processes tells"


def test_processes_are_named(file: Path) -> None:
    facts = file.stat()
    with reading(file):
        found = who_holds({(facts.st_dev, facts.st_ino)}).found
    assert [holder.who.split()[0] for holder in found] == ["sleep"]


def test_a_process_that_has_ended_hides_nothing(file: Path) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not _lives(str(process.pid)), "it waits to be reaped"
    process.wait()
    assert not _lives(str(process.pid))
    assert _lives(str(os.getpid()))
