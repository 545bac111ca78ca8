"""The commands of this process and of workers, put together for a person."""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path

import pytest

from vmlab_tui.base import commands
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.commandlog import FILE, recent


@pytest.fixture(autouse=True)
def nothing_run_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has just begun: other tests' commands are none of ours."""
    monkeypatch.setattr(commands, "_recent", deque(maxlen=500))


def lab(tmp_path: Path) -> Lab:
    return Lab("test:///default", Store(tmp_path))


def log(tmp_path: Path, run: str, *lines: str | bytes) -> Path:
    path = tmp_path / "runs" / run / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines))
    return path


def line(second: float, command: str, **more: object) -> str:
    time = f"2026-01-02T13:14:{second:06.3f}+00:00"
    return json.dumps(
        {"schema": 1, "time": time, "command": command, "outcome": "ok", "seconds": 0.5, **more}
    )


def test_ours_and_the_workers_commands_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    log(tmp_path, "web-1", line(2, "two"), line(4, "four", outcome="failed"))
    log(tmp_path, "web-2", line(1, "one"), line(3, "three"))
    commands.record("ours, now")
    found = recent(lab(tmp_path), 500)
    assert [one.command for one in found][:4] == ["one", "two", "three", "four"]
    assert [one.run for one in found][:4] == ["web-2", "web-1", "web-2", "web-1"]
    assert found[3].outcome == "failed"
    assert (found[-1].command, found[-1].run) == ("ours, now", "")
    assert [one.command for one in recent(lab(tmp_path), 1)] == ["ours, now"]


def test_only_the_newest_runs_are_read_and_of_them_the_end(tmp_path: Path) -> None:
    for number in range(12):
        path = log(tmp_path, f"run-{number:02}", line(number, f"of {number}"))
        os.utime(path, (number, number))
    big = log(tmp_path, "big", *(line(30, f"number {number:05}") for number in range(5000)))
    os.utime(big, (99, 99))
    found = [one.command for one in recent(lab(tmp_path), 100_000)]
    assert "number 04999" in found
    assert "number 00000" not in found
    assert {"of 3", "of 11"} <= set(found)
    assert "of 2" not in found


def test_damaged_newer_and_hostile_lines_do_no_harm(tmp_path: Path) -> None:
    log(
        tmp_path,
        "web-1",
        line(1, "good"),
        line(2, "newer", schema=2),
        line(3, "no time", time="2026-01-02T13:14:15"),
        line(4, "\x1b]0;x\x07evil"),
        b"\xff\xfe\n[]\n7\n{}\n",
        '{"schema":1,"torn',
    )
    found = [one.command for one in recent(lab(tmp_path), 500) if one.run]
    assert found == ["good", "evil"]


def test_no_runs_at_all(tmp_path: Path) -> None:
    assert all(one.run == "" for one in recent(lab(tmp_path), 500))
