"""The image store: who may read it, what is in it, and how an image comes and goes.

``images/NAME.json`` is the reference, ``images/NAME-<digest>.qcow2`` the data it points at. Data come before
the reference, the reference goes before the data. A new build of NAME gets a new file;
overlays keep theirs.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import os
import pwd
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.ids import is_name
from vmlab_tui.base.paths import Store, existing, fsync_dir, locked, under, used_bytes, write_durably
from vmlab_tui.images import qemuimg
from vmlab_tui.images.header import BadImage, check_importable, inspect
from vmlab_tui.images.staging import staging

FILE_PLACED = declare("image.file-placed", "the image's file is in place, nothing refers to it")
PUBLISHED = declare("image.published", "the image is published, the note of the work in hand is still there")

_CHUNK = 4 << 20


class Image(BaseModel):
    """An image's sidecar. Sizes in bytes, ``digest`` is SHA-256 (hex) of the file, ``created`` ISO in UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    file: str
    """The file's name in ``images/``."""
    digest: str
    format: Literal["qcow2", "raw"]
    virtual_size: int
    disk_size: int
    recipe: str | None = None
    recipe_hash: str | None = None
    created: str
    source: str = ""
    firmware: Literal["bios", "uefi"] = "bios"
    proven: bool = False
    """Whether it has booted by itself and answered SSH before it was published."""
    user: str = "lab"
    kernel: str = ""
    phases: dict[str, float] = {}
    """Seconds that each phase of its build took."""


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# -- the folders -----------------------------------------------------------------------------------


def open_store(store: Store, qemu_uid: int, qemu_gid: int, *, system: bool) -> Store:
    """Create what is missing and check that QEMU's user gets to the disks; fine to call often.

    Raises Refused when we may not create it, or QEMU's user may not pass, naming the directory and the fix.
    """
    for folder, mode in _modes(store, system=system).items():
        if folder.is_dir():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)  # whatever the umask says
        except PermissionError as error:
            raise _no_permission(store, folder, system=system) from error
    for folder in (store.images, store.vms):
        _check_passage(folder, qemu_uid, qemu_gid)
    return store


def check_store(store: Store, qemu_uid: int, qemu_gid: int, *, system: bool) -> None:
    """Raise Refused where :func:`open_store` would, and where no run could be written. Makes nothing."""
    for folder in _modes(store, system=system):
        near = existing(folder)
        if (near != folder or folder in (store.vms, store.runs)) and not os.access(near, os.W_OK | os.X_OK):
            raise _no_permission(store, folder, system=system)
    for folder in (store.images, store.vms):
        _check_passage(folder, qemu_uid, qemu_gid)


def _modes(store: Store, *, system: bool) -> dict[Path, int]:
    """The store's folders, outer ones first, and the mode that each is made with."""
    modes = {store.root: 0o755, store.images: 0o755, store.vms: 0o711, store.runs: 0o700, store.trash: 0o700}
    modes[store.keys] = 0o700
    return modes if system else dict.fromkeys(modes, 0o700)


def _no_permission(store: Store, folder: Path, *, system: bool) -> Refused:
    fix = "run vmlab as root, or on qemu:///session (--connect qemu:///session)"
    return Refused(
        f"the store {store.root} cannot be used: no permission to write {folder}",
        hint=fix if system else "choose another with VMLAB_STORE",
    )


def _check_passage(folder: Path, uid: int, gid: int) -> None:
    """Raise Refused unless the user ``uid`` can go down every directory to ``folder`` that is there."""
    if uid in (0, os.getuid()) and uid == os.geteuid():
        return
    groups = _groups(uid, gid)
    path = existing(folder.resolve())
    for above in [*reversed(path.parents), path]:
        facts = above.stat()
        if facts.st_uid == uid:
            allowed = facts.st_mode & 0o100
        elif facts.st_gid in groups:
            allowed = facts.st_mode & 0o010
        else:
            allowed = facts.st_mode & 0o001
        if not allowed and uid != 0 and not _has_acl(above):
            raise Refused(
                f"QEMU (user {_user(uid)}) cannot reach {folder}: {above} does not let it pass",
                hint=f"chmod o+x {above}, or put the store elsewhere with VMLAB_STORE",
            )


def _groups(uid: int, gid: int) -> frozenset[int]:
    try:
        return frozenset(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return frozenset({gid})


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _has_acl(path: Path) -> bool:
    """An ACL may allow what the mode does not; what it says we leave to the kernel."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False


# -- looking ---------------------------------------------------------------------------------------


def _sidecar(store: Store, name: str) -> Path:
    if not is_name(name):
        raise UsageError(
            f"'{name[:80]}' cannot name an image", hint="use letters, digits, dot, dash and underscore"
        )
    return store.images / f"{name}.json"


def _read(path: Path) -> Image:
    try:
        raw = json.loads(path.read_bytes())
        if isinstance(raw, dict) and isinstance(raw.get("schema"), int) and raw["schema"] > 1:
            raise LabError(
                f"{path} was written by a newer vmlab", hint="use that one, or build the image again"
            )
        image = Image.model_validate(raw)
    except (ValueError, ValidationError) as error:
        raise LabError(
            f"{path} is damaged", hint=f"build or add the image again, or remove {path}"
        ) from error
    if image.name != path.stem or Path(image.file).name != image.file:
        raise LabError(f"{path} is damaged: it names another image or folder", hint=f"remove {path}")
    return image


def list_images(store: Store) -> list[Image]:
    """Every image by name. Raises LabError for a damaged sidecar: a list with a hole would lie."""
    if not store.images.is_dir():
        return []
    return [_read(path) for path in sorted(store.images.glob("*.json")) if not path.name.startswith(".")]


def scan_images(store: Store) -> tuple[list[Image], dict[str, str]]:
    """Every image by name, and by name why a sidecar cannot be read: for looking, not for deciding."""
    images: list[Image] = []
    problems: dict[str, str] = {}
    try:
        names = sorted(path.name for path in store.images.iterdir())
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        return [], {str(store.images): f"cannot be listed: {error.strerror}"}
    for path in (store.images / name for name in names if name.endswith(".json") and name[0] != "."):
        try:
            images.append(_read(path))
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError as error:
            problems[path.stem] = f"{path} cannot be read: {error.strerror}"
        except LabError as error:
            problems[path.stem] = error.message
    return images, problems


class NoImage(UsageError):
    """There is no image of that name."""


def get_image(store: Store, name: str) -> Image:
    """One image. Raises NoImage (with the nearest name) if there is none, LabError if it is damaged."""
    path = _sidecar(store, name)
    try:
        return _read(path)
    except FileNotFoundError as error:
        known = sorted(found.stem for found in store.images.glob("*.json") if not found.name.startswith("."))
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}" if known else ""
        raise NoImage(
            f"there is no image '{name}' in {store.images}", hint=hint or f"vmlab image build {name}"
        ) from error


def image_file(store: Store, image: Image) -> Path:
    """The image's disk file."""
    return under(store.images, image.file)


def unreferenced(store: Store) -> list[Path]:
    """Disk files that no sidecar points at: former builds that overlays may still stand on."""
    known = {image.file for image in list_images(store)}
    files = [path for form in ("qcow2", "raw") for path in store.images.glob(f"*.{form}")]
    return sorted(path for path in files if path.name not in known)


# -- coming and going ------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex. Blocks: 1 to 3 s a gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note(store: Store, name: str) -> Path:
    return store.images / f".publish-{name}.json"


def file_name(name: str, digest: str, form: str) -> str:
    return f"{name}-{digest[:12]}.{form}"


def publish(store: Store, staged_file: Path, image: Image) -> Image:
    """Make ``staged_file`` (in the same file system) the image ``image.name``, all or nothing.

    The file is renamed, so ``staged_file`` is gone afterwards. Who stands on the former file keeps it. A
    crash half-way leaves a note by which :func:`settle` takes the file away again. Returns the image as
    published.
    """
    with locked(store.images / ".lock"):
        return _publish(store, staged_file, image)


def _publish(store: Store, staged_file: Path, image: Image) -> Image:
    _settle(store)
    name = file_name(image.name, image.digest, image.format)
    image = image.model_copy(update={"file": name})
    target, note = under(store.images, name), _note(store, image.name)
    staged_file.chmod(0o444)
    with staged_file.open("rb") as file:
        os.fsync(file.fileno())
    if not target.exists():
        write_durably(note, json.dumps({"schema": 1, "file": name}))
        staged_file.rename(target)
        fsync_dir(store.images)
        point(FILE_PLACED)
    write_durably(
        _sidecar(store, image.name), image.model_dump_json(by_alias=True, indent=1) + "\n", mode=0o644
    )
    point(PUBLISHED)
    note.unlink(missing_ok=True)
    fsync_dir(store.images)
    staged_file.unlink(missing_ok=True)
    return image


def settle(store: Store) -> None:
    """Finish what a crash left of :func:`publish`: a file that was placed but never referred to goes away."""
    with locked(store.images / ".lock"):
        _settle(store)


def _settle(store: Store) -> None:
    for note in store.images.glob(".publish-*.json"):
        try:
            name = json.loads(note.read_bytes())["file"]
            path = under(store.images, name)
        except (ValueError, KeyError, TypeError, UsageError) as error:
            raise LabError(f"{note} is damaged", hint=f"look at the store and remove {note}") from error
        # never published, so nobody can stand on it; published, so it stays
        if name not in {image.file for image in list_images(store)}:
            path.unlink(missing_ok=True)
        note.unlink()
    fsync_dir(store.images)


async def add_image(store: Store, file: Path, name: str, sha256: str | None = None) -> Image:
    """Copy a disk file into the store as ``name``; the file stays as it is.

    Raises UsageError: name taken or impossible, digest wrong, BadImage; LabError: damaged or no space.
    """
    sidecar, source = _sidecar(store, name), str(await asyncio.to_thread(file.absolute))
    check_importable(file, inspect(file))
    with staging(store.images, name) as work:
        copy = work / "disk"
        digest = await asyncio.to_thread(_copy, file, copy)
        if sha256 is not None and digest != sha256.lower():
            raise UsageError(
                f"{file}: its SHA-256 is {digest}, not {sha256.lower()}",
                hint="fetch it again from a place you trust",
            )
        if sidecar.exists():
            held = get_image(store, name)
            if held.digest == digest:
                return held
            raise UsageError(
                f"there is an image '{name}' already",
                hint=f"choose another --name, or: vmlab image rm {name}",
            )
        # the copy is what counts: the file may have changed since the first look
        header = inspect(copy)
        check_importable(copy, header)
        seen = await qemuimg.info(copy, header.format)
        if seen.virtual_size != header.virtual_size or seen.backing is not None:
            raise BadImage(
                f"{file}: QEMU reads its header in another way than we do", hint="convert it to qcow2"
            )
        await qemuimg.check(copy, header.format)
        image = Image(
            name=name,
            file="",
            digest=digest,
            format="qcow2" if header.format == "qcow2" else "raw",
            virtual_size=header.virtual_size,
            disk_size=seen.actual_size,
            created=now(),
            source=source,
        )
        return publish(store, copy, image)


def _copy(source: Path, target: Path) -> str:
    """Copy with holes kept; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    zeros = bytes(_CHUNK)
    free = shutil.disk_usage(target.parent).free
    if used_bytes(source.stat()) > free:
        raise LabError(
            f"{target.parent}: {free >> 20} MiB free are too few for {source}",
            hint="free some space and try again",
        )
    with source.open("rb") as reading, target.open("xb") as writing:
        length = 0
        for chunk in _chunks(reading.fileno()):
            digest.update(chunk)
            length += len(chunk)
            if chunk == zeros[: len(chunk)]:
                writing.seek(length)
            else:
                writing.write(chunk)
        writing.truncate(length)
    return digest.hexdigest()


def _chunks(handle: int) -> Iterator[bytes]:
    while chunk := os.read(handle, _CHUNK):
        yield chunk
