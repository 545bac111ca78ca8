"""An image is published only when it has booted; a kill at any point leaves none, and no VM.

The disk that is proven and published is the tiny guest's, so that this takes seconds: what makes a disk from
a recipe is tested in tests/images, and all of it together by whoever asks for `debian_template`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vmlab_tui.base.paths import Store
from vmlab_tui.guests.stage import SHORT, Stage
from vmlab_tui.hosts.host import Host
from vmlab_tui.images.store import get_image, image_file, list_images, sha256_of, unreferenced

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.geteuid() != 0, reason="building an image needs root"),
]

_BUILD = """
import asyncio, shutil, sys
from pathlib import Path
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.host import Host
from vmlab_tui.images.build.disk import Built
from vmlab_tui.runs import imagebuild
from vmlab_tui.spec.recipe import Recipe

async def instead(recipe, staging, on_line, on_stage):
    file = staging / "disk.qcow2"
    shutil.copy(sys.argv[2], file)
    return Built(file, "qcow2", 40 << 20, file.stat().st_size, "k", "a test", {"packages": 1.0})

imagebuild.build_disk = instead

async def main():
    recipe = Recipe.model_validate(
        {"schema": 1, "name": "fresh", "suite": "bookworm", "size": 40 << 20, "timeout": float(sys.argv[3])}
    )
    async with Host.open("qemu:///system") as host:
        await imagebuild.build_image(Store(Path(sys.argv[1])), host, recipe, on_event=print)

asyncio.run(main())
"""


def build(
    store: Store, disk: Path, *, fault: str = "", timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BUILD, str(store.root), str(disk), str(timeout)],
        env={**os.environ, "VMLAB_FAULT": fault},
        capture_output=True,
        text=True,
        timeout=400,
    )


async def proofs(host: Host, store: Store) -> list[str]:
    """Names of domains that stand on a disk of the store."""
    found = await host.domains()
    return [one.name for one in found if any(file.is_relative_to(store.root) for file in one.files)]


async def test_booted_then_published(lab_store: Store, tiny_built: tuple[Store, object], host: Host) -> None:
    disk = next(tiny_built[0].images.glob("tiny-*.qcow2"))
    done = build(lab_store, disk)
    assert done.returncode == 0, done.stderr
    image = get_image(lab_store, "fresh")
    assert image.proven
    assert image.digest == sha256_of(image_file(lab_store, image)) == sha256_of(disk)
    assert image_file(lab_store, image).stat().st_mode & 0o777 == 0o444
    assert f"boot: {SHORT[Stage.AUTHENTICATED]}" in done.stdout
    assert image.phases.keys() >= {"packages", "until SSH", "proof", "total"}
    assert not [path for path in (lab_store.images / ".staging").iterdir() if path.is_dir()]
    assert await proofs(host, lab_store) == []


@pytest.mark.parametrize("at", ["image.staged", "image.built", "image.booted", "image.file-placed"])
async def test_killed(lab_store: Store, tiny_built: tuple[Store, object], host: Host, at: str) -> None:
    disk = next(tiny_built[0].images.glob("tiny-*.qcow2"))
    done = build(lab_store, disk, fault=f"{at}:kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    for _ in range(100):
        if not (left := await proofs(host, lab_store)):
            break
        await asyncio.sleep(0.1)
    assert left == []
    assert list_images(lab_store) == []
    assert build(lab_store, disk, fault="image.built:fail").returncode == 1
    assert list_images(lab_store) == [] == unreferenced(lab_store)
    assert not [path for path in (lab_store.images / ".staging").iterdir() if path.is_dir()]


async def test_what_does_not_boot_is_not_published(
    lab_store: Store, tiny_built: tuple[Store, object], host: Host, tmp_path: Path
) -> None:
    good = next(tiny_built[0].images.glob("tiny-*.qcow2"))
    assert build(lab_store, good).returncode == 0
    before = get_image(lab_store, "fresh")
    blank = tmp_path / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", blank, "40M"], check=True)
    done = build(lab_store, blank, timeout=15)
    assert done.returncode == 1
    assert "no SSH login within 15 s" in done.stderr
    assert get_image(lab_store, "fresh") == before
    assert unreferenced(lab_store) == []
    assert await proofs(host, lab_store) == []
