"""Files into a guest and out of it, as tar over one channel; on a re-run only what changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
import stat
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError, StepError, UsageError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.guests.ssh import Dropped, Guest
from vmlab_tui.guests.untar import Untar

_CHUNK = 1 << 18
_TRIES = 4
_OWNER = re.compile(r"[a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?")

OnProgress = Callable[[int, int, str], None]
"""Bytes done, bytes in all, the present file."""


@dataclass(frozen=True)
class Sent:
    """What a transfer did: files and bytes sent, files that were there already, files deleted."""

    files: int
    bytes: int
    skipped: int
    deleted: int = 0
    left_out: tuple[str, ...] = ()
    """Local things that are neither file, folder nor link."""


@dataclass(frozen=True)
class Fetched:
    """Files written below the local folder, and what was left out and why."""

    files: tuple[str, ...]
    bytes: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Item:
    """One thing to have in the guest, by its path below the target."""

    name: str
    path: Path
    mode: int
    size: int
    mtime: int
    digest: str = ""
    link: str = ""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class _There(NamedTuple):
    """What the guest has: raw mode, owner and digest by name."""

    facts: dict[str, tuple[int, str]]
    folders: set[str]
    digests: dict[str, str]
    all: set[str]
    owner: tuple[int, int] | None


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """As in a .gitignore without subtleties: a pattern is for the whole path or for any one part of it."""
    parts = name.split("/")
    return any(
        fnmatchcase(name, pattern.strip("/")) or any(fnmatchcase(part, pattern.strip("/")) for part in parts)
        for pattern in patterns
    )


def _scan(src: Path, name: str, exclude: Sequence[str]) -> tuple[list[_Item], list[str]]:
    """Everything below ``src`` (links not followed), or ``src`` itself under ``name`` if it is a file."""
    items: list[_Item] = []
    left_out: list[str] = []

    def add(path: Path, name: str) -> None:
        info = path.lstat()
        digest = link = ""
        if stat.S_ISREG(info.st_mode):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            link = str(path.readlink())
        elif not stat.S_ISDIR(info.st_mode):
            left_out.append(name)
            return
        size = info.st_size if digest else 0
        items.append(_Item(name, path, info.st_mode, size, int(info.st_mtime), digest, link))

    if name:
        add(src.resolve(), name)
        return items, left_out
    for folder, subfolders, files in os.walk(src):
        below = Path(folder).relative_to(src)
        kept = [entry for entry in sorted(subfolders) if not _matches(str(below / entry), exclude)]
        subfolders[:] = kept
        for entry in [*kept, *sorted(files)]:
            path = str(below / entry)
            if not _matches(path, exclude):
                add(Path(folder, entry), path)
    items.sort(key=lambda item: item.name)
    return items, left_out


def _target(src: Path, dst: str) -> tuple[str, str]:
    """The folder in the guest, and the name in it if ``src`` is a file. Raises UsageError."""
    if _is_dir(src):
        return "/" + dst.strip("/"), ""
    above, _, last = dst.rpartition("/")
    return "/" + above.strip("/"), last or src.name


def listed(src: Path, dst: str, exclude: Sequence[str]) -> list[tuple[str, int, str, str]]:
    """What :func:`send_tree` would send: (path below the target, raw mode, SHA-256 of a file, link).

    Sorted by path. Blocks: reads every file. Raises OSError, UsageError.
    """
    items, _ = _scan(src, _target(src, dst)[1], exclude)
    return [(item.name, item.mode, item.digest, item.link) for item in items]


# stat -L tells a folder through a link to it, as /lib is on a merged /usr: such a link must not be replaced.
_QUERY = r"""
[ -z "$owner" ] || { u=$(id -u "${owner%%:*}") || exit 66
  case $owner in
    *:*) g=$(sed -n "s/^${owner#*:}:[^:]*:\([0-9]*\):.*/\1/p" /etc/group) ;;
    *) g=$(id -g "$u") ;;
  esac
  [ -n "$g" ] || exit 66; echo "O $u $g"; }
cd "$to" 2>/dev/null || exit 0
if [ -n "$all" ]; then find . ! -type d -print0 | tr '\n\0' '\t\n' | sed 's/^/A /'; fi
xargs -0 sh -c 'stat -c "M %f %u:%g %n" -- "$@"; stat -L -c "L %f - %n" -- "$@"
  for f; do shift; [ ! -f "$f" -o -h "$f" ] || set -- "$@" "$f"; done
  [ $# = 0 ] || sha256sum -- "$@"' sh 2>/dev/null
exit 0
"""


async def _query(
    guest: Guest, to: str, items: list[_Item], owner: str, delete: bool, timeout: float
) -> _There:
    head = f"owner={shlex.quote(owner)} to={shlex.quote(to)} all={'1' if delete else ''}\n"
    # a name that the line-wise answer cannot carry is not asked for, hence sent again each time
    names = b"\0".join(
        b"./" + os.fsencode(item.name) for item in items if not re.search(r"[\n\\]", item.name)
    )
    done = await guest.execute(head + _QUERY, data=names + b"\0" if names else b"", timeout=timeout)
    if done.status == 66:
        raise StepError(f"{guest.endpoint.label}: there is no user or group '{owner}' in the guest")
    if done.status:
        raise LabError(f"{guest.endpoint.label}: cannot look at {to}: {clean_line(done.err)}")
    there = _There({}, set(), {}, set(), None)
    for raw in done.out.split(b"\n"):
        line = os.fsdecode(raw)
        if line.startswith("A ./"):
            there.all.add(line[4:])
        elif line.startswith("O "):
            uid, gid = line[2:].split()
            there = there._replace(owner=(int(uid), int(gid)))
        elif line[:2] in ("M ", "L ") and line.count(" ") >= 3:
            which, mode, ids, name = line.split(" ", 3)
            if which == "M":
                there.facts[name.removeprefix("./")] = (int(mode, 16), ids)
            elif stat.S_ISDIR(int(mode, 16)):
                there.folders.add(name.removeprefix("./"))
        elif re.match(r"[0-9a-f]{64}  \./", line):
            there.digests[line[68:]] = line[:64]
    return there


def _wanted(item: _Item, there: _There, owner: tuple[int, int]) -> bool:
    """Whether to send the item. Folders that exist keep their mode and owner: they may be the system's."""
    if item.is_dir:
        return item.name not in there.folders
    mode, ids = there.facts.get(item.name, (0, ""))
    if item.link:
        return True  # cheaper to send than to compare
    return there.digests.get(item.name) != item.digest or mode != item.mode or ids != f"{owner[0]}:{owner[1]}"


def _header(item: _Item, owner: tuple[int, int]) -> bytes:
    info = tarfile.TarInfo(item.name)
    info.mode, info.size, info.mtime = stat.S_IMODE(item.mode), item.size, item.mtime
    info.uid, info.gid = owner
    if item.is_dir:
        info.type = tarfile.DIRTYPE
    elif item.link:
        info.type, info.linkname = tarfile.SYMTYPE, item.link
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


async def _stream(items: Iterable[_Item], owner: tuple[int, int]) -> AsyncIterator[tuple[str, bytes]]:
    for item in items:
        yield item.name, _header(item, owner)
        if not item.digest:
            continue
        left = item.size
        with item.path.open("rb") as file:
            while left:
                chunk = await asyncio.to_thread(file.read, min(_CHUNK, left))
                if not chunk:
                    raise LabError(f"{item.path} became shorter while it was sent", hint="run it again")
                left -= len(chunk)
                yield item.name, chunk
        yield item.name, b"\0" * (-item.size % 512)
    yield "", b"\0" * 1024


async def _pour(
    guest: Guest, command: str, chunks: AsyncIterator[tuple[str, bytes]], on_chunk: Callable[[str, int], None]
) -> tuple[int | None, bytes]:
    """Run ``command`` with ``chunks`` on its standard input; exit status and its last complaints."""
    said = b""

    async def listen() -> None:
        nonlocal said
        while piece := await process.stderr.read(4096):
            said = (said + piece)[-4096:]

    async with guest.process(command) as process:
        with guest.translated():
            listening = asyncio.create_task(listen())
            try:
                try:
                    async for name, chunk in chunks:
                        process.stdin.write(chunk)
                        await process.stdin.drain()
                        on_chunk(name, len(chunk))
                    process.stdin.write_eof()
                except BrokenPipeError:
                    pass  # tar has given up; it says why
                await process.stdout.read()
                await listening
                await process.wait_closed()
            finally:
                listening.cancel()
        if process.exit_status is None and process.exit_signal is None:
            raise Dropped(f"{guest.endpoint.label}: the SSH connection dropped")
        return process.exit_status, said


def _is_dir(src: Path) -> bool:
    if not src.exists():
        raise UsageError(f"{src} does not exist")
    return src.is_dir()


async def send_tree(
    guest: Guest,
    src: Path,
    dst: str,
    *,
    exclude: Sequence[str] = (),
    delete: bool = False,
    owner: str | None = None,
    on_progress: OnProgress = lambda done, total, name: None,
    timeout: float = 600,
) -> Sent:
    """Make ``dst`` in the guest hold what ``src`` holds.

    A folder's content goes into the folder ``dst``; a file becomes ``dst``, or a file in it when that ends
    with a slash. Only files whose content, mode or owner differ are sent. ``exclude``: glob patterns for
    paths or any part of them. ``delete`` removes files in ``dst`` that are neither in ``src`` nor
    excluded. ``owner``: ``user`` or ``user:group``, root by default. Tried again after a dropped connection.
    Raises UsageError,
    StepError (no such owner, disk full), DeadlineError, LabError.
    """
    if not dst.startswith("/") or ".." in dst.split("/") or "\0" in dst:
        raise UsageError(f"'{clean_line(dst)}' is not an absolute path in the guest")
    if owner and not _OWNER.fullmatch(owner):
        raise UsageError(f"'{clean_line(owner)}' is not an owner", hint="write user or user:group")
    to, name = await asyncio.to_thread(_target, src, dst)
    if delete and name:
        raise UsageError(f"{src} is a file: 'delete' is for folders")
    if delete and to.count("/") < 2:
        raise UsageError(
            f"'delete' with {to} could delete a system's folder", hint="use a folder further down"
        )
    deadline = Deadline(timeout)
    try:
        async with asyncio.timeout(timeout):
            items, left_out = await asyncio.to_thread(_scan, src, name, exclude)
            for last_try in range(_TRIES):
                try:
                    return await _send(
                        guest, to, items, left_out, exclude, delete, owner or "", on_progress, deadline
                    )
                except Dropped:
                    if last_try == _TRIES - 1:
                        raise
                    await guest.close()
                    await asyncio.sleep(0.5 * 2**last_try)
    except TimeoutError as error:
        raise DeadlineError(f"{guest.endpoint.label}: copying {src} not done within {timeout:g} s") from error
    raise AssertionError("unreachable")


async def _send(
    guest: Guest,
    to: str,
    items: list[_Item],
    left_out: list[str],
    exclude: Sequence[str],
    delete: bool,
    owner: str,
    on_progress: OnProgress,
    deadline: Deadline,
) -> Sent:
    there = await _query(guest, to, items, owner, delete, max(1.0, deadline.left))
    ids = there.owner or (0, 0)
    wanted = [item for item in items if _wanted(item, there, ids)]
    files = [item for item in wanted if item.digest]
    total, done = sum(item.size for item in wanted), 0
    # the guest's list has tabs for newlines
    ours = {item.name.replace("\n", "\t") for item in items}
    extra = sorted(name for name in there.all - ours if not _matches(name, exclude))
    kept = sum(bool(item.digest) for item in items) - len(files)

    def count(name: str, length: int) -> None:
        nonlocal done
        # headers and padding are not content; near the end they would count beyond the total
        done = min(total, done + length)
        on_progress(done, total, name)

    on_progress(0, total, "")
    if wanted or (not items and not there.all):
        place = shlex.quote(to)
        command = f"mkdir -p {place} && cd {place} && exec tar -xpf -"
        status, said = await _pour(guest, command, _stream(wanted, ids), count)
        if status:
            lines = clean(said).strip().splitlines()[-3:]
            raise StepError("\n  ".join([f"{guest.endpoint.label}: cannot unpack into {to}", *lines]))
    if extra:
        names = b"\0".join(b"./" + os.fsencode(name) for name in extra)
        gone = await guest.execute(
            f"cd {shlex.quote(to)} && xargs -0 rm -f --", data=names + b"\0", timeout=max(1.0, deadline.left)
        )
        if gone.status:
            raise StepError(f"{guest.endpoint.label}: cannot delete in {to}: {clean_line(gone.err)}")
    on_progress(total, total, "")
    return Sent(len(files), sum(item.size for item in files), kept, len(extra), tuple(left_out))


def shell_glob(pattern: str) -> str:
    """A glob pattern as shell text in which only ``*``, ``?`` and ``[...]`` are special."""
    if not pattern.startswith("/") or ".." in pattern.split("/") or not pattern.isprintable():
        raise UsageError(f"'{clean_line(pattern)}' is not an absolute path or pattern in the guest")
    return re.sub(r"([^A-Za-z0-9/._*?\[\]@%+:,=-])", r"\\\1", pattern)


async def fetch(
    guest: Guest,
    globs: Sequence[str],
    local_dir: Path,
    *,
    on_progress: OnProgress = lambda done, total, name: None,
    limit: int = 256 << 20,
    strip: int = 0,
    timeout: float = 600,
) -> Fetched:
    """Copy what ``globs`` (absolute paths or patterns) match into ``local_dir``, keeping the paths.

    ``strip``: less so many folders at their beginning.

    The guest is not trusted: links, devices and names that lead elsewhere are left out, ``limit`` bytes in
    all. What matched nothing is in ``problems``. ``on_progress`` knows no total (0). Raises UsageError,
    DeadlineError, LabError.
    """
    if not globs:
        return Fetched((), 0, ())
    words = [shell_glob(pattern) for pattern in globs]
    await asyncio.to_thread(local_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    # ./ keeps a name that begins with a dash from being an option
    tests = "\n".join(
        f'n=0; for f in {word}; do [ -e "$f" ] && n=1 && set -- "$@" "./${{f#/}}"; done; '
        f"[ $n = 1 ] || echo {index} >&3"
        for index, word in enumerate(words)
    )
    pack = '[ $# = 0 ] || exec tar -cf - -- "$@" 2>/dev/null'
    command = f"cd / || exit\nset --\nexec 3>&2\n{tests}\nexec 3>&-\n{pack}"
    untar = Untar(local_dir, limit, lambda done, name: on_progress(done, 0, name), strip=strip)
    missing = b""

    async def listen() -> None:
        nonlocal missing
        while piece := await process.stderr.read(4096):
            missing = (missing + piece)[:4096]

    try:
        async with asyncio.timeout(timeout), guest.process(command) as process:
            with guest.translated():
                listening = asyncio.create_task(listen())
                try:
                    while not untar.cut and (chunk := await process.stdout.read(_CHUNK)):
                        await asyncio.to_thread(untar.feed, chunk)
                    if not untar.cut:
                        await listening
                        await process.wait_closed()
                        if process.exit_status is None and process.exit_signal is None:
                            raise Dropped(f"{guest.endpoint.label}: the connection dropped while fetching")
                finally:
                    listening.cancel()
        untar.close()
    except TimeoutError as error:
        raise DeadlineError(f"{guest.endpoint.label}: files not fetched within {timeout:g} s") from error
    finally:
        untar.abandon()
    problems = [
        f"{globs[int(word)]}: nothing there"
        for word in missing.split()
        if word.isdigit() and int(word) < len(globs)
    ]
    return Fetched(tuple(untar.files), untar.bytes, (*problems, *untar.problems))
