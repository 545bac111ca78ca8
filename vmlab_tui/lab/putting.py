"""One thing into the trash and out of it again, step by step, so that a crash anywhere can be put right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.paths import Store, used_bytes
from vmlab_tui.base.proc import arun
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts import keepsake
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.keepsake import Keepsake
from vmlab_tui.hosts.model import Power
from vmlab_tui.images.staging import mounts_below
from vmlab_tui.lab import ports, trash
from vmlab_tui.lab.leases import FILE as LEASE
from vmlab_tui.lab.leases import read_lease
from vmlab_tui.lab.reach import Action, Thing
from vmlab_tui.lab.trash import Entry, KeptDomain, KeptSnapshot

INTENT = declare("clean.intent", "a thing's entry in the trash is written, nothing of it was touched")
SAVED = declare("clean.saved", "a VM's memory is saved, its domain is still defined")
UNDEFINED = declare("clean.undefined", "a VM's domain is gone, its directory is where it was")
MOVED = declare("clean.moved", "one of a thing's files is in the trash, the entry is not closed")
DONE = declare("clean.done", "a thing is in the trash, the entry is closed")
BACK_INTENT = declare("undo.intent", "the entry says that its thing is coming back, nothing has moved")
BACK_MOVED = declare("undo.moved", "the files are back, the domain is not")
BACK_DEFINED = declare("undo.defined", "files and domain are back, the memory is not")
BACK_LOADED = declare("undo.loaded", "the VM stands still with its memory, the entry does not know")
BACK_WOKEN = declare("undo.woken", "the entry knows that the memory was loaded, the VM stands still")
BACK_DONE = declare("undo.done", "everything is back, the entry is still there")

MEMORY = "memory.save"
_SLACK = 10.0
"""Seconds that a disk may be younger than the memory that goes with it: QEMU closes it last."""


async def put_away(
    store: Store, host: Host, thing: Thing, *, batch: str, by: str, why: str, names: Iterable[str] = ()
) -> Entry:
    """Move ``thing`` to the trash, or stop it, whatever its action says; returns the closed entry.

    Raises LabError or OSError; then all is as it was, as far as that could be done.
    """
    ident = trash.new_id()
    uuid = thing.key[1] if thing.key[0] == "vm" else ""
    kept = await keepsake.take(host, uuid) if uuid else None
    stop = thing.action is Action.STOP
    paths = [Path(path) for path in thing.paths] if not stop else []
    paths = [path for path in paths if path.is_symlink() or path.exists()]
    folder = store.vms / uuid if uuid else None
    asleep = kept is not None and (kept.saved or kept.power not in (Power.OFF, Power.CRASHED))
    if asleep and not stop and (folder is None or not folder.is_dir()):
        raise LabError(f"{clean_line(thing.name, 80)} has memory to save, and no directory to save it in")
    entry = Entry(
        id=ident,
        batch=batch,
        key=thing.key,
        name=thing.name,
        why=why,
        by=by,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        moves=trash.moves_for(store, ident, paths),
        domain=_kept(kept) if kept else None,
        memory=str(folder / MEMORY) if asleep and not stop and folder else "",
        stopped=stop,
        size=0 if stop else thing.frees,
        names=tuple(dict.fromkeys(names)),
    )
    await asyncio.to_thread(trash.write_entry, store, entry)
    point(INTENT)
    try:
        return await _go(store, host, entry)
    except (LabError, OSError) as error:
        why_not = error.message if isinstance(error, LabError) else str(error)
        try:
            await bring_back(store, host, entry)
        except (LabError, OSError) as again:
            raise LabError(f"{why_not}; putting it back failed too: {again}", hint="vmlab undo") from error
        raise


async def _go(store: Store, host: Host, entry: Entry) -> Entry:
    if entry.stopped:
        await keepsake.save_for_later(host, entry.key[1])
        point(SAVED)
    else:
        if entry.domain:
            if entry.memory:
                await asyncio.to_thread(_drop, entry.memory)
                await keepsake.save_memory(host, entry.domain.uuid, Path(entry.memory))
            point(SAVED)
            await host.undefine(entry.domain.uuid)
            point(UNDEFINED)
        for move in entry.moves:
            # the last first: what was mounted on or below another one holds that
            for mounted in reversed(await asyncio.to_thread(mounts_below, Path(move.src))):
                await arun(["umount", "--", mounted], timeout=30)
            await asyncio.to_thread(trash.move, move.src, move.dst)
            point(MOVED)
    size = entry.size + await asyncio.to_thread(_memory_bytes, entry)
    closed = entry.model_copy(update={"state": "in", "size": size})
    await asyncio.to_thread(trash.write_entry, store, closed)
    point(DONE)
    return closed


def _memory_bytes(entry: Entry) -> int:
    """What saving the memory has added on the disk."""
    try:
        return used_bytes(Path(entry.place(entry.memory) or entry.memory).stat()) if entry.memory else 0
    except OSError:
        return 0


async def bring_back(store: Store, host: Host, entry: Entry) -> str:
    """Put everything of ``entry`` back where it was, from whatever point it had come to.

    Returns what is not as it was, in words. Raises LabError when something is in the way.
    """
    note = ""
    if entry.domain:
        # libvirt goes on with a call whose caller has died
        await keepsake.settled(host, entry.domain.uuid)
    if entry.state != "woken":
        _nothing_in_the_way(entry)
        if entry.state == "in":
            entry = entry.model_copy(update={"state": "coming"})
            await asyncio.to_thread(trash.write_entry, store, entry)
        point(BACK_INTENT)
        for move in reversed(entry.moves):
            await asyncio.to_thread(_home, move.src, move.dst)
        point(BACK_MOVED)
        if entry.domain and not entry.stopped:
            await keepsake.bring_back(host, _keepsake(entry.domain))
        taken = await asyncio.to_thread(_ports_again, store, entry)
        point(BACK_DEFINED)
        note = await _load(store, host, entry)
        if taken:
            note = f"{note}; another VM has its port {', '.join(map(str, taken))} by now".removeprefix("; ")
    await _go_on(host, entry)
    point(BACK_DONE)
    await asyncio.to_thread(trash.forget, store, entry)
    return note


def _ports_again(store: Store, entry: Entry) -> tuple[int, ...]:
    """Whoever ended its run meanwhile has given its ports up, which are in its definition and snapshots."""
    if entry.key[0] != "vm" or not (store.vms / entry.key[1] / LEASE).is_file():
        return ()
    lease = read_lease(store.vm(entry.key[1]))
    return ports.take_back(store, lease.uuid, {port.name: port.host_port for port in lease.ports})


def _nothing_in_the_way(entry: Entry) -> None:
    for move in entry.moves:
        src, dst = Path(move.src), Path(move.dst)
        if dst.exists() and (src.exists() or src.is_symlink()):
            raise LabError(
                f"{src} is there again, so {clean_line(entry.name, 80)} cannot come back",
                hint=f"move {src} away and try again; nothing was changed",
            )
        if entry.key[0] == "diagnosis" and not src.parent.is_dir():
            raise LabError(f"{src.parent} is not there, which it was a part of", hint="bring that back first")
        if not dst.exists() and not src.exists():
            raise LabError(
                f"{dst} is not there any more: {clean_line(entry.name, 80)} cannot come back whole"
            )


def _home(src: str, dst: str) -> None:
    if Path(dst).exists() or Path(dst).is_symlink():
        parent = Path(src).parent
        if not parent.is_dir():
            parent.mkdir(parents=True)
        trash.move(dst, src)


async def _load(store: Store, host: Host, entry: Entry) -> str:
    """Load the memory, the CPUs standing still; what happened to the disk since forbids it."""
    if not entry.memory or not entry.domain or not await asyncio.to_thread(Path(entry.memory).exists):
        return ""  # it was never saved
    if await keepsake.settled(host, entry.domain.uuid) in (Power.OFF, Power.CRASHED):
        if (note := await asyncio.to_thread(_unfit, Path(entry.memory))) is not None:
            return note
        await keepsake.wake(host, Path(entry.memory))
    point(BACK_LOADED)
    woken = entry.model_copy(update={"state": "woken"})
    await asyncio.to_thread(trash.write_entry, store, woken)
    point(BACK_WOKEN)
    return ""


async def _go_on(host: Host, entry: Entry) -> None:
    if not entry.domain:
        return
    uuid = entry.domain.uuid
    if entry.stopped:
        await host.start(uuid)
        return
    if not entry.memory:
        return
    await asyncio.to_thread(_drop, entry.memory)
    if await host.power(uuid) is not Power.PAUSED:
        return
    if entry.domain.saved:
        await keepsake.save_for_later(host, uuid, running=True)
    elif entry.domain.power == "on":
        await host.resume(uuid)


def _drop(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _unfit(path: Path) -> str | None:
    """Why memory must not be loaded (it is then out of the way); None if it may be."""
    if not _whole(path):
        path.unlink()
        return "its memory was not saved completely; it is off"
    if _younger(path.parent, path):
        aside = path.with_suffix(".stale")
        path.rename(aside)
        return f"it has run since its memory was saved, so it is off; the memory is in {aside}"
    return None


def _whole(path: Path) -> bool:
    """Whether libvirt had finished a file of saved memory: until then its magic says 'Partial'."""
    with path.open("rb") as file:
        return file.read(16) == b"LibvirtQemudSave"


def _younger(folder: Path, memory: Path) -> bool:
    """Whether a disk in ``folder`` was written after the memory was saved."""
    saved = memory.stat().st_mtime + _SLACK
    known = {MEMORY, "lease.json"}
    return any(
        path.stat().st_mtime > saved
        for path in folder.iterdir()
        if path.is_file() and path.name not in known and not path.name.startswith("console.log")
    )


def _kept(kept: Keepsake) -> KeptDomain:
    power: Literal["on", "paused", "off"] = "on"
    if kept.power in (Power.OFF, Power.CRASHED):
        power = "off"
    elif kept.power is Power.PAUSED:
        power = "paused"
    return KeptDomain(
        uuid=kept.uuid,
        name=kept.name,
        xml=kept.xml,
        power=power,
        saved=kept.saved,
        autostart=kept.autostart,
        snapshots=tuple(
            KeptSnapshot(name=name, xml=xml, current=name == kept.current) for name, xml in kept.snapshots
        ),
    )


def _keepsake(kept: KeptDomain) -> Keepsake:
    current = next((one.name for one in kept.snapshots if one.current), "")
    return Keepsake(
        kept.uuid,
        kept.name,
        kept.xml,
        Power.OFF,
        kept.saved,
        kept.autostart,
        tuple((one.name, one.xml) for one in kept.snapshots),
        current,
    )
