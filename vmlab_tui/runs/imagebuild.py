"""An image from a recipe: built, booted for proof, and only then published in place of the former one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from vmlab_tui import __version__
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.ids import new_mac, new_uuid
from vmlab_tui.base.paths import Locked, Store, locked
from vmlab_tui.base.text import clean
from vmlab_tui.base.units import duration, size
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import ensure_user_key, new_host_key
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.stage import SHORT, Stage
from vmlab_tui.guests.waiting import wait_ready
from vmlab_tui.hosts.accel import choose_accel
from vmlab_tui.hosts.console import ConsoleTail
from vmlab_tui.hosts.failures import NotFound
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Forward, HostFacts, Mark, Power, VmSpec
from vmlab_tui.images import qemuimg
from vmlab_tui.images.build.disk import Built, build_disk, check_needs
from vmlab_tui.images.seed import SeedSpec, write_seed
from vmlab_tui.images.staging import staging
from vmlab_tui.images.store import Image, now, publish, settle, sha256_of
from vmlab_tui.lab.trash import make_store
from vmlab_tui.spec.recipe import Recipe, recipe_hash

STAGED = declare("image.staged", "the staging folder exists, nothing is in it")
BUILT = declare("image.built", "the disk is built, not yet booted")
BOOTED = declare("image.booted", "the new disk runs in a VM that ends with this process")
PROVEN = declare("image.proven", "the new disk has booted and answered; its VM is gone")

OnEvent = Callable[[str], None]
OnStage = Callable[[str, str], None]

_MEMORY = 1 << 30
_LOGIN_PROMPT = 60.0
"""Seconds that the login prompt may come after SSH."""

_PROOF = "sudo -n true || { echo 'sudo asks for a password'; exit 1; }"
_TAIL = 16384


def _nothing(*_: str) -> None: ...


async def build_image(
    store: Store,
    host: Host,
    recipe: Recipe,
    *,
    on_event: OnEvent,
    on_stage: OnStage = _nothing,
    on_line: OnEvent = _nothing,
) -> Image:
    """Build ``recipe``, boot the result under ``host`` until it answers SSH, and publish it.

    ``on_event`` gets one line for people at each change, ``on_stage`` the same as stage and detail,
    ``on_line`` what the programs at work write. Until the end an image of that name stays as it is;
    afterwards its file stays for who stands on it. Raises Refused (not root, a tool or a key missing, another
    build of it at work), LabError and DeadlineError; then nothing is left. Killed at any point it leaves no
    image, mount, loop device or VM, only a staging folder that the next build removes.
    """
    started = time.monotonic()
    facts = await host.facts()
    await asyncio.to_thread(
        make_store, store, facts.qemu_uid, facts.qemu_gid, system=host.uri.endswith("/system")
    )
    await asyncio.to_thread(check_needs, recipe, store.images)
    deadline = Deadline(recipe.timeout)
    with _only_one(store, recipe.name):
        settle(store)
        with staging(store.images, recipe.name) as work:
            point(STAGED)
            said = _Saying(recipe.name, on_event, on_stage)
            built = await build_disk(recipe, work, on_line=on_line, on_stage=said)
            built.file.chmod(0o444)
            point(BUILT)
            digest = asyncio.create_task(asyncio.to_thread(sha256_of, built.file))
            try:
                phases = built.phases | await _prove(store, host, facts, recipe, built, work, deadline, said)
            finally:
                # a thread cannot be cancelled: wait, or the folder vanishes under it
                await asyncio.wait({digest})
            point(PROVEN)
            image = Image(
                name=recipe.name,
                file="",
                digest=digest.result(),
                format="qcow2",
                virtual_size=built.virtual_size,
                disk_size=built.disk_size,
                recipe=recipe.name,
                recipe_hash=recipe_hash(recipe),
                created=now(),
                source=built.source,
                firmware="bios",
                proven=True,
                user=recipe.user,
                kernel=built.kernel,
                phases=phases | {"total": round(time.monotonic() - started, 2)},
            )
            image = await asyncio.to_thread(publish, store, built.file, image)
    told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in image.phases.items())
    on_event(f"image {image.name}: {size(image.disk_size)}; {told}")
    return image


@contextlib.contextmanager
def _only_one(store: Store, name: str) -> Iterator[None]:
    try:
        with locked(store.images / f".build-{name}.lock", wait=False):
            yield
    except Locked as error:
        raise Refused(f"image {name} is being built by another process", hint="wait for it") from error


class _Saying:
    """Stages as lines for people, none twice in a row."""

    def __init__(self, name: str, on_event: OnEvent, on_stage: OnStage) -> None:
        self.name, self.on_event, self.on_stage, self.last = name, on_event, on_stage, ""

    def __call__(self, stage: str, detail: str = "") -> None:
        line = f"image {self.name}: {stage}" + (f": {detail}" if detail else "")
        if line != self.last:
            self.last = line
            self.on_event(line)
            head, _, rest = stage.partition(": ")  # "boot: waiting" goes on with the boot
            self.on_stage(head, ": ".join(part for part in (rest, detail) if part))


async def _prove(
    store: Store,
    host: Host,
    facts: HostFacts,
    recipe: Recipe,
    built: Built,
    work: Path,
    deadline: Deadline,
    said: _Saying,
) -> dict[str, float]:
    """Boot an overlay of the new disk by itself until SSH and the login prompt answer; seconds by phase."""
    folder = work / "proof"
    spec, endpoint = await _proof_vm(store, facts, recipe, built, folder)
    begun = time.monotonic()
    said("boot", spec.name)
    tail = _Tail(spec.console_log)
    async with _running(host, spec):
        point(BOOTED)

        async def alive() -> bool:
            try:
                return await host.power(spec.uuid) in (Power.ON, Power.PAUSED)
            except NotFound:  # without a definition it is gone with its QEMU, which may have crashed
                return False

        def came_to(stage: Stage, detail: str) -> None:
            said(f"boot: {SHORT[stage]}", detail)

        guest = await wait_ready(endpoint, deadline, came_to, tail.text, alive)
        until_ssh = time.monotonic() - begun
        async with guest:
            await _check_guest(guest, deadline)
        said("boot", "waiting for the login prompt on ttyS0")
        prompt = Deadline(min(_LOGIN_PROMPT, deadline.left))
        while "login:" not in tail.text():
            if prompt.expired:
                raise LabError(
                    f"{recipe.name} answers SSH but shows no login prompt on ttyS0",
                    hint="check that kernel_arguments name console=ttyS0,115200",
                )
            await asyncio.sleep(0.2)
    return {"until SSH": round(until_ssh, 2), "proof": round(time.monotonic() - begun, 2)}


async def _check_guest(guest: Guest, deadline: Deadline) -> None:
    done = await guest.execute(_PROOF, timeout=deadline.part(60), user=guest.endpoint.user)
    if done.status:
        said = clean(done.out + done.err).strip()[-300:]
        raise LabError(
            f"{guest.endpoint.label}: the new image is not fit: {said or f'status {done.status}'}",
            hint="look at what the recipe's hooks change",
        )


async def _proof_vm(
    store: Store, facts: HostFacts, recipe: Recipe, built: Built, folder: Path
) -> tuple[VmSpec, Endpoint]:
    uuid = new_uuid()
    name = f"vmlab-proof-{recipe.name[:40]}-{uuid[:8]}"
    await asyncio.to_thread(_private_folder, folder, facts)
    user, key = ensure_user_key(store.keys), new_host_key(name)
    accel = await choose_accel("auto")
    forward = Forward("ssh", _free_port(), 22)
    spec = VmSpec(
        uuid=uuid,
        name=name,
        cpus=min(2, max(1, facts.cpus)),
        memory=_MEMORY,
        accel=accel.accel,
        disk=folder / "disk.qcow2",
        disk_format="qcow2",
        chain=((built.file, built.format),),
        seed=folder / "seed.iso",
        console_log=folder / "console.log",
        mac=new_mac(),
        forwards=(forward,),
        description=f"proof that the image {recipe.name} boots; ends by itself",
        mark=Mark(__version__, f"image-{recipe.name}", str(store.root)),
    )
    await qemuimg.create_overlay(spec.disk, built.file, built.format, built.virtual_size)
    seed = SeedSpec(uuid, name, recipe.user, (user.public,), key.private, key.public)
    write_seed(folder / "seed.iso", seed)
    return spec, Endpoint("127.0.0.1", forward.host_port, recipe.user, user.private, key.public, name)


def _private_folder(folder: Path, facts: HostFacts) -> None:
    """For QEMU's user alone: the seed in it holds the VM's host key."""
    folder.mkdir(mode=0o700)
    if folder.stat().st_uid != facts.qemu_uid:
        os.chown(folder, facts.qemu_uid, facts.qemu_gid)


def _free_port() -> int:
    """A port for a VM that lives a minute: not from the registry, where a crash would leave it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def _running(host: Host, spec: VmSpec) -> AsyncIterator[None]:
    """The VM runs inside, without a definition; when this process dies, libvirt ends it."""
    try:
        await host.start_transient(spec)
        yield
    finally:
        await host.destroy(spec.uuid)


class _Tail:
    """The end of what the console said so far, cleaned."""

    def __init__(self, path: Path) -> None:
        self._tail = ConsoleTail(path)
        self._kept = b""

    def text(self) -> str:
        self._kept = (self._kept + self._tail.read_new())[-_TAIL:]
        return clean(self._kept)
