"""Where a run was to start, and what is said when that has gone meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.runs.samples import plan
from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.log import Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.runs.context import RunContext
from vmlab_tui.runs.plan import PlannedStart
from vmlab_tui.runs.warm import copy


@pytest.mark.parametrize(
    ("kind", "source", "says"),
    [
        ("template", "f" * 32, "template ffffffffffff of run other has been removed since"),
        (
            "checkpoint",
            "11111111-2222-3333-4444-555555555555",
            "checkpoint 'after-10' of run other has been removed since",
        ),
    ],
)
async def test_the_start_has_gone(
    tmp_path: Path, kind: Literal["template", "checkpoint"], source: str, says: str
) -> None:
    start = PlannedStart(
        kind=kind, source=source, snapshot="after-10", after=10, key="k", run_id="other", instance_id="i"
    )
    async with Host.open("test:///default") as host:
        with Journal.append(tmp_path / "journal.jsonl") as journal:
            run = RunContext(plan(tmp_path), tmp_path, journal, RunState(), host, {})
            with pytest.raises(LabError, match=says) as raised:
                await copy(run, start)
    assert raised.value.hint == "start the run again"
