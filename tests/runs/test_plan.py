"""Plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.samples import plan, profile
from vmlab_tui.base.errors import LabError
from vmlab_tui.runs.plan import CLOSING, OPENING, plan_steps, read_plan, write_plan


def test_steps_are_numbered_and_in_the_order_of_the_design() -> None:
    steps = plan_steps(profile())
    assert [one.number for one in steps] == list(range(1, len(steps) + 1))
    assert [one.kind for one in steps] == [*OPENING, "run", "run", *CLOSING]
    assert steps[len(OPENING)].component == "desktop"
    assert steps[len(OPENING)].log_name(2) == "10-install-desktop.2.log"


def test_a_step_name_cannot_leave_the_folder_of_logs() -> None:
    step = {"kind": "run", "name": "../../etc/passwd\x1b[31m", "script": "true", "timeout": 1}
    (made,) = [one for one in plan_steps(profile(steps=[step])) if one.kind == "run"]
    assert made.log_name(1) == "10-etc-passwd-31m.1.log"


def test_a_plan_is_read_back_as_written_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    written = plan()
    write_plan(tmp_path, written)
    assert read_plan(tmp_path) == written
    assert read_plan(tmp_path).sha == written.sha
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 7', 1))
    with pytest.raises(LabError, match="schema 7"):
        read_plan(tmp_path)
