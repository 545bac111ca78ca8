"""A builder that is killed leaves no mount and no loop device; a real build is in tests/runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.images.build.disk import _NAMESPACES, build_disk, check_needs
from vmlab_tui.images.build.job import Job
from vmlab_tui.images.staging import mounts_below, staging
from vmlab_tui.spec.recipe import Recipe, load_recipe

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="building needs root")
RECIPE = Recipe.model_validate({"schema": 1, "name": "t", "suite": "bookworm", "size": 64 << 20})

# what build_disk does once the root file system is there, in the same namespaces
_MAKE_DISK = """
import sys
from pathlib import Path
from vmlab_tui.images.build import inner
from vmlab_tui.images.build.job import Job
folder = Path(sys.argv[1])
job = Job.model_validate_json((folder / "job.json").read_bytes())
inner.make_disk(job, folder / "root", folder / "disk.raw", folder / "mount")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


def wait_for(what: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def loops_on(folder: Path) -> list[str]:
    listed = subprocess.run(["losetup", "-n", "-O", "NAME,BACK-FILE"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


def processes_naming(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and int(path.parent.name) != os.getpid():
            found.append(words)
    return found


def start(folder: Path, code: str, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@root_only
@pytest.mark.parametrize("fault", ["stop", "kill"])
def test_killed_while_the_disk_is_mounted(folder: Path, fault: str) -> None:
    (folder / "root/boot/extlinux").mkdir(parents=True)
    job = Job(recipe=RECIPE, sources=(), guest_sources="", apt_settings="")
    (folder / "job.json").write_text(job.model_dump_json(by_alias=True))
    outer = (
        "import asyncio, sys\n"
        "from vmlab_tui.base.proc import arun\n"
        f"argv = [*{_NAMESPACES!r}, sys.executable, '-c', {_MAKE_DISK!r}, sys.argv[1]]\n"
        "asyncio.run(arun(argv, bound=True, timeout=300))\n"
    )
    process = start(folder, outer, VMLAB_FAULT=f"image.disk-mounted:{fault}")
    try:
        if fault == "stop":
            # it stands still, mounted: the loop device is there, and only its own namespace sees the mount
            wait_for(lambda: loops_on(folder))
            wait_for(lambda: any(" T " in state for state in states(folder)))
            assert mounts_below(folder) == []
            process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert process.returncode
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not processes_naming(folder))
    wait_for(lambda: not loops_on(folder))
    assert mounts_below(folder) == []


def states(folder: Path) -> list[str]:
    """The process state of everything that names the folder, padded: `` T `` is stopped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(f" {(path.parent / 'stat').read_text().rsplit(')', 1)[1].split()[0]} ")
        except OSError:
            continue
    return found


_BUILD = """
import asyncio, sys
from pathlib import Path
from vmlab_tui.images.build.disk import build_disk
from vmlab_tui.images.staging import staging
from vmlab_tui.spec.recipe import load_recipe
with staging(Path(sys.argv[1]), "debian-12") as work:
    asyncio.run(build_disk(load_recipe("debian-12"), work, on_line=lambda _: None, on_stage=lambda *_: None))
"""


@root_only
def test_killed_while_packages_are_installed(folder: Path) -> None:
    process = start(folder, _BUILD)
    try:
        wait_for(
            lambda: any("apt-get" in words or "dpkg" in words for words in processes_naming(folder)), 120
        )
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not processes_naming(folder))
    assert mounts_below(folder) == []
    assert loops_on(folder) == []
    left = [path for path in (folder / ".staging").iterdir() if path.is_dir()]
    assert len(left) == 1, "the staging folder is what a kill leaves"
    with staging(folder, "other"):
        assert not left[0].exists(), "the next build sweeps it"
    assert [path for path in (folder / ".staging").iterdir() if path.is_dir()] == []


def test_a_living_owner_keeps_its_staging_folder(folder: Path) -> None:
    with staging(folder, "one") as first:
        (first / "file").touch()
        with staging(folder, "two") as second:
            assert (first / "file").exists()
            assert second != first
    assert not first.exists()


@root_only
async def test_a_failing_program_is_told_with_its_last_lines(folder: Path) -> None:
    recipe = load_recipe("debian-12").model_copy(update={"suite": "nosuchsuite"})
    stages: list[str] = []
    with pytest.raises(LabError, match="nosuchsuite") as told:
        await build_disk(
            recipe, folder, on_line=lambda _: None, on_stage=lambda stage, _: stages.append(stage)
        )
    assert "recipe's suite" in told.value.hint
    assert stages
    assert loops_on(folder) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may build")
def test_not_root(folder: Path) -> None:
    with pytest.raises(Refused, match="needs root") as told:
        check_needs(RECIPE, folder)
    assert told.value.hint.startswith("sudo vmlab image build")


@root_only
def test_not_root_as_another_user(folder: Path) -> None:
    folder.chmod(0o755)
    code = (
        "import sys\nfrom pathlib import Path\nimport os\n"
        "from vmlab_tui.images.build.disk import check_needs\nfrom vmlab_tui.spec.recipe import Recipe\n"
        "from vmlab_tui.base.errors import Refused\n"
        "os.setuid(65534)\n"  # afterwards the code may be out of reach
        "try:\n    check_needs(Recipe(schema=1, name='t', suite='bookworm'), Path(sys.argv[1]))\n"
        "except Refused as error:\n    print(error, '|', error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert "needs root" in done.stdout
    assert "sudo vmlab image build t" in done.stdout
