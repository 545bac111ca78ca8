"""Images come and go whole; the store can be reached by QEMU's user or says why not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.paths import Store
from vmlab_tui.images import qemuimg
from vmlab_tui.images.header import BadImage, inspect
from vmlab_tui.images.store import (
    Image,
    add_image,
    check_store,
    get_image,
    image_file,
    list_images,
    now,
    open_store,
    publish,
    settle,
    sha256_of,
    unreferenced,
)

NOBODY = 65534


@pytest.fixture
def store() -> Iterator[Store]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    uid, gid = (NOBODY, NOBODY) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    yield open_store(Store(folder / "lab"), uid, gid, system=os.geteuid() == 0)
    shutil.rmtree(folder)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", path], check=True, capture_output=True
    )
    return path


async def test_add_copies_and_describes(store: Store, disk: Path) -> None:
    before = disk.read_bytes()
    image = await add_image(store, disk, "golden")
    file = image_file(store, image)
    assert file.read_bytes() == before == disk.read_bytes()
    assert image.digest == hashlib.sha256(before).hexdigest()
    assert file.stat().st_mode & 0o777 == 0o444
    assert (image.format, image.virtual_size, image.proven) == ("qcow2", 64 << 20, False)
    assert image.source == str(disk)
    assert list_images(store) == [image] == [get_image(store, "golden")]
    assert list((store.images / ".staging").glob("golden*")) == []


async def test_add_keeps_holes(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(bytes(510) + b"\x55\xaa")
        file.truncate(64 << 20)
    image = await add_image(store, path, "holes")
    assert image.format == "raw"
    assert image_file(store, image).stat().st_blocks * 512 < 8 << 20
    assert sha256_of(image_file(store, image)) == sha256_of(path)


async def test_add_checks_the_digest(store: Store, disk: Path) -> None:
    with pytest.raises(UsageError, match="SHA-256"):
        await add_image(store, disk, "golden", sha256="0" * 64)
    assert list_images(store) == [] == unreferenced(store)
    await add_image(store, disk, "golden", sha256=sha256_of(disk).upper())


async def test_add_refuses_what_stands_on_another_file(store: Store, disk: Path, tmp_path: Path) -> None:
    over = tmp_path / "over.qcow2"
    await qemuimg.create_overlay(over, disk, "qcow2", 64 << 20)
    with pytest.raises(BadImage, match="stands on another file"):
        await add_image(store, over, "golden")
    assert [path.name for path in store.images.iterdir() if not path.name.startswith(".")] == []


async def test_add_refuses_damaged_tables(store: Store, disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(3 << 16)
        file.write((1 << 63 | 1 << 40).to_bytes(8, "big"))  # an L2 table far outside the file
    inspect(disk)  # the header itself says nothing of it
    with pytest.raises(LabError, match="damaged"):
        await add_image(store, disk, "golden")
    assert list_images(store) == [] == unreferenced(store)


async def test_add_twice(store: Store, disk: Path, tmp_path: Path) -> None:
    image = await add_image(store, disk, "golden")
    assert await add_image(store, disk, "golden") == image
    other = tmp_path / "other.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", other, "32M"], check=True)
    with pytest.raises(UsageError, match="already"):
        await add_image(store, other, "golden")
    assert get_image(store, "golden") == image


async def test_unknown_image_names_the_nearest(store: Store, disk: Path) -> None:
    await add_image(store, disk, "debian-12")
    with pytest.raises(UsageError) as told:
        get_image(store, "debain-12")
    assert "debian-12" in told.value.hint
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(UsageError):
            get_image(store, name)


async def test_sidecar_that_points_elsewhere_is_refused(store: Store, disk: Path) -> None:
    image = await add_image(store, disk, "golden")
    sidecar = store.images / "golden.json"
    data = json.loads(sidecar.read_text())
    for wrong in ("../../etc/passwd", "/etc/passwd"):
        sidecar.write_text(json.dumps(data | {"file": wrong}))
        with pytest.raises(LabError, match="damaged"):
            get_image(store, "golden")
    sidecar.write_text(json.dumps(data | {"schema": 2}))
    with pytest.raises(LabError, match="newer"):
        get_image(store, "golden")
    sidecar.write_text("{")
    with pytest.raises(LabError, match="damaged"):
        list_images(store)
    sidecar.write_text(json.dumps(data | {"more": "from a newer version"}))
    assert get_image(store, "golden") == image


async def test_a_new_build_leaves_the_old_file_to_its_overlays(
    store: Store, disk: Path, tmp_path: Path
) -> None:
    old = await add_image(store, disk, "golden")
    vm = store.vms / "11111111-1111-1111-1111-111111111111"
    vm.mkdir()
    await qemuimg.create_overlay(vm / "disk.qcow2", image_file(store, old), "qcow2", 128 << 20)
    staged = store.images / "staged"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", staged, "32M"], check=True)
    new = publish(store, staged, old.model_copy(update={"digest": sha256_of(staged), "created": now()}))
    assert get_image(store, "golden") == new
    assert new.file != old.file
    assert not staged.exists()
    assert unreferenced(store) == [image_file(store, old)]
    await qemuimg.check(vm / "disk.qcow2", "qcow2")


_PUBLISH = """
import sys
from pathlib import Path
from vmlab_tui.base.paths import Store
from vmlab_tui.images.store import Image, publish
image = Image.model_validate_json(sys.argv[3])
publish(Store(Path(sys.argv[1])), Path(sys.argv[2]), image)
"""


@pytest.mark.parametrize(("at", "whole"), [("image.file-placed", False), ("image.published", True)])
@pytest.mark.parametrize("before", [False, True])
async def test_killed_while_publishing(store: Store, disk: Path, at: str, whole: bool, before: bool) -> None:
    old = await add_image(store, disk, "golden") if before else None
    staged = store.images / "staged"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", staged, "32M"], check=True)
    image = Image(
        name="golden",
        file="",
        digest=sha256_of(staged),
        format="qcow2",
        virtual_size=32 << 20,
        disk_size=1,
        created=now(),
    )
    ended = subprocess.run(
        [sys.executable, "-c", _PUBLISH, store.root, staged, image.model_dump_json(by_alias=True)],
        env={**os.environ, "VMLAB_FAULT": f"{at}:kill"},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    settle(store)
    names = [found.digest for found in list_images(store)]
    assert names == [image.digest] if whole else names == ([old.digest] if old else [])
    assert unreferenced(store) == ([image_file(store, old)] if whole and old else [])
    assert list(store.images.glob(".publish-*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a store for another user")
def test_store_that_qemu_cannot_reach(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(Refused, match="does not let it pass") as told:
        open_store(Store(tmp_path / "lab"), NOBODY, NOBODY, system=True)
    assert f"chmod o+x {tmp_path}" in told.value.hint or "chmod o+x" in told.value.hint


def test_looking_at_a_store_says_the_same_and_makes_nothing(tmp_path: Path) -> None:
    lab = Store(tmp_path / "new" / "lab")
    tmp_path.chmod(0o700)
    if os.geteuid() == 0:
        with pytest.raises(Refused, match="does not let it pass"):
            check_store(lab, NOBODY, NOBODY, system=True)
    check_store(lab, os.geteuid(), os.getegid(), system=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
@pytest.mark.parametrize("made", [False, True])
def test_a_store_that_may_not_be_written_is_refused_before_anything_is_made(store: Store, made: bool) -> None:
    lab = store if made else Store(store.root / "inner")
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            check_store(lab, NOBODY, NOBODY, system=True)
        except Refused as error:
            os._exit(3 if "no permission to write" in error.message and "as root" in error.hint else 4)
        finally:
            os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_what_the_store_says_is_what_the_kernel_says(store: Store) -> None:
    seen = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "test", "-x", store.images]
    )
    assert seen.returncode == 0
    keys = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "test", "-r", store.keys]
    )
    assert keys.returncode != 0
