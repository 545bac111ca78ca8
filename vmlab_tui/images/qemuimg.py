"""qemu-img, always with the format said and under limits."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.proc import ProgramError, arun

FORMATS = ("qcow2", "raw")

# a hostile file may make qemu-img allocate or compute without end: 1 GiB and two minutes of CPU are ample
_LIMITS = ("prlimit", f"--as={1 << 30}", "--cpu=120", "--core=0", "--")


class Info(BaseModel):
    """``qemu-img info``: the file's own header as QEMU reads it. Sizes in bytes."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    format: str
    virtual_size: int = Field(alias="virtual-size")
    actual_size: int = Field(alias="actual-size")
    backing: str | None = Field(None, alias="backing-filename")
    snapshots: dict[str, int] = {}
    """Its internal snapshots by name, and the bytes of memory that each holds."""

    @field_validator("snapshots", mode="before")
    @classmethod
    def _sizes(cls, found: object) -> object:
        return {one["name"]: one["vm-state-size"] for one in found} if isinstance(found, list) else found


def _plain(path: Path) -> str:
    """An absolute path, which qemu-img cannot take for a protocol or an option."""
    return os.path.abspath(path)  # noqa: PTH100 - symlinks stay


def _format(form: str) -> str:
    if form not in FORMATS:
        raise ValueError(f"format {form!r}: qcow2 or raw")
    return form


async def info(path: Path, form: str, *, timeout: float = 30) -> Info:
    """What QEMU reads from ``path`` as ``form``, not following a backing file. Raises LabError."""
    done = await arun(
        [*_LIMITS, "qemu-img", "info", "-U", "--output=json", "-f", _format(form), _plain(path)],
        timeout=timeout,
        bound=True,
    )
    try:
        return Info.model_validate(json.loads(done.out))
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path}: qemu-img info gives no sense") from error


async def check(path: Path, form: str, *, timeout: float = 300) -> None:
    """Raise LabError if the tables of a qcow2 contradict themselves or point outside the file."""
    if _format(form) != "qcow2":
        return
    try:
        await arun(
            [*_LIMITS, "qemu-img", "check", "-q", "-U", "-f", form, _plain(path)],
            timeout=timeout,
            bound=True,
        )
    except ProgramError as error:
        # 3: leaked clusters, which cost space only
        if error.done is None or error.done.status != 3:
            raise LabError(
                f"{path}: the disk is damaged: {error.message}", hint="fetch or make it again"
            ) from error


async def settle(path: Path, *, timeout: float = 300) -> None:
    """Count anew what a copied qcow2 refers to, where the QEMU that had it open kept that in memory.

    Who opens the disk to write does that by itself, but then each time. Raises LabError.
    """
    await arun(
        [*_LIMITS, "qemu-img", "check", "-q", "-r", "all", "-f", "qcow2", _plain(path)],
        timeout=timeout,
        bound=True,
    )


async def create_overlay(
    path: Path, image_path: Path, image_format: str, size: int, *, timeout: float = 30
) -> None:
    """A qcow2 at ``path`` of ``size`` bytes that stands on ``image_path``.

    Raises LabError; then nothing is left.

    Its reference counts are lazy: QEMU keeps them in memory and, where it was killed, makes them anew when it
    opens the disk. Else the first snapshot with memory after going back, which writes over memory that the
    snapshot gone back to shares, is synced twice for each 64 KiB of it: 2 to 12 s for a guest of 1 GiB beside
    0.5 s.
    """
    below = ("-F", _format(image_format), "-b", _plain(image_path))
    try:
        await arun(
            [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                "lazy_refcounts=on",
                *below,
                _plain(path),
                str(size),
            ],
            timeout=timeout,
            bound=True,
        )
    except BaseException:
        path.unlink(missing_ok=True)  # noqa: ASYNC240
        raise


async def convert(
    source: Path,
    form: str,
    target: Path,
    target_format: str = "qcow2",
    *,
    compress: bool = False,
    timeout: float = 1800,
) -> None:
    """Write ``source`` anew as ``target``; blocks of zeros take no room. Raises LabError."""
    how = ["-W", "-m", "4", *(["-c"] if compress else []), "-f", _format(form), "-O", _format(target_format)]
    await arun(["qemu-img", "convert", *how, _plain(source), _plain(target)], timeout=timeout, bound=True)


async def resize(path: Path, form: str, size: int, *, timeout: float = 60) -> None:
    """Make the disk larger; qemu-img refuses to make it smaller. ``size`` in bytes. Raises LabError."""
    await arun(
        ["qemu-img", "resize", "-q", "-f", _format(form), _plain(path), str(size)],
        timeout=timeout,
        bound=True,
    )


async def delete_snapshot(path: Path, name: str, *, timeout: float = 60) -> None:
    """Delete the internal snapshot ``name`` of the qcow2 ``path``, which no QEMU has open. Raises LabError.

    Its backing file is not opened. What is written is not waited for: a power cut may damage the disk.
    """
    # this subcommand takes no format, so that it would look for one itself
    file = {"driver": "file", "filename": _plain(path)}
    image = {"driver": "qcow2", "file": file, "backing": None, "cache": {"no-flush": True}}
    await arun(
        [*_LIMITS, "qemu-img", "snapshot", "-q", "-d", name, f"json:{json.dumps(image)}"],
        timeout=timeout,
        bound=True,
        env={"MALLOC_ARENA_MAX": "1"},  # it discards in many threads, each of which would reserve 64 MiB
    )
