"""The journal file: torn tails, damage, a full disk, a killed writer, followers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.base import faults
from vmlab_tui.base.paths import Locked
from vmlab_tui.base.text import Masker
from vmlab_tui.journal.events import KINDS, TEXT_LIMIT, Event, JournalError, _line, make, parse
from vmlab_tui.journal.log import Follower, Journal, follow, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def three(path: Path) -> Path:
    with Journal.append(path) as journal:
        journal.write("run_created", run_id="r1", profile="p", plan_sha="abc")
        journal.write("note", text="it's “quoted” \x7f ende")
        journal.write("intent", what="domain", id="u-\x7f1")
    return path


def test_a_line_reads_without_us(three: Path) -> None:
    raw = three.read_bytes()
    assert all(32 <= byte < 127 or byte == 10 for byte in raw)
    lines = [json.loads(line) for line in raw.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert lines[0] == {
        "schema": 1,
        "seq": 1,
        "time": lines[0]["time"],
        "kind": "run_created",
        "data": {"run_id": "r1", "profile": "p", "plan_sha": "abc"},
        "sum": lines[0]["sum"],
    }
    assert three.stat().st_mode & 0o777 == 0o600
    assert [event.line().encode() for event in read(three)] == raw.splitlines()


def test_what_is_written_is_what_is_returned_and_read(path: Path) -> None:
    with Journal.append(path) as journal:
        written = [journal.write("waited", number=1, on="boot", seconds=1.5), journal.write("continued")]
        assert journal.seq == 2
    assert read(path) == written


def test_a_tail_torn_at_every_byte_is_cut(three: Path) -> None:
    raw = three.read_bytes()
    ends = [at + 1 for at, byte in enumerate(raw) if byte == 10]
    for size in range(len(raw)):
        three.write_bytes(raw[:size])
        whole = sum(end <= size for end in ends)
        assert len(read(three)) == whole
        assert three.read_bytes() == raw[:size], "reading changes nothing"
        with Journal.append(three) as journal:
            assert journal.seq == whole
            journal.write("note", text="after")
        events = read(three)
        assert [event.seq for event in events] == list(range(1, whole + 2))
        assert events[-1].data["text"] == "after"


def test_a_tail_of_zeros_is_cut(three: Path) -> None:
    raw = three.read_bytes()
    last = raw.rindex(b"\n", 0, -1) + 1
    for tail in (b"\0" * 4096, raw[last : last + 20] + b"\0" * 300 + raw[-5:], b"\0\n"):
        three.write_bytes(raw[:last] + tail)
        assert len(read(three)) == 2
        with Journal.append(three) as journal:
            assert journal.seq == 2
        assert three.read_bytes() == raw[:last]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_before_the_tail_is_refused_and_untouched(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = b"".join(make(seq, "note", {"text": f"number {seq}"})[1] for seq in range(1, 5))
    at = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != raw[at]))
    last = raw.rindex(b"\n", 0, -1) + 1
    if at == len(raw) - 1 or (at >= last - 1 and byte == 0):
        return  # that is a torn tail
    path = tmp_path_factory.mktemp("journal") / "j"
    path.write_bytes(raw[:at] + bytes((byte,)) + raw[at + 1 :])
    before = path.read_bytes()
    with pytest.raises(JournalError, match="damaged at event") as caught:
        read(path)
    assert len(caught.value.good) == raw[:at].count(b"\n")
    assert caught.value.hint
    with pytest.raises(JournalError):
        Journal.append(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("numbers", [[1, 3], [1, 1], [2], [1, 2, 2, 3], [2, 1]])
def test_a_wrong_sequence_is_damage(path: Path, numbers: list[int]) -> None:
    path.write_bytes(b"".join(make(number, "note", {"text": "x"})[1] for number in numbers))
    with pytest.raises(JournalError, match="sequence"):
        read(path)
    with pytest.raises(JournalError, match="sequence"):
        Journal.append(path)


def signed(**members: object) -> bytes:
    """A line with a right checksum, made without the code under test."""
    text = json.dumps({"time": "2026-01-01T00:00:00.000Z", **members}, separators=(",", ":"))
    return f'{text[:-1]},"sum":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}\n'.encode()


def test_newer_kinds_and_fields_are_kept_and_a_newer_schema_is_refused(path: Path) -> None:
    unknown = signed(schema=1, seq=1, kind="teleported", data={"to": ["moon"]})
    extra = signed(schema=1, seq=2, kind="note", data={"text": "x", "colour": "red"}, host="h")
    path.write_bytes(unknown + extra)
    first, second = read(path)
    assert first.kind == "teleported" and first.data == {"to": ["moon"]} and first.payload() is None
    assert second.payload() == KINDS["note"].model_validate({"text": "x"})
    path.write_bytes(unknown + signed(schema=2, seq=2, kind="note", data={"text": "x"}))
    with pytest.raises(JournalError, match="newer") as caught:
        read(path)
    assert len(caught.value.good) == 1
    before = path.read_bytes()
    with pytest.raises(JournalError, match="newer"):
        Journal.append(path)
    assert path.read_bytes() == before


def test_a_known_kind_that_this_version_cannot_read_is_refused(path: Path) -> None:
    path.write_bytes(signed(schema=1, seq=1, kind="note", data={"text": "x", "level": "shout"}))
    (event,) = read(path)
    with pytest.raises(JournalError, match=r"event 1 \(note\)"):
        event.payload()


def test_data_is_checked_before_anything_is_written(three: Path) -> None:
    before = three.read_bytes()
    with Journal.append(three) as journal:
        for kind, data in [
            ("no_such", {}),
            ("note", {}),
            ("note", {"text": "x", "more": 1}),
            ("step_finished", {"number": 1, "state": "great", "seconds": 1}),
            ("waited", {"on": "x", "seconds": float("nan")}),
            ("waited", {"on": "x", "seconds": -1}),
        ]:
            with pytest.raises(ValueError):
                journal.write(kind, **data)
        assert journal.seq == 3
    assert three.read_bytes() == before


def test_text_is_cleaned_cut_and_masked_but_ids_are_not(path: Path) -> None:
    masker = Masker(["hunter22"])
    with Journal.append(path, mask=masker.mask_text) as journal:
        noisy = journal.write("note", text="\x1b[31mred\x9b0m \u202e\ud800 pw=hunter22")
        long = journal.write("stage", number=1, stage="boot", detail="x" * 1_000_000)
        kept = journal.write("intent", what="domain", id="/srv/hunter22", detail="hunter22")
    assert noisy.data["text"] == "red ? pw=[masked]"
    assert len(str(long.data["detail"])) == TEXT_LIMIT
    assert kept.data == {"what": "domain", "id": "/srv/hunter22", "detail": "[masked]"}
    assert [event.data for event in read(path)] == [noisy.data, long.data, kept.data]


def test_one_writer(three: Path) -> None:
    with Journal.append(three), pytest.raises(Locked, match="another process"):
        Journal.append(three)
    Journal.append(three).close()


def test_a_closed_journal_is_not_written(three: Path) -> None:
    journal = Journal.append(three)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.write("continued")


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="does not exist"):
        read(tmp_path / "none")
    assert Follower(tmp_path / "none").new() == []
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal.append(tmp_path / "no" / "where")


FULL = """
import resource, signal, sys
from pathlib import Path
from vmlab_tui.journal.events import JournalError
from vmlab_tui.journal.log import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
with Journal.append(path) as journal:
    journal.write("note", text="first")
    size = path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))
    try:
        journal.write("note", text="does not fit")
    except JournalError as error:
        assert "cannot be written" in error.message and error.hint, error
    else:
        sys.exit("written past the limit")
    assert path.stat().st_size == size, "half a line was left"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.write("note", text="second")
"""


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path) -> None:
    subprocess.run([sys.executable, "-c", FULL, path], check=True, timeout=60)
    assert [event.data["text"] for event in read(path)] == ["first", "second"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_on_a_full_disk_there_is_room_for_the_last_words(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", tmp_path], check=True)
    try:
        with Journal.append(tmp_path / "journal.jsonl") as journal:
            with contextlib.suppress(OSError):
                (tmp_path / "fill").write_bytes(bytes(1 << 20))
            for number in range(100):  # more than a page of them
                journal.write("note", text=f"{number}: the disk is full")
            with pytest.raises(JournalError, match="No space left"):  # it is not without end
                for _ in range(2000):
                    journal.write("note", text="x" * 200)
        assert len(read(tmp_path / "journal.jsonl")) > 100
        assert not list(tmp_path.glob(".*reserve"))
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


WRITER = """
import sys
from pathlib import Path
from vmlab_tui.journal.log import Journal
with Journal.append(Path(sys.argv[1])) as journal:
    while True:
        event = journal.write("progress", number=1, done=journal.seq, unit="files", detail="x" * 500)
        print(event.seq, flush=True)
"""


def test_killed_at_any_time_nothing_acknowledged_is_lost(path: Path) -> None:
    last = 0
    for delay in (0.0, 0.003, 0.01, 0.02, 0.05):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
            seen = [int(word) for word in process.stdout.read().split() if word]
        events = read(path)
        assert len(events) >= max(seen, default=last + 1)
        assert len(events) > last
        last = len(events)


def test_every_kind_is_a_sync_point_after_the_event_is_stored(path: Path) -> None:
    assert {f"journal.{kind}" for kind in KINDS} <= set(faults.POINTS)
    process = subprocess.run(
        [sys.executable, "-c", WRITER, path],
        env={**os.environ, "VMLAB_FAULT": "journal.progress:kill"},
        timeout=60,
    )
    assert process.returncode == -signal.SIGKILL
    assert len(read(path)) == 1


def test_follower_sees_each_event_once_even_when_lines_come_in_pieces(path: Path) -> None:
    lines = [make(seq, "note", {"text": "x" * seq})[1] for seq in range(1, 8)]
    raw = b"".join(lines)
    follower, seen = Follower(path), list[int]()
    with path.open("ab", buffering=0) as file:
        for at in range(0, len(raw), 23):
            file.write(raw[at : at + 23])
            seen += [event.seq for event in follower.new()]
            assert follower.offset == sum(map(len, lines[: len(seen)]))
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert follower.new() == []
    again = Follower(path, offset=len(lines[0]) + len(lines[1]), seq=2)
    assert [event.seq for event in again.new()] == [3, 4, 5, 6, 7]


def test_follower_notices_damage_and_a_shorter_file(three: Path) -> None:
    follower = Follower(three)
    assert len(follower.new()) == 3
    with three.open("ab") as file:
        file.write(b'{"not":"ours"}\n')
    with pytest.raises(JournalError, match="damaged at event 4"):
        follower.new()
    three.write_bytes(b"")
    with pytest.raises(JournalError, match="shorter"):
        follower.new()


async def test_follow_gives_all_events_of_another_process_and_stops_at_the_end(path: Path) -> None:
    program = WRITER.replace("while True", "for _ in range(50)").replace(
        "print(event.seq, flush=True)", "pass"
    )
    program += "    journal.write('ended', state='passed', exit=0, disposition='none', seconds=1)\n"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path))
    seen = [event async for event in _limited(path)]
    assert await process.wait() == 0
    assert [event.seq for event in seen] == list(range(1, 52))
    assert seen[-1].kind == "ended"


async def _limited(path: Path) -> AsyncIterator[Event]:
    async with asyncio.timeout(30):
        async for event in follow(path, poll=0.005):
            yield event


async def test_follow_stops_when_the_writer_is_gone(three: Path) -> None:
    async with asyncio.timeout(10):
        seen = [event.seq async for event in follow(three, poll=0.01, alive=lambda: False)]
    assert seen == [1, 2, 3]


async def test_follow_goes_on_after_the_end_when_asked(path: Path) -> None:
    with Journal.append(path) as journal:
        journal.write("ended", state="passed", exit=0, disposition="none", seconds=1)
        seen = []
        async with asyncio.timeout(10):
            async for event in follow(path, until_ended=False, poll=0.01):
                seen.append(event.kind)
                if event.kind == "note":
                    break
                journal.write("note", text="kept VM removed")
    assert seen == ["ended", "note"]


def test_a_write_is_one_write_and_one_sync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def spy(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def spied(*args: object, **more: object) -> object:
            calls.append(name)
            return real(*args, **more)

        return spied

    for name in ("write", "fdatasync", "fsync", "open"):
        monkeypatch.setattr(os, name, spy(name, getattr(os, name)))
    with Journal.append(path) as journal:
        calls.clear()
        for _ in range(3):
            journal.write("continued")
    assert calls == ["write", "fdatasync"] * 3


values = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda s: st.lists(s, max_size=3)
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_any_data_of_any_kind_survives(data: dict[str, object]) -> None:
    line, digest = _line(1, 7, "2026-01-01T00:00:00.000Z", "from the future", data)  # type: ignore[arg-type]
    event = parse(line.encode("ascii"))
    assert (event.seq, event.kind, event.data, event.sum) == (7, "from the future", data, digest)
