"""Reports, from journals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.runs.samples import plan, told, worker
from vmlab_tui.journal.state import RunState
from vmlab_tui.runs.report import Ending, components, write_reports

ESC = "\x1b]0;owned\x07\x1b[2J<script>|`[x](y)"


def finished(number: int, state: str, detail: str = "") -> tuple[str, dict[str, Any]]:
    return "step_finished", {"number": number, "attempt": 1, "state": state, "seconds": 1.5, "detail": detail}


def check(component: str, state: str, detail: str = "") -> tuple[str, dict[str, Any]]:
    return "check_result", {
        "number": 12,
        "check": f"{component} is there",
        "component": component,
        "state": state,
        "seconds": 0.5,
        "detail": detail,
        "evidence": detail,
    }


def failed_run() -> RunState:
    return told(
        ("run_created", {"run_id": "sample-20260102-131415-7f3a", "profile": "sample", "plan_sha": "0"}),
        worker(),
        finished(10, "ok"),
        finished(11, "ok"),
        check("rdp", "failed", f"xrdp is dead {ESC}"),
    )


def test_a_component_passes_only_when_all_its_steps_and_checks_did() -> None:
    found = {one.name: one.verdict for one in components(plan(), failed_run())}
    assert found == {"desktop": "PASSED", "rdp": "FAILED", "ide": "NOT RUN"}


def test_the_reports_of_a_failed_run(tmp_path: Path) -> None:
    ending = Ending("failed", 1, "kept", f"1 of 2 checks failed\n```{ESC}", "2026-01-03T00:00:00+00:00")
    write_reports(tmp_path, plan(), failed_run(), ending)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# FAILED: sample\n")
    assert "| rdp | FAILED |" in text
    assert "kept until 2026-01-03T00:00:00" in text
    assert "vmlab runs end sample-20260102-131415-7f3a" in text
    data = json.loads((tmp_path / "report.json").read_bytes())
    assert (data["schema"], data["verdict"], data["ending"]["exit"]) == (1, "FAILED", 1)
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite.get("failures") == "1"
    assert suite.get("tests") == str(len(plan().steps) + 1)


def test_guest_text_cannot_draw_or_write_markup_in_a_report(tmp_path: Path) -> None:
    write_reports(tmp_path, plan(), failed_run(), Ending("failed", 1, "kept", ESC))
    for name in ("report.md", "report.json", "junit.xml"):
        raw = (tmp_path / name).read_bytes()
        assert b"\x1b" not in raw, name
        assert b"\x07" not in raw, name
    rows = [line for line in (tmp_path / "report.md").read_text().splitlines() if "xrdp is dead" in line]
    assert len(rows) == 1
    assert "\\<script\\>\\|" in rows[0]


def test_a_passed_run_says_so(tmp_path: Path) -> None:
    state = told(finished(10, "ok"), finished(11, "ok"), check("rdp", "passed"), check("ide", "passed"))
    write_reports(tmp_path, plan(), state, Ending("passed", 0, "destroyed"))
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# PASSED: sample\n")
    assert "FAILED" not in text
    assert "is removed" in text
