"""A zoo of leftovers and traps, for every module here that cleans up."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.zoo import Zoo
from vmlab_tui.base.paths import Store


@pytest.fixture
def zoo(lab_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    outside = Path(tempfile.mkdtemp(prefix="vmlab-test-", dir="/var/tmp"))
    outside.chmod(0o755)
    config = outside / "config"
    config.mkdir()
    (config / "config.yaml").write_text(
        f"schema: 1\nbudget: 1MiB\nclean:\n  watch: [{outside}/watched]\n"
        "  images: [{prefix: ci-, keep: 1, older: 1h}]\n"
        "  runs_keep: 5\n  runs_older: 10d\n  items: 1000\n  share: 100\n"
    )
    (outside / "watched").mkdir()
    monkeypatch.setenv("VMLAB_CONFIG", str(config))
    made = Zoo(lab_store, outside / "watched")
    try:
        yield made
    finally:
        made.close()
        for folder in (lab_store.vms, lab_store.trash):
            shutil.rmtree(folder)
        shutil.rmtree(outside)
