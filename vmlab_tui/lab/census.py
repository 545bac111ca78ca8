"""Everything there is, as a graph of what needs what: libvirt's answers, the store, the watched folders.

Blocks on the file system: call it in a thread. What cannot be read becomes a blind spot, never an absence.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmlab_tui.base.paths import Store
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.census import Naming
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.holders import Ident, Word, ask_kernel, who_holds
from vmlab_tui.lab.naming import Headers
from vmlab_tui.lab.reach import Blind, Edge, Thing, World, bytes_of
from vmlab_tui.lab.sizes import together, weigh

MAX_FILES = 200_000
"""Files looked at in one watched folder; beyond them it counts as not searched."""
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Answer:
    """What one libvirt connection said; ``problem``: why it said nothing. ``own``: it is the lab's."""

    uri: str
    own: bool
    domains: tuple[Naming, ...] = ()
    problem: str = ""


@dataclass
class Part:
    """A thing while the graph is made. ``files``: its plain files, by absolute path."""

    thing: Thing
    files: dict[str, os.stat_result] = field(default_factory=dict)
    plain: frozenset[str] = frozenset()
    """Names of files that are known to be no disks: their content may be a guest's."""


class Graph:
    """Collects things, and finds out to which of them a path leads."""

    def __init__(self, store: Store, headers: Headers) -> None:
        self.store = store
        self.parts: dict[Key, Part] = {}
        self.searched: list[str] = []
        self._edges: dict[Edge, None] = {}
        self._blinds: list[tuple[str, str, frozenset[Key] | None, Key | None]] = []
        self._closed: list[tuple[str, str]] = []
        self._ways: dict[str, bool] = {}
        self._headers = headers
        self._root = os.path.realpath(store.root)
        self._folders: dict[str, Key] = {}
        self._files: dict[str, Key] = {}
        self._idents: dict[Ident, dict[Key, None]] = {}
        self.came_from: list[tuple[str, Key]] = []
        """(where it was, key) of what lies in the trash."""
        self._queue: deque[tuple[str, os.stat_result, Key]] = deque()
        self._read: set[tuple[str, Key]] = set()
        self._reals: dict[str, str] = {}
        self._stats: dict[str, os.stat_result | None] = {}
        self.raw: set[str] = set()
        """What domains name as raw: an unreadable header there says nothing."""
        facts = store.root.stat()
        self.private = facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
        """Whether nobody but root and ourselves gets into the store."""

    def real(self, path: str) -> str:
        """Its real path; a folder is resolved once for all that is asked of it in this look."""
        head, _, last = path.rpartition("/")
        if not head or last in ("", ".", ".."):
            return os.path.realpath(path)
        if (parent := self._reals.get(head)) is None:
            parent = self._reals[head] = os.path.realpath(head)
        full = f"{parent.rstrip('/')}/{last}"
        return os.path.realpath(full) if os.path.islink(full) else full  # noqa: PTH114  # thousands of them

    # -- things ----------------------------------------------------------------------------------

    def add(
        self,
        thing: Thing,
        files: Mapping[str, os.stat_result] | None = None,
        *,
        folders: Iterable[Path | str] = (),
        plain: Iterable[str] = (),
    ) -> None:
        """A thing of ours with its files; what lies below ``folders`` is it as well, existing or not."""
        alone, shares = weigh(files or {})
        thing = replace(thing, frees=alone + together(shares), shares=shares)
        part = self.parts[thing.key] = Part(thing, dict(files or {}), frozenset(plain))
        for folder in folders:
            self._folders[self.real(str(folder))] = thing.key
            self._folders[os.path.normpath(folder)] = thing.key
        for path, facts in part.files.items():
            self._files[self.real(path)] = thing.key
            self._files[path] = thing.key
            self._idents.setdefault((facts.st_dev, facts.st_ino), {})[thing.key] = None
            if path.rpartition("/")[2] not in part.plain:
                self._queue.append((path, facts, thing.key))

    def was_at(self, path: str, key: Key) -> None:
        """What lies in the trash as ``key`` was at ``path``."""
        self.came_from.append((path, key))

    def blind(self, what: str, why: str, hides: frozenset[Key] | None = None, but: Key | None = None) -> None:
        """Something could not be searched; it might use ``hides``, or anything (``but`` itself)."""
        self._blinds.append((clean_line(what, 200), clean_line(why, 300), hides, but))

    def closed(self, what: str, why: str, *, outside: bool = True) -> None:
        """Something of another user's could not be searched: it matters for what others can get at.

        That is everything unless the store is closed to others; then, with ``outside``, what lies outside it.
        """
        if self.private:
            self.searched.append(
                f"not {clean_line(what, 200)} ({clean_line(why, 100)}): it is another user's, "
                "and the store is closed to others"
            )
            if outside:
                self._closed.append((clean_line(what, 200), clean_line(why, 300)))
        else:
            self.blind(what, why)

    def _open_to_others(self, path: str) -> bool:
        """Whether others than root and ourselves may get at a path: no folder above it keeps them out."""
        if path.startswith(f"{self._root}/"):
            return not self.private
        head = os.path.dirname(self.real(path))  # noqa: PTH120
        if head not in self._ways:
            facts = _stat(head)
            shut = facts is not None and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
            self._ways[head] = not shut and (head == "/" or self._open_to_others(head))
        return self._ways[head]

    # -- edges -----------------------------------------------------------------------------------

    def edge(self, user: Key, used: Key, how: str, *, gone: bool = False) -> None:
        if user != used:
            self._edges[Edge(user, used, clean_line(how, 300), gone)] = None

    def need(self, user: Key, path: str, how: str) -> None:
        """``user`` names the file ``path``, which need not exist."""
        if not path.startswith("/") or "\0" in path:
            return
        real = self.real(path)
        owners: dict[Key, None] = {}
        for name in dict.fromkeys((os.path.normpath(path), real)):
            if (key := self._located(name)) is not None:
                owners[key] = None
        if real not in self._stats:  # many stand on the same
            self._stats[real] = _stat(real)
        facts = self._stats[real]
        if facts is not None:
            owners |= self._idents.get((facts.st_dev, facts.st_ino), {})
            if not owners and stat.S_ISREG(facts.st_mode):
                owners[self._foreign(real, facts)] = None
            if stat.S_ISREG(facts.st_mode) and path != real:
                # a relative name in its header is read from where it was opened
                for key in owners:
                    self._queue.append((path, facts, key))
        gone = not owners
        if gone:
            owners |= {
                key: None for place, key in self.came_from if real == place or real.startswith(f"{place}/")
            }
        for key in owners or {("disk", real): None}:
            self.edge(user, key, how, gone=gone and bool(owners))

    def foreign_file(self, path: str, facts: os.stat_result) -> None:
        """A file in a watched folder: of interest if it names others."""
        real = self.real(path)
        if self._located(real) is None and not real.startswith(f"{self._root}/"):
            named = self._headers.named(real, facts)
            if named.refs or named.problem:
                self._foreign(real, facts)

    def _foreign(self, real: str, facts: os.stat_result) -> Key:
        key = ("disk", real)
        if key not in self.parts:
            self.add(Thing(key, real, paths=(real,)), {real: facts})
        return key

    def _located(self, path: str) -> Key | None:
        if (key := self._files.get(path)) is not None:
            return key
        at = path
        while len(at) > 1:
            if (key := self._folders.get(at)) is not None:
                return key
            at = at.rpartition("/")[0]
        return None

    def owners_of(self, path: str) -> tuple[Key, ...]:
        """The things that the file ``path`` is part of, by place and by inode."""
        facts = _stat(path)
        located = self._located(self.real(path))
        found = dict.fromkeys([located] if located else [])
        if facts is not None:
            found |= self._idents.get((facts.st_dev, facts.st_ino), {})
        return tuple(found)

    def users_of(self, key: Key) -> list[Key]:
        """Who is known so far to need it."""
        return [edge.user for edge in self._edges if edge.used == key and edge.user in self.parts]

    # -- the end ---------------------------------------------------------------------------------

    def follow(self) -> None:
        """Read the headers of all files, and of all that these lead to."""
        while self._queue:
            path, facts, key = self._queue.popleft()
            if (path, key) in self._read or not stat.S_ISREG(facts.st_mode):
                continue
            self._read.add((path, key))
            named = self._headers.named(path, facts)
            for how, ref in named.refs:
                self.need(key, ref, f"{how} of {path}")
            if named.problem and path not in self.raw and self.real(path) not in self.raw:
                if facts.st_uid not in (os.geteuid(), 0) and not os.access(path, os.R_OK):
                    self.closed(path, named.problem)
                else:
                    self.blind(path, named.problem, but=key)

    def hold(self, active: frozenset[str], about: Key | None = None) -> None:
        """Who has files open: a VM's own QEMU is the VM, everybody else keeps what it holds.

        ``about``: the only thing that matters. What else may be open then is left out: an item goes only if
        nothing that stays names it, held open or not, and its own files the kernel vouches for.
        """
        word = ask_kernel(self.parts[about].files) if about in self.parts else Word(sure=False)
        if word.free:
            return
        holders = who_holds(self._idents)
        roots: dict[Key, str] = {}
        for holder in holders.found:
            for key in self._idents.get(holder.ident, ()):
                vm = ("vm", holder.vm)
                if holder.vm and vm in self.parts:
                    self.edge(vm, key, f"held open by its {holder.who}")
                elif not (holder.log and key[0] == "vm" and key[1] in active):
                    roots.setdefault(key, f"held open by {holder.who}")
        for ident in word.busy - {holder.ident for holder in holders.found}:
            for key in self._idents.get(ident, ()):
                roots.setdefault(key, "in use by something that cannot be seen")
        for key, why in roots.items():
            self.root(key, why)
        if holders.hidden:
            # of what lies outside, the kernel is asked once more before it goes
            what = f"the open files of {holders.hidden} processes"
            self.closed(what, "they are another user's", outside=about is not None)
        self.searched.append("the open and locked files of this machine's processes but init; loop devices")

    def root(self, key: Key, why: str) -> None:
        """The thing lives, whatever a rule says."""
        part = self.parts[key]
        if not part.thing.root or part.thing.yields:
            part.thing = replace(part.thing, root=clean_line(why, 200), yields=False)

    def world(self) -> World:
        """The graph as a value."""
        everything = frozenset(self.parts)
        blinds = tuple(
            Blind(what, why, everything - {but} if but and hides is None else hides)
            for what, why, hides, but in dict.fromkeys(self._blinds)
        )
        things = {key: part.thing for key, part in self.parts.items()}
        if self._closed:
            places = [(key, path) for key, thing in things.items() if thing.ours for path in thing.paths]
            places += [(key, path) for path, key in self.came_from]
            reached = frozenset(key for key, path in places if self._open_to_others(path))
            blinds += tuple(Blind(what, why, reached) for what, why in dict.fromkeys(self._closed) if reached)
        inside = [thing for key, thing in things.items() if key[0] not in ("disk", "diagnosis")]
        total = bytes_of(inside)
        return World(things, tuple(self._edges), blinds, tuple(dict.fromkeys(self.searched)), total)


# -- looking ---------------------------------------------------------------------------------------


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  # names may be longer than a Path bears
    except (OSError, ValueError):
        return None


def names(folder: Path | str) -> list[str]:
    """What is in a folder, sorted; nothing if there is none. Raises OSError if it cannot be listed."""
    try:
        return sorted(path.name for path in Path(folder).iterdir())
    except FileNotFoundError:
        return []


def files_below(root: Path | str, depth: int = _MAX_DEPTH) -> dict[str, os.stat_result]:
    """Plain files below a folder of ours by absolute path, links not followed. Raises OSError."""
    found: dict[str, os.stat_result] = {}
    waiting = [(str(root), depth)]
    while waiting:
        folder, left = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    if left > 0:
                        waiting.append((entry.path, left - 1))
                    else:
                        raise OSError(0, "folders lie too deep in it", entry.path)
                elif stat.S_ISREG(facts.st_mode):
                    found[entry.path] = facts
                elif stat.S_ISLNK(facts.st_mode):
                    target = _stat(entry.path)
                    if target is not None and stat.S_ISREG(target.st_mode):
                        found[entry.path] = target
    return found


def watched(graph: Graph, folder: Path, *, deep: bool = True) -> None:
    """Look at every file below a foreign folder, links followed. What stays unread is a blind spot.

    Not ``deep``: only at those right in it.
    """
    waiting = [(str(folder), 0)]
    been: set[Ident] = set()
    count = 0
    while waiting:
        at, depth = waiting.pop()
        try:
            facts = os.stat(at)  # noqa: PTH116
            if (facts.st_dev, facts.st_ino) in been or os.path.realpath(at) == os.path.realpath(
                graph.store.root
            ):
                continue
            been.add((facts.st_dev, facts.st_ino))
            found = list(_entries(at))
        except FileNotFoundError:
            continue
        except PermissionError as error:
            graph.closed(f"the folder {at}", error.strerror or "no permission")
            continue
        except OSError as error:
            graph.blind(f"the folder {at}", error.strerror or str(error))
            continue
        for path, one in found:
            count += 1
            if stat.S_ISDIR(one.st_mode):
                if deep and depth >= _MAX_DEPTH:
                    graph.blind(f"the folder {path}", "folders lie too deep in it")
                elif deep:
                    waiting.append((path, depth + 1))
            elif stat.S_ISREG(one.st_mode):
                graph.foreign_file(path, one)
        if count > MAX_FILES:
            graph.blind(f"the folder {folder}", f"it holds more than {MAX_FILES} files")
            break
    graph.searched.append(f"the headers of all disks {'below' if deep else 'right in'} {folder}")


def _entries(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if (facts := _stat(entry.path)) is not None:
                yield entry.path, facts
