"""Leases and VM directories."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.leases import Lease, after, all_leases, now, read_lease, write_lease
from vmlab_tui.lab.vmdir import make_vm_dir

UUID = "0b0b0b0b-1111-2222-3333-444444444444"


def lease(uuid: str = UUID, **more: object) -> Lease:
    base = {"name": "v", "run_id": "r", "profile": "p", "image": "i", "owner": "me@here", "created": now()}
    return Lease.model_validate({"uuid": uuid, **base, **more})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "vms").mkdir()
    return Store(tmp_path)


def test_a_lease_is_read_back_as_written(store: Store) -> None:
    folder = make_vm_dir(store, UUID, uid=os.getuid(), gid=os.getgid())
    written = lease(expires=after(3600), keep=True)
    write_lease(store, written)
    assert read_lease(folder.path) == written
    assert 3590 < (written.seconds_left or 0) <= 3600
    assert json.loads((folder.path / "lease.json").read_bytes())["schema"] == 1


def test_a_vm_directory_is_for_its_user_only(store: Store) -> None:
    folder = make_vm_dir(store, UUID, uid=os.getuid(), gid=os.getgid())
    assert folder.path.stat().st_mode & 0o777 == 0o700
    make_vm_dir(store, UUID, uid=os.getuid(), gid=os.getgid())


def test_unreadable_leases_are_problems_not_absences(store: Store) -> None:
    for name in ("empty", "damaged", "newer", "elsewhere"):
        (store.vms / name).mkdir()
    (store.vms / "damaged/lease.json").write_text("{")
    newer = {**lease("newer").model_dump(by_alias=True), "schema": 99}
    (store.vms / "newer/lease.json").write_text(json.dumps(newer))
    (store.vms / "elsewhere/lease.json").write_text(lease("other").model_dump_json(by_alias=True))
    make_vm_dir(store, UUID, uid=os.getuid(), gid=os.getgid())
    write_lease(store, lease())
    leases, problems = all_leases(store)
    assert set(leases) == {UUID}
    assert set(problems) == {"empty", "damaged", "newer", "elsewhere"}


def test_a_lease_never_leaves_the_store(store: Store) -> None:
    with pytest.raises(UsageError):
        write_lease(store, lease("../../outside"))


def test_a_missing_lease_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"lease\.json"):
        read_lease(tmp_path)
