"""Templates as folders: what counts as one, what goes first, what nobody may name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.paths import Store
from vmlab_tui.lab import templates
from vmlab_tui.lab.templates import Template
from vmlab_tui.runs.budget import evict_templates, measure


def put(store: Store, key: str, *, used: float = 100, size: int = 8192) -> Path:
    folder = store.templates / key
    folder.mkdir(parents=True)
    made = Template(
        key=key, image="tiny", digest="d", cpus=1, memory=1, snapshot="clean-boot", mac="", instance_id="i",
        run_id="run", created="2026-01-02T13:14:15+00:00",
    )  # fmt: skip
    (folder / templates.FILE).write_text(made.model_dump_json(by_alias=True))
    (folder / templates.DISK).write_bytes(os.urandom(size))
    for name in (templates.SNAPSHOT, templates.KNOWN_HOST, templates.USED):
        (folder / name).touch()
    os.utime(folder / templates.USED, (used, used))
    return folder


A, B, C = "a" * 32, "b" * 32, "c" * 32


def test_only_a_whole_one_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert templates.find_template(store, A) is None
    folder = put(store, A)
    found = templates.find_template(store, A)
    assert found and found.key == A
    (folder / templates.SNAPSHOT).unlink()
    assert templates.find_template(store, A) is None
    (put(store, B) / templates.FILE).write_text("{")
    assert templates.find_template(store, B) is None
    put(store, C)
    (store.templates / C).rename(store.templates / ("d" * 32))
    listed, problems = templates.scan_templates(store)
    assert [one.key for one in listed] == [A]
    assert problems.keys() == {B, "d" * 32}
    with pytest.raises(LabError, match="another template"):
        templates.read_template(store.templates / ("d" * 32))


@pytest.mark.parametrize("key", ["", "../../etc", "A" * 32, "a" * 31, f"{'a' * 30}/x"])
def test_a_key_is_not_a_path(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError):
        templates.evict(Store(tmp_path), key)


def test_longest_unused_goes_first_until_it_fits(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key, used in ((A, 300.0), (B, 100.0), (C, 200.0)):
        put(store, key, used=used, size=1 << 20)
    use = measure(store)
    assert list(use.templates) == [B, C, A]
    assert use.total >= 3 << 20
    assert evict_templates(store, use, need=0, budget=use.total) == []
    lines = evict_templates(store, use, need=1 << 20, budget=use.total, keep=B)
    assert len(lines) == 1 and lines[0].startswith(
        f"template {C[:12]} removed to stay within the budget: 1.0M"
    )
    assert [one.key for one in templates.scan_templates(store)[0]] == [B, A]
    assert len(evict_templates(store, measure(store), need=0, budget=0)) == 2
    assert templates.scan_templates(store) == ([], {})


def test_what_a_dead_run_left_unfinished_is_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in (".new-run-1", ".new-run-2"):
        (store.templates / name).mkdir(parents=True)
    assert templates.drop_unfinished(store, "run-1") is True
    assert templates.drop_unfinished(store, "run-1") is False
    assert [path.name for path in store.templates.iterdir()] == [".new-run-2"]
    assert templates.scan_templates(store) == ([], {})


def test_from_a_template_that_has_just_gone_nothing_starts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, A)
    found = templates.find_template(store, A)
    assert found
    before = templates.last_used(store.templates / A)
    assert templates.origin(store, found).disk == store.templates / A / templates.DISK
    assert templates.last_used(store.templates / A) > before
    assert templates.evict(store, A) > 0
    assert templates.evict(store, A) == 0
    with pytest.raises(LabError, match="just been removed"):
        templates.origin(store, found)
