"""A growing file by line numbers: the same lines as reading it whole, whatever is written and whenever."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmlab_tui.tui.logs import files
from vmlab_tui.tui.logs.source import FileSource
from vmlab_tui.tui.logs.tidy import COLUMNS, unstyled

PIECES = [b"a", b"line\n", b"\n", b"\n\n\n", b"x" * 50, b"y" * 300 + b"\n", "é漢".encode(), b" ", b"z" * 900]


def caught_up(source: FileSource) -> FileSource:
    while source.poll():
        pass
    return source


def texts(source: FileSource, first: int = 0, count: int = 1 << 30) -> list[str]:
    return [unstyled(line.text) for line in source.read(first, count)]


def expected(data: bytes) -> list[str]:
    lines = data.split(b"\n")
    return [line.decode()[:COLUMNS] for line in (lines[:-1] if not lines[-1] else lines)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), min_size=1, max_size=8),
    st.integers(0, 60),
    st.integers(1, 30),
)
@example([b"a" * 64, b"\n" * 64, b"b"], 60, 10)
@example([b"", b"\n"], 0, 1)
def test_lines_are_those_of_the_whole_file(chunks: list[bytes], first: int, count: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(files, "BLOCK", 64)
        patch.setattr(files, "_TAKE", 96)
        patch.setattr(files, "_SCAN", 1024)
        path = Path(folder, "log")
        source = FileSource(path)
        written = b""
        for chunk in chunks:
            with path.open("ab") as log:
                log.write(chunk)
            written += chunk
            caught_up(source)
            lines = expected(written)
            assert source.count == len(lines)
            assert source.stable == written.count(b"\n")
            assert texts(source) == lines
            assert texts(source, first, count) == lines[first : first + count]
            scanned = [
                (number + at, line[:1000])
                for number, block in source.scan(first)
                for at, line in enumerate(block.split("\n"))
            ]
            assert scanned == [(at, line[:1000]) for at, line in enumerate(lines)][first:]
            assert source.generation == 0


def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "log")
    assert not source.poll()
    assert source.count == 0
    assert source.read(0, 10) == []
    (tmp_path / "log").write_bytes(b"one\ntw")
    caught_up(source)
    assert texts(source) == ["one", "tw"]


def test_the_line_in_the_making_grows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    source = caught_up(FileSource(path))
    assert (source.count, source.stable) == (2, 1)
    before = source.version
    with path.open("ab") as log:
        log.write(b"o\nthree")
    caught_up(source)
    assert source.version != before
    assert texts(source) == ["one", "two", "three"]


@pytest.mark.parametrize("how", ["shorter", "as long", "longer", "replaced"])
def test_a_file_that_begins_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old line\n" * 10)
    source = caught_up(FileSource(path))
    new = {"shorter": b"new\n", "as long": b"new line\n" * 10, "longer": b"new line\n" * 20}.get(
        how, b"new\n"
    )
    if how == "replaced":
        path.rename(tmp_path / "log.0")
    path.write_bytes(new + b"more\n" * (how == "as long"))
    caught_up(source)
    assert source.generation == 1
    assert texts(source)[0].startswith("new")
    assert source.count == len(expected(path.read_bytes()))


def test_a_file_that_vanishes_keeps_what_was_seen_out_of_trouble(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old line\n" * 10)
    source = caught_up(FileSource(path))
    path.unlink()
    assert not source.poll()
    assert source.read(0, 5) == []
    assert list(source.scan(0)) == []


def test_a_folder_or_pipe_in_its_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        source = FileSource(path)
        assert not source.poll()
        assert source.read(0, 5) == []


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain\r\n", "plain"),
        (b"10%\r20%\r30%\n", "30%"),
        (b"10%\r20%\r\n", "20%"),
        (b"10%\r20%\r\r\r\n", "20%"),
        (b"\r\n", ""),
        (b"10%\r20%", "20%"),
        (b"10%\r20%\r", "20%"),
        (b"nul\0byte \xff\n", "nulbyte \ufffd"),
        (b"a\tb\n", "a       b"),
        (b"one\x0btwo\xe2\x80\xa8three\n", "one two three"),
        (b"\x1b]0;title\x07text\x1b[2J\n", "text"),
    ],
)
def test_what_a_line_shows(tmp_path: Path, raw: bytes, shown: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n" + raw)
    source = caught_up(FileSource(path))
    assert source.count == 2
    assert texts(source) == ["before", shown]
    assert list(source.scan(1)) == [(1, shown)]


def test_an_unfinished_sequence_does_not_swallow_the_next_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\x1b[\nb\x1b]0;never\nc\xe6\xbc\nd\x1bP\n")
    source = caught_up(FileSource(path))
    assert len(texts(source)) == 4
    assert [text[0] for text in texts(source)] == ["a", "b", "c", "d"]


def test_colours_are_kept_and_do_not_run_into_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[31mred\nplain\n")
    source = caught_up(FileSource(path))
    red, plain = source.read(0, 2)
    assert red.text.startswith("\x1b[31mred")
    assert plain.text.removesuffix("\x1b[0m") == "plain"


@pytest.mark.parametrize("fill", [b"x", b"\x1b[1m", "漢".encode(), b"\x00", b"progress\r"])
def test_a_50_mb_line(tmp_path: Path, fill: bytes) -> None:
    """Its beginning is shown, and how much there is more; memory does not grow with it."""
    path = tmp_path / "log"
    block = fill * (1_000_000 // len(fill))
    with path.open("wb") as log:
        log.write(b"first\n")
        for _ in range(50):
            log.write(block)
        log.write(b"\nlast\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = caught_up(FileSource(path))
    first, long, last = source.read(0, 3)
    scanned = [line for _, text in source.scan(0) for line in text.split("\n")]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (first.text, unstyled(last.text)) == ("first", "last")
    assert len(unstyled(long.text)) <= COLUMNS
    if fill == b"progress\r":
        assert (unstyled(long.text), long.more) == ("progress", 0)
    else:
        assert long.more > 49_000_000
    assert len(scanned) == 3
    assert grown < 20_000, "kilobytes"
