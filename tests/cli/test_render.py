"""A run on the screen, from real journal events: on a terminal, in a file, and in eighty columns."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from tests.runs.samples import plan
from vmlab_tui.cli.render import Lines, Live, last_lines
from vmlab_tui.cli.style import Style
from vmlab_tui.journal.events import make
from vmlab_tui.journal.state import RunState
from vmlab_tui.verbs.telling import line_of

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eevil\n\u009b31m [red]"
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("run_created", {"run_id": "sample-1", "profile": "sample", "plan_sha": "0"}),
    ("worker_started", {"pid": 1, "boot_id": "b", "start_ticks": 1, "resumed": False}),
    ("step_started", {"number": 1, "attempt": 1}),
    ("step_finished", {"number": 1, "attempt": 1, "state": "ok", "seconds": 0.1}),
    ("step_started", {"number": 7, "attempt": 1}),
    ("intent", {"what": "domain", "id": "x"}),
    ("stage", {"number": 7, "attempt": 1, "stage": "banner", "detail": HOSTILE}),
    ("waited", {"number": 7, "on": "ssh", "seconds": 9}),
    ("progress", {"number": 7, "done": 1048576, "total": 4194304, "unit": "bytes"}),
    ("progress", {"number": 7, "done": 2097152, "total": 4194304, "unit": "bytes"}),
    ("step_finished", {"number": 7, "attempt": 1, "state": "failed", "seconds": 41.2, "detail": HOSTILE}),
    ("note", {"text": f"careful {HOSTILE}", "level": "warn"}),
    ("check_result", {"number": 12, "check": "service xrdp", "state": "failed", "detail": "dead"}),
]


def played(shown: Lines | Live, *, ticks: bool = False) -> None:
    state = RunState()
    for number, (kind, data) in enumerate(EVENTS, 1):
        time = f"2026-01-02T13:14:{number:02}.000Z"
        event, _ = make(number, kind, data, time=time)
        state = state.apply(event)
        shown.event(event, state)
        if ticks:
            shown.tick()
    shown.close()


class Screen(io.StringIO):
    """A terminal as far as it is needed: erasing below, moving up, carriage return."""

    def isatty(self) -> bool:
        return True

    def lines(self, columns: int) -> list[str]:
        rows, row = [""], 0
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())
        for part in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\n":
                row += 1
                rows.append("") if row == len(rows) else None
            elif part == "\r":
                continue  # erasing follows at once
            elif part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1])
            elif part == "\x1b[J":
                rows, rows[row:] = rows, [""]
            else:
                assert "\x1b" not in part, "a sequence that is not ours"
                rows[row] += part
                assert len(rows[row]) < columns, rows[row]
        return rows


def test_lines_are_one_an_event_with_the_time_since_the_start() -> None:
    out = io.StringIO()
    played(Lines(Style(out, live=False, colour=False), plan(), clock=lambda: 100.0))
    assert out.getvalue().splitlines() == [
        "   0.0s run sample-1",
        "   1.0s on image tiny, tcg",
        "   3.0s 01 preflight: ok in 0.1s",
        "   4.0s 07 ssh ...",
        "   6.0s 07 ssh: SSH answers, logging in: evil [red]",
        "   8.0s 07 ssh: 1.0M of 4.0M",
        "  10.0s 07 ssh: FAILED in 41.2s, evil [red]",
        "  11.0s warning: careful evil [red]",
        "  12.0s check service xrdp failed: dead",
    ]


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_shows_what_is_finished_and_nothing_is_left_of_the_rest(
    colour: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = Screen()
    played(Live(Style(out, live=True, colour=colour), plan(), tmp_path), ticks=True)
    rows = [row.rstrip() for row in out.lines(80)]
    assert rows == [
        "run sample-1",
        "        on image tiny, tcg",
        "ok   01 preflight          0.1s",
        "FAIL 07 ssh               41.2s  evil",
        "        warning: careful evil [red]",
        "FAIL    service xrdp: dead",
        "",
    ]
    assert ("\x1b[31m" in out.getvalue()) == colour


def test_the_step_in_flight_shows_stage_progress_and_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "07-ssh.1.log").write_bytes(b"first\nnow \x1b[2Jhere\n\n")
    out = Screen()
    shown = Live(Style(out, live=True, colour=False), plan(), tmp_path)
    state = RunState()
    for number, (kind, data) in enumerate(EVENTS[:7], 1):
        event, _ = make(number, kind, data)
        state = state.apply(event)
        shown.event(event, state)
    shown.tick()
    rows = out.lines(80)
    assert re.fullmatch(r"run  07 ssh +0\.\ds  banner evil \[red\]", rows[-3].rstrip()), rows
    assert rows[-2] == "        | now here"
    assert rows[-1].startswith("        1 of 16 steps, 0.")


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_other_widths(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Screen()
    played(Live(Style(out, live=True, colour=True), plan(), tmp_path), ticks=True)
    out.lines(max(columns, 40))


def test_every_kind_of_event_has_a_line_or_is_book_keeping() -> None:
    quiet = {"run_created", "waited", "step_amended", "intent", "done", "removed", "ended"}
    seen = {kind for kind, _ in EVENTS}
    for number, (kind, data) in enumerate(EVENTS, 1):
        event, _ = make(number, kind, data)
        assert bool(line_of(event, plan())) == (kind not in quiet), kind
    assert len(seen - quiet) >= 7


def test_last_lines_are_cleaned_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_lines(path, 5) == []
    path.write_bytes(
        b"x" * 100_000 + b"\n" + b"".join(b"line %d\n" % at for at in range(50)) + b"\x1b[31mend"
    )
    assert last_lines(path, 2) == ["line 49", "end"]
    assert last_lines(path, 0) == []


def test_no_color_and_dumb_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert (Style.of(screen).live, Style.of(screen).colour) == (True, True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert (Style.of(screen).live, Style.of(screen).colour) == (True, False)
    monkeypatch.setenv("TERM", "dumb")
    assert not Style.of(screen).live
    assert not Style.of(io.StringIO()).live
