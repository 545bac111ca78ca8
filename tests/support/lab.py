"""Stores, images and running guests for tests, made of the rooms' own parts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import forked
from tests.support.tiny import build as tiny
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.ids import new_mac, new_uuid
from vmlab_tui.base.paths import Store
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import ensure_user_key, new_host_key
from vmlab_tui.guests.waiting import wait_ready
from vmlab_tui.hosts.fork import fork
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Accel, Forward, Mark, Power, VmSpec
from vmlab_tui.images.qemuimg import create_overlay
from vmlab_tui.images.seed import SeedSpec, write_seed
from vmlab_tui.images.store import (
    Image,
    get_image,
    image_file,
    list_images,
    now,
    open_store,
    publish,
    sha256_of,
)
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.endpoint import endpoint_of
from vmlab_tui.lab.leases import read_lease
from vmlab_tui.lab.ports import reserve
from vmlab_tui.lab.vmdir import VmDir, make_vm_dir, vm_dir
from vmlab_tui.runs.plan import read_plan
from vmlab_tui.spec.recipe import load_recipe, recipe_hash

URI = "qemu:///system"
PREFIX = "vmlab-test-"
READY = "ready"
"""The template's snapshot."""


def cache_folder() -> Path:
    """Where built guests stay between sessions, see script/test."""
    if chosen := os.environ.get("VMLAB_TEST_CACHE"):
        folder = Path(chosen)
    elif os.geteuid() == 0:
        folder = Path("/var/cache/vmlab-tests")
    else:
        folder = Path(__file__).parents[2] / ".cache/tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _only_one(name: str) -> Iterator[None]:
    """Sessions that start together build a guest once."""
    with (cache_folder() / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tiny_file() -> Path:
    """The tiny guest's disk, built at the first call on this machine, and again if it is not as it was."""
    path = cache_folder() / f"tiny-{tiny.recipe_hash()[:12]}.qcow2"
    note = path.with_suffix(".sha256")
    with _only_one("tiny"):
        if not (path.exists() and note.exists() and note.read_text() == sha256_of(path)):
            tiny.build(path)
            note.write_text(sha256_of(path))
    return path


def tiny_image() -> Image:
    """The sidecar of the tiny guest."""
    path = tiny_file()
    return Image(
        name="tiny",
        file="",
        digest=sha256_of(path),
        format="qcow2",
        virtual_size=tiny.DISK,
        disk_size=path.stat().st_blocks * 512,
        created=now(),
        source="tests/support/tiny",
        proven=True,
    )


def debian_image(recipe: str) -> tuple[Store, Image]:
    """The store in the cache that holds the image of a shipped recipe, built as a user builds it."""
    store = Store(cache_folder() / f"{recipe}-{recipe_hash(load_recipe(recipe))[:12]}")
    with _only_one(recipe):
        built = store.images.is_dir() and recipe in {one.name for one in list_images(store)}
        if built and (image := get_image(store, recipe)).digest != sha256_of(image_file(store, image)):
            shutil.rmtree(store.root)
            built = False
        if not built:
            store.root.mkdir(mode=0o755, exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-m", "vmlab_tui", "image", "build", recipe],
                env={**os.environ, "VMLAB_STORE": str(store.root), "LIBVIRT_DEFAULT_URI": URI},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=900,
            )
            if done.returncode:
                raise RuntimeError(
                    f"vmlab image build {recipe}: exit {done.returncode}\n{done.stderr[-4000:]}"
                )
    return store, get_image(store, recipe)


async def qemu_user() -> tuple[int, int]:
    async with Host.open(URI) as host:
        facts = await host.facts()
        return facts.qemu_uid, facts.qemu_gid


def new_store() -> Store:
    """An empty store that the QEMU user can reach; pytest's own folders are 0700 all the way."""
    store = Store(Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp")))
    store.root.chmod(0o755)
    uid, gid = asyncio.run(qemu_user())
    open_store(store, uid, gid, system=True)
    return store


def put_image(store: Store, image: Image, file: Path) -> Image:
    """Publish ``file`` as ``image`` in ``store``: a second name for the same bytes where that can be."""
    staged = store.images / f".staged-{image.name}"
    try:
        os.link(file, staged)
    except OSError:
        shutil.copyfile(file, staged)
    return publish(store, staged, image)


@dataclass(frozen=True)
class Vm:
    """A guest that answers, and what it was made of."""

    store: Store
    spec: VmSpec
    folder: VmDir
    endpoint: Endpoint
    snapshot: str = READY
    """What forks of it start from."""

    @property
    def uuid(self) -> str:
        return self.spec.uuid


async def make_spec(host: Host, store: Store, image: Image, *, name: str, memory: int, cpus: int = 2) -> Vm:
    """A VM's directory with overlay and seed, ready to define; user networking with SSH forwarded."""
    facts = await host.facts()
    uuid = new_uuid()
    folder = make_vm_dir(store, uuid, uid=facts.qemu_uid, gid=facts.qemu_gid)
    forwards = reserve(store, uuid, {"ssh": 22})
    user, own = ensure_user_key(store.keys), new_host_key()
    source = image_file(store, image)
    await create_overlay(folder.disk, source, image.format, image.virtual_size)
    folder.known_host.write_text(own.public + "\n")
    folder.host_key.write_text(own.private)
    folder.host_key.chmod(0o600)
    write_seed(
        folder.seed,
        SeedSpec(
            instance_id=uuid,
            hostname=name,
            user=image.user,
            authorized_keys=(user.public,),
            host_key_private=own.private,
            host_key_public=own.public,
            extra={},
        ),
    )
    spec = VmSpec(
        uuid=uuid,
        name=f"{name}-{uuid[:8]}",
        cpus=cpus,
        memory=memory,
        accel=Accel.TCG,
        disk=folder.disk,
        disk_format="qcow2",
        chain=((source, image.format),),
        seed=folder.seed,
        console_log=folder.console,
        mac=new_mac(),
        forwards=forwards,
        mark=Mark("test", "template", str(store.root)),
    )
    endpoint = Endpoint("127.0.0.1", forwards[0].host_port, image.user, user.private, own.public, spec.name)
    return Vm(store, spec, folder, endpoint)


async def wait_for(host: Host, vm: Vm, seconds: float = 600) -> None:
    """Until the guest lets the lab's key in."""

    async def alive() -> bool:
        return await host.power(vm.uuid) in (Power.ON, Power.PAUSED)

    def console() -> str:
        with contextlib.suppress(OSError):
            return "\n".join(vm.folder.console.read_text(errors="replace").splitlines()[-8:])
        return ""

    guest = await wait_ready(vm.endpoint, Deadline(seconds), lambda stage, detail: None, console, alive)
    await guest.close()


async def make_template(store: Store, image: Image, *, memory: int) -> Vm:
    """Boot ``image`` once, keep its memory in the snapshot :data:`READY`, stop it."""
    async with Host.open(URI) as host:
        vm = await make_spec(host, store, image, name=f"template-{image.name}", memory=memory, cpus=1)
        await host.define(vm.spec)
        await host.start(vm.uuid)
        await wait_for(host, vm)
        await host.create_snapshot(vm.uuid, READY)
        await host.destroy(vm.uuid)
        return vm


async def quickstart(store: Store) -> Vm:
    """The VM of the shipped quickstart, run to its end and then stopped; forks start from its clean boot.

    With one CPU: an emulated guest takes a fifth less of the processors than with two, and others need them.
    """
    words = ["run", "quickstart", "--on-pass", "keep", "--set", "vm.accel=tcg", "--set", "vm.cpus=1"]
    env = {"VMLAB_STORE": str(store.root), "LIBVIRT_DEFAULT_URI": URI, "CI": ""}
    done = await asyncio.to_thread(forked.run, *words, env=env, timeout=900)
    if done.returncode:
        raise RuntimeError(f"vmlab {' '.join(words)}: exit {done.returncode}\n{done.stderr.decode()[-4000:]}")
    (folder,) = store.runs.iterdir()
    plan = read_plan(folder)
    vm, owned = plan.vm, vm_dir(store, plan.vm.uuid)
    lease = read_lease(owned.path)
    spec = VmSpec(
        uuid=vm.uuid,
        name=vm.name,
        cpus=vm.cpus,
        memory=vm.memory,
        accel=Accel(vm.accel),
        disk=owned.disk,
        disk_format="qcow2",
        chain=((plan.image.file, plan.image.format),),
        seed=owned.seed,
        console_log=owned.console,
        mac=vm.mac,
        forwards=tuple(Forward(one.name, one.host_port, one.guest_port) for one in lease.ports),
        mark=Mark("test", plan.run_id, str(store.root)),
    )
    async with Host.open(URI) as host:
        await host.destroy(vm.uuid)
    return Vm(store, spec, owned, endpoint_of(Lab(URI, store), vm.uuid), "clean-boot")


async def fork_of(host: Host, template: Vm) -> Vm:
    """A new VM that goes on where the template's snapshot is; same keys, ports of its own."""
    facts = await host.facts()
    uuid = new_uuid()
    folder = make_vm_dir(template.store, uuid, uid=facts.qemu_uid, gid=facts.qemu_gid)
    shutil.copyfile(template.folder.seed, folder.seed)
    forwards = reserve(template.store, uuid, {"ssh": 22})
    spec = replace(
        template.spec,
        uuid=uuid,
        name=f"fork-{uuid[:8]}",
        disk=folder.disk,
        seed=folder.seed,
        console_log=folder.console,
        forwards=forwards,
    )
    vm = Vm(
        template.store, spec, folder, replace(template.endpoint, port=forwards[0].host_port, vm=spec.name)
    )
    try:
        await fork(host, template.uuid, template.snapshot, spec)
        await wait_for(host, vm)
    except BaseException:
        await remove(host, vm)
        raise
    return vm


async def remove(host: Host, vm: Vm) -> None:
    """Stop, forget and delete a VM made here."""
    await host.destroy(vm.uuid)
    await host.undefine(vm.uuid)
    shutil.rmtree(vm.folder.path)


async def sweep(store: Store) -> list[str]:
    """Remove every domain whose XML names ``store``; returns their names."""
    swept = []
    async with Host.open(URI) as host:
        for domain in await host.domains():
            if any(path.is_relative_to(store.root) for path in (*domain.disks, *domain.files)):
                await host.destroy(domain.uuid)
                await host.undefine(domain.uuid)
                swept.append(domain.name)
    return swept
