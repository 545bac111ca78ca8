"""The console log, across rotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts.console import ConsoleTail


def rotate(log: Path) -> None:
    """As virtlogd does it."""
    for old, new in ((".1", ".2"), (".0", ".1"), ("", ".0")):
        if Path(f"{log}{old}").exists():
            Path(f"{log}{old}").rename(f"{log}{new}")
    log.touch()


def write(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_new_bytes_only(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    tail = ConsoleTail(log)
    assert tail.read_new() == b""
    write(log, b"one")
    assert tail.read_new() == b"one"
    assert tail.read_new() == b""
    write(log, b"two")
    assert tail.read_new() == b"two"
    assert tail.gaps == 0


def test_what_was_written_before_and_after_rotation(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    tail = ConsoleTail(log)
    write(log, b"a")
    assert tail.read_new() == b"a"
    write(log, b"b")
    rotate(log)
    write(log, b"c")
    rotate(log)
    write(log, b"d")
    assert tail.read_new() == b"bcd"
    assert tail.gaps == 0


def test_the_rest_of_a_deleted_file_is_still_read_and_the_gap_is_told(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    tail = ConsoleTail(log)
    write(log, b"a")
    tail.read_new()
    write(log, b"b")
    for number in range(5):
        rotate(log)
        write(log, b"%d" % number)
    assert tail.read_new() == b"b1234"
    assert tail.gaps == 1
    assert tail.read_new() == b""


def test_another_process_goes_on_from_the_place(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    first = ConsoleTail(log)
    write(log, b"x" * 300)
    first.read_new()
    place = json.loads(json.dumps(first.position()))
    write(log, b"more")
    rotate(log)
    write(log, b"new")
    second = ConsoleTail(log)
    second.restore(place)
    assert second.read_new() == b"morenew"
    stranger = ConsoleTail(log)
    stranger.restore(place | {"head": "0" * 64})
    assert stranger.read_new() == b"x" * 300 + b"morenew"
    assert stranger.gaps == 1
    fresh = ConsoleTail(log)
    fresh.restore(ConsoleTail(tmp_path / "none").position())
    assert fresh.read_new() == b"x" * 300 + b"morenew"
    assert fresh.gaps == 0


def test_a_log_cut_off_is_read_from_the_start(tmp_path: Path) -> None:
    log = tmp_path / "c.log"
    write(log, b"long text")
    tail = ConsoleTail(log)
    tail.read_new()
    log.write_bytes(b"new")
    assert tail.read_new() == b"new"


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "c.log").symlink_to(tmp_path / "secret")
    with pytest.raises(LabError):
        ConsoleTail(tmp_path / "c.log").read_new()


@settings(max_examples=60)
@given(st.lists(st.sampled_from("wrtp"), max_size=30))
def test_nothing_is_lost_or_doubled_in_any_order(moves: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "c.log"
        tail, wrote, read, unread = ConsoleTail(log), b"", b"", 0
        for number, move in enumerate(moves):
            if move == "w":
                write(log, b"<%d>" % number)
                wrote += b"<%d>" % number
            elif move == "r" and log.exists() and unread < 3:
                rotate(log)
                unread += 1
            elif move == "t":
                read, unread = read + tail.read_new(), 0
            elif move == "p":
                read, unread = read + tail.read_new(), 0
                place, tail = tail.position(), ConsoleTail(log)
                tail.restore(place)
        assert read + tail.read_new() == wrote
        tail.close()


@pytest.mark.guest
async def test_virtlogd_rotates_under_the_tail(bench: Any) -> None:
    lines = 250_000  # 2.25 MB: beyond virtlogd's 2 MiB
    spec = bench.spec(bench.ticker(lines=lines, fast=True))
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    tail, parts, length = ConsoleTail(spec.console_log), [], 0

    def copied() -> bool:
        nonlocal length, tail
        parts.append(tail.read_new())
        length += len(parts[-1])
        place, tail = tail.position(), ConsoleTail(spec.console_log)
        tail.restore(place)  # each time as a new worker would
        return length >= lines * 9

    await bench.until(copied, 120)
    assert Path(f"{spec.console_log}.0").exists(), "it was rotated"
    assert b"".join(parts) == b"".join(b"%08x\n" % number for number in range(lines))
    assert tail.gaps == 0


@pytest.mark.guest
async def test_console_stream_both_ways(bench: Any) -> None:
    from vmlab_tui.hosts.failures import Busy

    spec = bench.spec(bench.echo())
    await bench.host.define(spec)
    await bench.host.start(spec.uuid)
    async with await bench.host.open_console(spec.uuid) as console:
        await bench.until(lambda: spec.console_log.exists() and b">" in spec.console_log.read_bytes())
        await console.write(b"Hello")
        seen = b""
        while not seen.endswith(b"hELLO"):
            chunk = await console.read()
            assert chunk
            seen += chunk
        with pytest.raises(Busy, match=spec.name):
            await bench.host.open_console(spec.uuid)
        taker = await bench.host.open_console(spec.uuid, force=True)
        assert await console.read() == b"", "the first one is told that it is over"
        await bench.host.destroy(spec.uuid)
        assert [chunk async for chunk in taker] == []
        await taker.close()
        with pytest.raises(LabError):
            await taker.write(b"x")
    with pytest.raises(LabError, match=spec.name):
        await bench.host.open_console(spec.uuid)
