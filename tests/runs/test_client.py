"""Runs as everybody but their worker sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.client import get_run, list_runs


def test_of_runs_that_cannot_be_read_there_is_no_last(tmp_path: Path) -> None:
    lab = Lab("test:///default", Store(tmp_path))
    (lab.store.runs / "torn-1").mkdir(parents=True)
    assert list(list_runs(lab)[1]) == ["torn-1"]
    with pytest.raises(UsageError, match="no run 'last'"):
        get_run(lab, "last")
