"""Carrying out a plan, and taking it back: intent first, the state read again before each item, one lock.

Every step is found again after a crash from the entry in the trash; :meth:`Cleaner.recover` puts back what
was half-done, and the next look decides about it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import Locked, Store, locked
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab import console, ports, putting, trash
from vmlab_tui.lab.cleanup import Item, Plan, make_plan, undo_order
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.parts import RUN_LOCK
from vmlab_tui.lab.proof import reason, title
from vmlab_tui.lab.reach import Action, Edge, Judgement, Thing, World, judge
from vmlab_tui.lab.scan import Scanner
from vmlab_tui.lab.trash import Entry

LOOKED = declare("clean.looked", "the state was read again under the lock, and the item still stands")
EMPTIED = declare("clean.emptied", "a thing from the trash is deleted, its ports are still reserved")
LOCK = ".clean.lock"
_MAKES_ROOM = (Action.FREE, Action.EMPTY)
"""What is done without writing anything down first."""


@dataclass(frozen=True)
class Result:
    """What became of one item. ``state``: done, skipped, failed or back (moved, and put back at once)."""

    thing: Thing
    state: str
    why: str = ""
    entry: str = ""


@dataclass(frozen=True)
class Recovered:
    """Something that a crash had left half-done, in words; ``batch``: of the clean-up that it is part of."""

    text: str
    batch: str = ""


OnResult = Callable[[Result], None]


class Cleaner:
    """Carries out plans on one lab. ``adjust``: what a person has asked for, applied to every look."""

    def __init__(
        self, scanner: Scanner, host: Host, by: str, adjust: Callable[[World], World] = lambda world: world
    ) -> None:
        self._scanner, self._host, self._by, self._adjust = scanner, host, by, adjust
        self._store = scanner.lab.store

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        held = locked(self._store.root / LOCK)
        await asyncio.to_thread(held.__enter__)
        try:
            yield
        finally:
            held.__exit__(None, None, None)

    async def look(self, about: Key | None = None) -> Judgement:
        """The lab as it is now, judged. ``about``: the one thing that will be decided upon by it."""
        return judge(self._adjust(await self._scanner.look(self._host, about)))

    # -- after a crash ---------------------------------------------------------------------------

    async def recover(self) -> list[Recovered]:
        """Finish what a crash has left: deletions go on, all else is put back. What was done, in words.

        Back comes also what lies in the trash and is in use outside it: who would have seen that is dead.
        Raises LabError where something is in the way; nothing is lost then, and the next call tries again.
        """
        said: list[Recovered] = []
        async with self._locked():
            await asyncio.to_thread(_ready, self._store)
            for ident in await asyncio.to_thread(trash.sweep, self._store):
                said.append(Recovered(f"finished emptying {ident} from the trash"))
            for folder in _unwritten(self._store.trash):
                folder.rmdir()  # its entry was never written, so nothing was done
            entries, _ = trash.list_entries(self._store)
            for entry in reversed(entries):
                if entry.state != "in":
                    await putting.bring_back(self._store, self._host, entry)
                    name = clean_line(entry.name, 80)
                    text = f"put {name} back, which was half-way to the trash or out of it"
                    said.append(Recovered(text, entry.batch))
            said += [Recovered(text) for text in await self._bring_back_used(entries)]
        return said

    async def _bring_back_used(self, entries: Iterable[Entry]) -> list[str]:
        if not any(entry.state == "in" and entry.moves for entry in entries):
            return []
        said: list[str] = []
        world = (await self.look()).world
        used = _used_outside(world)
        for key in undo_order(world, used):
            name = title(world.things[key])
            edge = used.get(key)
            why = f"{title(world.things[edge.user])}: {edge.how}" if edge else "what came back stands on it"
            try:
                await putting.bring_back(self._store, self._host, self._entry(key[1]))
                said.append(f"put {name} back, which is in use: {why}")
            except LabError as error:  # it blocks nothing else, and stays where it is
                said.append(f"{name} is in use ({why}), and did not come back: {error.message}")
        return said

    # -- forward ---------------------------------------------------------------------------------

    async def carry_out(self, plan: Plan, on_result: OnResult = lambda _result: None) -> list[Result]:
        """Do what ``plan`` says, item by item; what has changed since is skipped with the reason.

        Never raises for one item. What somebody began to use in the instant in which it was moved comes back.
        """
        batch = trash.new_id()
        results: list[Result] = []
        moved: list[int] = []
        async with self._scanner.staying():
            for item in trash.by_room(self._store, plan.items, lambda item: item.thing.action in _MAKES_ROOM):
                async with self._locked():
                    with self._publishing(item.thing):
                        judgement = await self.look(item.key)
                        while await self._put_back_used(judgement, results, moved, on_result):
                            judgement = await self.look(item.key)  # what came back may need the next one
                        result = await self._one(judgement, item, batch)
                    if result.state == "done" and result.entry:
                        moved.append(len(results))
                    elif result.state == "done":
                        await asyncio.to_thread(trash.keep_reserve, self._store)
                    results.append(result)
                    on_result(result)
            if moved:
                async with self._locked():
                    # with nothing taken as read
                    while moved and await self._put_back_used(await self.look(), results, moved, on_result):
                        pass
        await asyncio.to_thread(trash.keep_reserve, self._store)
        return results

    async def _put_back_used(
        self, judgement: Judgement, results: list[Result], moved: list[int], on_result: OnResult
    ) -> bool:
        """Bring back what was moved and is in use, after what it stands on itself; whether there was any."""
        world = judgement.world
        by_key: dict[Key, int] = {("trash", results[at].entry): at for at in moved}
        used = {key: edge for key, edge in _used_outside(world).items() if key in by_key}
        for key in undo_order(world, used):
            if (at := by_key.get(key)) is None:
                continue  # an earlier clean-up's: recover() tells of it
            moved.remove(at)
            why = "what came to be in use in the same moment stands on it"
            if edge := used.get(key):
                user = title(world.things[edge.user])
                why = f"{user} came to stand on it in the same moment ({edge.how})"
            try:
                await putting.bring_back(self._store, self._host, self._entry(results[at].entry))
                results[at] = Result(results[at].thing, "back", why)
            except LabError as error:
                results[at] = replace(results[at], state="failed", why=f"{why}, and: {error.message}")
            on_result(results[at])
        return bool(used)

    async def _one(self, judgement: Judgement, item: Item, batch: str) -> Result:
        now = judgement.world.things.get(item.key)
        if now is None:
            return Result(item.thing, "skipped", "it is not there any more")
        again = make_plan(judgement, [item.key])
        if not again.items:
            return Result(item.thing, "skipped", again.skipped[0][1] if again.skipped else "it is needed now")
        if (now.stamp, now.rule, now.action) != (item.thing.stamp, item.thing.rule, item.thing.action):
            return Result(item.thing, "skipped", "it has changed since the plan was made")
        point(LOOKED)
        try:
            with self._claimed(now):
                return await self._do(judgement, now, batch)
        except Locked as error:
            return Result(now, "skipped", error.message)
        except (LabError, OSError) as error:
            return Result(now, "failed", clean_line(trash.told(error), 300))

    @contextlib.contextmanager
    def _publishing(self, thing: Thing) -> Iterator[None]:
        """While an image or a template may go, none is put in place: files come before what points there."""
        images = self._store.images
        folder = {"image": images, "file": images, "template": self._store.templates}
        with contextlib.ExitStack() as held:
            if (place := folder.get(thing.key[0])) is not None:
                held.enter_context(locked(place / ".lock"))
            yield

    @contextlib.contextmanager
    def _claimed(self, thing: Thing) -> Iterator[None]:
        """Hold its run's lock, so that no worker takes it up meanwhile, or its console's. Raises Locked."""
        with contextlib.ExitStack() as held:
            if thing.key[0] == "console":
                held.enter_context(locked(self._store.vm(thing.key[1]) / console.LOCK, wait=False))
            run = thing.key[1] if thing.key[0] in ("run", "socket") else thing.run
            if run and self._store.run(run).is_dir():
                try:
                    held.enter_context(locked(self._store.run(run) / RUN_LOCK, wait=False))
                except Locked as error:
                    raise Locked(f"run {run} has a worker") from error
            yield

    async def _do(self, judgement: Judgement, thing: Thing, batch: str) -> Result:
        match thing.action:
            case Action.FREE:
                await asyncio.to_thread(trash.with_reserve, self._store, lambda: _free(self._store, thing))
                return Result(thing, "done")
            case Action.EMPTY:
                entry = self._entry(thing.key[1])
                await asyncio.to_thread(trash.delete, self._store, entry)
                point(EMPTIED)
                if entry.key[0] == "vm":
                    release = partial(ports.release, self._store, entry.key[1])
                    await asyncio.to_thread(trash.with_reserve, self._store, release)
                return Result(thing, "done")
            case _:
                names = tuple(
                    path
                    for edge in judgement.world.uses.get(thing.key, ())
                    if edge.used in judgement.world.things
                    for path in judgement.world.things[edge.used].paths
                )
                why = reason(judgement, thing.key)
                entry = await putting.put_away(
                    self._store, self._host, thing, batch=batch, by=self._by, why=why, names=names
                )
                return Result(thing, "done", entry=entry.id)

    def _entry(self, ident: str) -> Entry:
        return trash.read_entry(trash.folder_of(self._store, ident))

    # -- back ------------------------------------------------------------------------------------

    async def undo(self, entries: Iterable[str], on_result: OnResult = lambda _result: None) -> list[Result]:
        """Bring these entries back, and what else in the trash they stand on, before them."""
        results: list[Result] = []
        async with self._locked():
            world = (await self.look()).world
            order = undo_order(world, [("trash", ident) for ident in entries])
            failed: set[Key] = set()
            for key in order:
                thing = world.things[key]
                needs = [edge.used for edge in world.uses.get(key, ()) if edge.used in failed]
                if needs:
                    result = Result(thing, "skipped", f"{world.things[needs[0]].name} did not come back")
                else:
                    try:
                        note = await putting.bring_back(self._store, self._host, self._entry(key[1]))
                        result = Result(thing, "done", note)
                    except (LabError, OSError) as error:
                        failed.add(key)
                        why = error.message if isinstance(error, LabError) else str(error)
                        result = Result(thing, "failed", clean_line(why, 300))
                results.append(result)
                on_result(result)
        return results


def _used_outside(world: World) -> dict[Key, Edge]:
    """What lies in the trash and is named, where it was, by something that does not: by key, who names it."""
    return {
        edge.used: edge
        for edge in world.edges
        if edge.gone and edge.user in world.things and not world.things[edge.user].trash
    }


def _ready(store: Store) -> None:
    if not store.trash.is_dir():
        store.trash.mkdir(mode=0o700)
    trash.keep_reserve(store)


def _unwritten(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not any(path.iterdir())]


def _free(store: Store, thing: Thing) -> None:
    match thing.key[0]:
        case "ports":
            ports.release(store, thing.key[1])
        case "socket" | "console":
            Path(thing.paths[0]).unlink(missing_ok=True)
        case _:
            Path(thing.paths[0]).rmdir()  # which refuses if there is anything in it
