"""The script that looks at a guest, run by this machine's own shell."""

from __future__ import annotations

import subprocess
import time

import pytest

from vmlab_tui.runs.diagnosis import script as module
from vmlab_tui.runs.diagnosis.evidence import Evidence
from vmlab_tui.runs.diagnosis.script import PARTS, parse, script

KEY = "@key1@"


def said(text: str) -> bytes:
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, timeout=60, check=True).stdout


def test_every_part_is_told_and_can_be_read() -> None:
    told = parse(said(script(KEY, "root")), KEY)
    assert list(told.raw) == [*PARTS, "logins"]
    assert told.late == ()
    here = Evidence("here", parts=told.texts(), host_time=time.time())
    assert here.skew is not None
    assert abs(here.skew) < 30
    assert here.uptime
    assert any(fs.where == "/" for fs in here.file_systems())
    assert any(mount.where == "/" for mount in here.mounts())
    assert "user root /root" in here.part("logins")


def test_a_part_that_hangs_takes_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = {"one": "echo first", "two": "echo before; sleep 600", "three": "echo last"}
    monkeypatch.setattr(module, "PARTS", hangs)
    told = parse(said(script(KEY)), KEY)
    assert [raw.split(b"\n")[0] for raw in told.raw.values()] == [b"first", b"before", b"last"]
    assert told.late == ("two",)


def test_without_timeout_parts_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTS", {"one": "echo 'it''s'; echo oops >&2", "two": "cat; exit 3"})
    told = parse(said(script(KEY).replace("command -v timeout", "command -v nothing")), KEY)
    assert (told.raw["one"], told.raw["two"]) == (b"its\noops\n", b"")


def test_what_broke_off_is_kept_and_told() -> None:
    output = f"noise\n{KEY} begin df\nfull\n\n{KEY} end 0\n{KEY} begin journal\nhalf a li".encode()
    told = parse(output, KEY)
    assert told.raw == {"df": b"full\n", "journal": b"half a li"}
    assert told.late == ("journal",)


def test_a_guest_cannot_tell_another_part_without_the_key() -> None:
    output = f"{KEY} begin df\n@other@ end 0\n@other@ begin mounts\nx\n\n{KEY} end 0\n".encode()
    assert list(parse(output, KEY).raw) == ["df"]
