"""Fixtures of the verbs' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.samples import UUID, plan
from tests.verbs.vm_bed import RUN, lease, node
from vmlab_tui.base.paths import Store
from vmlab_tui.journal.log import Journal
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import write_lease
from vmlab_tui.runs.plan import write_plan


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A store with one VM of ours and its ended run, and a host that has it and a foreign one, both on."""
    store = Store(tmp_path / "store")
    store.vm(UUID).mkdir(parents=True)
    write_lease(store, lease("sample-7f3a"))
    folder = store.runs / RUN
    folder.mkdir(parents=True)
    write_plan(folder, plan(store.root))
    with Journal.append(folder / "journal.jsonl") as journal:
        journal.write("run_created", run_id=RUN, profile="sample", plan_sha="0")
    return Lab(f"test://{node(tmp_path)}", store)
