"""From a recipe to a disk file: what must be there first, the namespaces, progress, the conversion."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import vmlab_tui
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.proc import ProgramError, arun
from vmlab_tui.base.text import clean_line
from vmlab_tui.images import qemuimg
from vmlab_tui.images.build import sources as apt
from vmlab_tui.images.build.job import Job
from vmlab_tui.spec.recipe import Recipe

OnStage = Callable[[str, str], None]
OnLine = Callable[[str], None]

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "extlinux": "extlinux",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
}
SPACE = 3 << 30
"""Bytes free before a build starts: the root file system, the disk and its conversion, with room."""

_NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
    # the first process of a namespace gets no signals from inside it, and has to reap the orphans
    *("--", "sh", "-c", '"$@"; exit $?', "sh"),
)

_MEMORY_FREE = 6 << 30
_MEMORY = 3 << 30
_KEEP_LINES = 25


@dataclass(frozen=True)
class Built:
    """A finished disk in the staging folder. Sizes in bytes, ``phases`` in seconds."""

    file: Path
    format: str
    virtual_size: int
    disk_size: int
    kernel: str
    source: str
    phases: dict[str, float] = field(default_factory=dict)


def check_needs(recipe: Recipe, folder: Path) -> list[apt.Source]:
    """The archives to build from. Raises Refused naming what is missing, before anything is made."""
    if os.geteuid() != 0:
        raise Refused(
            "building an image needs root (packages are installed in a chroot, and the disk is loop-mounted)",
            hint=f"sudo vmlab image build {recipe.name}",
        )
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=_path())})
    if missing:
        raise Refused(
            f"to build an image this machine lacks {', '.join(missing)}", hint="run script/bootstrap"
        )
    if not Path("/dev/loop-control").exists():
        raise Refused(
            "there are no loop devices here (/dev/loop-control)",
            hint="modprobe loop, or give them to the container",
        )
    free = shutil.disk_usage(folder).free
    if free < SPACE:
        raise Refused(
            f"{folder}: {free >> 20} MiB are free, {SPACE >> 20} MiB are needed", hint="free some space"
        )
    found = apt.sources_for(recipe.suite, apt.read_sources())
    apt.check_keys(recipe.suite, found)
    return found


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class _Listener:
    """Turns the builder's output into stages, and keeps the last lines for an error."""

    def __init__(self, on_line: OnLine, on_stage: OnStage) -> None:
        self.on_line, self.on_stage = on_line, on_stage
        self.last: list[str] = []
        self.failed = self.kernel = self.stage = ""
        self.phases: dict[str, float] = {}
        self._since = time.monotonic()
        self._configured = 0

    def enter(self, stage: str, detail: str = "") -> None:
        """A stage begins, or goes on with another detail; its time counts until the next one."""
        if stage != self.stage:
            self.close()
            self.stage = stage
        self.on_stage(stage, detail)

    def close(self) -> None:
        """The time of the stage in hand is over."""
        moment = time.monotonic()
        if self.stage:
            self.phases[self.stage] = round(self.phases.get(self.stage, 0.0) + moment - self._since, 2)
        self._since, self.stage = moment, ""

    def __call__(self, raw: bytes) -> None:
        line = clean_line(raw, 400).strip()
        if line.startswith("@stage "):
            self.enter(*_split(line.removeprefix("@stage ")))
        elif line.startswith("@failed "):
            self.failed = line.removeprefix("@failed ")
        elif line.startswith("@kernel "):
            self.kernel = line.removeprefix("@kernel ")
        elif line:
            self._say(line)

    def _say(self, line: str) -> None:
        self.last = [*self.last[-_KEEP_LINES:], line]
        self.on_line(line)
        told = re.match(r"I: (running apt-get update|downloading packages|extracting|installing \w+)", line)
        if told:
            self.enter("packages", told[1])
        elif found := re.match(r"Setting up (\S+)", line):
            self._configured += 1
            self.enter("packages", f"setting up {found[1]} ({self._configured})")


_STAGES = ("packages", "settings", "hooks", "file system", "boot loader")


def _split(text: str) -> tuple[str, str]:
    """Stage and detail of a ``@stage`` line."""
    for name in _STAGES:
        if text == name or text.startswith(name + " "):
            return name, text[len(name) :].strip()
    return text.strip(), ""


def _memory() -> int:
    """Bytes for a root in memory; 0 where there is little of it."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
    return _MEMORY if available > _MEMORY_FREE else 0


async def build_disk(recipe: Recipe, staging: Path, on_line: OnLine, on_stage: OnStage) -> Built:
    """Build the recipe's disk as ``staging/disk.qcow2``.

    ``on_line`` gets every line of the programs at work, cleaned; ``on_stage`` a stage and a detail. Raises
    Refused (not root, tools, space, keys: nothing was made) and LabError (a program failed, with its last
    lines; or not done within the recipe's ``timeout``). When this process dies, so does all that it started.
    """
    found = check_needs(recipe, staging)
    deadline = Deadline(recipe.timeout)
    job = Job(
        recipe=recipe,
        sources=tuple(source.line(recipe.suite, recipe.components) for source in found),
        guest_sources=apt.guest_sources(recipe.suite, found, recipe.components),
        apt_settings=await asyncio.to_thread(apt.apt_settings),
        memory=_memory(),
    )
    (staging / "job.json").write_text(job.model_dump_json(by_alias=True))
    (staging / "job.json").chmod(0o600)
    listener = _Listener(on_line, on_stage)
    await _inner(staging, recipe, listener, deadline)
    raw, disk = staging / "disk.raw", staging / "disk.qcow2"
    listener.enter("conversion", "compressing" if recipe.compress else "")
    await qemuimg.convert(raw, "raw", disk, "qcow2", compress=recipe.compress, timeout=deadline.left)
    listener.close()
    raw.unlink()
    (staging / "job.json").unlink()
    seen = await qemuimg.info(disk, "qcow2")
    main = next(source for source in found if source.role == "main")
    return Built(
        disk,
        "qcow2",
        seen.virtual_size,
        seen.actual_size,
        listener.kernel,
        f"mmdebstrap {recipe.suite} from {_shown(main.uri)}",
        listener.phases,
    )


def _shown(uri: str) -> str:
    """A mirror's address without a password in it."""
    return re.sub(r"//[^/@]*@", "//", uri)


async def _inner(staging: Path, recipe: Recipe, listener: _Listener, deadline: Deadline) -> None:
    # when this process dies, the kernel kills unshare; with unshare its child, the first process of the
    # namespace; with that everything in it, and with the last of them mounts and loop device
    try:
        await arun(
            (*_NAMESPACES, sys.executable, "-m", "vmlab_tui.images.build.inner", staging),
            timeout=deadline.left,
            bound=True,
            env={
                "PYTHONPATH": str(Path(vmlab_tui.__file__).parents[1]),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(staging),
                "PATH": _path(),
            },
            on_line=listener,
        )
    except ProgramError as error:
        if error.done is None:
            raise
        what = listener.failed or f"exit status {error.done.status}"
        lines = "".join(f"\n  {line}" for line in _telling(listener.last))
        raise LabError(
            f"building {recipe.name} failed at '{listener.stage or 'start'}': {what}{lines}",
            hint=_advice(listener.last),
        ) from error


def _telling(lines: list[str]) -> list[str]:
    """The lines that say what went wrong; the last ones if none stands out."""
    errors = [line for line in lines if re.match(r"(E:|Err:|dpkg: error|\S+: error)", line)]
    return (errors or lines)[-8:]


def _advice(lines: list[str]) -> str:
    text = "\n".join(lines)
    if re.search(r"Unable to locate package|has no installation candidate", text):
        return "correct the package's name in the recipe"
    if "does not have a Release file" in text:
        return "correct the recipe's suite, or use a mirror in /etc/apt that has it"
    if re.search(
        r"Failed to fetch|Could not (resolve|connect)|Temporary failure|unable to fetch", text, re.IGNORECASE
    ):
        return "check that the mirror in /etc/apt is reached: apt-get update"
    if re.search(r"NO_PUBKEY|not signed|couldn't be verified", text):
        return "apt-get update && apt-get install --only-upgrade debian-archive-keyring"
    if "No space left" in text:
        return "free some space, or choose another store with VMLAB_STORE"
    if re.search(r"failed to setup loop|loop device", text):
        return "a container needs CAP_SYS_ADMIN and /dev/loop* to mount a disk; or build on the host"
    return "see the lines above"
