"""Fixtures for every room: a lab of one's own, images, guests in seconds, and a last look round."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import forked, leftovers
from vmlab_tui.base.paths import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab import Vm
    from vmlab_tui.guests.endpoint import Endpoint
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.images.store import Image

URI = leftovers.URI


@pytest.fixture(scope="session", autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the session if a domain, process, port, mount, loop device or file is there that was not.

    All of them only in script/test, which sets VMLAB_TEST_ALONE: several sessions may share a machine while
    people work, so otherwise only processes of this session count.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, in all that is started too
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and so is this in a shell's background
    os.environ[leftovers.MARK] = secrets.token_hex(8)
    before = leftovers.look()
    yield
    forked.stop()
    alone = os.environ.get("VMLAB_TEST_ALONE") == "1"
    for _ in range(50):
        left = leftovers.look().more_than(before) if alone else leftovers.own_processes()
        if not left:
            return
        time.sleep(0.2)  # a process that was told to end is given ten seconds
    pytest.fail("left behind by the tests:\n  " + "\n  ".join(left), pytrace=False)


@contextlib.contextmanager
def _in_use(store: Store, monkeypatch: pytest.MonkeyPatch, *goes: Path) -> Iterator[Store]:
    """The store for a test; afterwards these folders of it are removed."""
    from tests.support import lab

    monkeypatch.setenv("VMLAB_STORE", str(store.root))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", URI)
    try:
        yield store
    finally:
        working = leftovers.end_workers(store)
        swept = asyncio.run(lab.sweep(store))
        folders = [path.name for path in store.vms.iterdir()] if store.vms.is_dir() else []
        for path in goes:
            shutil.rmtree(path)
    assert not working, f"still at work on the store: {working}"
    assert not swept, f"domains left in the store: {swept}"
    assert not folders, f"VM directories left in the store: {folders}"


@pytest.fixture
def lab_store(nothing_left: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store for `qemu:///system`, also in the environment of what the test starts.

    Afterwards nothing may work on it, no domain may name it and no VM directory may be in it; it is removed
    in any case.
    """
    from tests.support import lab

    store = lab.new_store()
    with _in_use(store, monkeypatch, store.root):
        yield store


@pytest.fixture(scope="module")
def module_store(nothing_left: None) -> Iterator[Store]:
    from tests.support import lab

    store = lab.new_store()
    try:
        yield store
    finally:
        shutil.rmtree(store.root, ignore_errors=True)


@pytest.fixture
def warm_store(module_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Like `lab_store`, but images and templates stay for the tests of a module: its runs start warm."""
    with _in_use(module_store, monkeypatch, module_store.runs, module_store.trash):
        for path in (module_store.runs, module_store.trash):
            path.mkdir(mode=0o700, exist_ok=True)
        yield module_store


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A connection to this machine's libvirt."""
    from vmlab_tui.hosts.host import Host

    async with Host.open(URI) as opened:
        yield opened


def _checked(image: Image, store: Store) -> Iterator[tuple[Store, Image]]:
    from vmlab_tui.images.store import sha256_of

    yield store, image
    assert sha256_of(store.images / image.file) == image.digest, f"the image {image.name} was changed"


@pytest.fixture(scope="session")
def tiny_built() -> Iterator[tuple[Store, Image]]:
    """The tiny guest in a store of the session's; its digest must be the same at the end."""
    from tests.support import lab

    store = lab.new_store()
    try:
        yield from _checked(lab.put_image(store, lab.tiny_image(), lab.tiny_file()), store)
    finally:
        shutil.rmtree(store.root)


@pytest.fixture(scope="session")
def debian_built() -> Iterator[tuple[Store, Image]]:
    """The shipped Debian 12 image, built once per machine and recipe; unchanged at the end."""
    from tests.support import lab

    store, image = lab.debian_image("debian-12")
    yield from _checked(image, store)


@pytest.fixture
def tiny_image(lab_store: Store, tiny_built: tuple[Store, Image]) -> str:
    """The name of the tiny guest's image in `lab_store`."""
    from tests.support import lab

    store, image = tiny_built
    if not (lab_store.images / image.file).exists():
        lab.put_image(lab_store, image, store.images / image.file)
    return image.name


@contextlib.contextmanager
def _store_with(built: tuple[Store, Image]) -> Iterator[tuple[Store, Image]]:
    from tests.support import lab

    source, image = built
    store = lab.new_store()
    try:
        yield store, lab.put_image(store, image, source.images / image.file)
    finally:
        asyncio.run(lab.sweep(store))
        shutil.rmtree(store.root)


@pytest.fixture(scope="session")
def debian_template(debian_built: tuple[Store, Image]) -> Iterator[Vm]:
    """The shipped quickstart's Debian guest, booted once: the tests get forks of its clean boot."""
    from tests.support import lab

    with _store_with(debian_built) as (store, _):
        yield asyncio.run(lab.quickstart(store))


@pytest.fixture(scope="session")
def tiny_template(tiny_built: tuple[Store, Image]) -> Iterator[Vm]:
    """A tiny guest, booted once, for the same."""
    from tests.support import lab

    with _store_with(tiny_built) as (store, image):
        yield asyncio.run(lab.make_template(store, image, memory=192 * 2**20))


async def _forked(host: Host, vm: Vm) -> AsyncIterator[Endpoint]:
    from tests.support import lab

    fork = await lab.fork_of(host, vm)
    try:
        yield fork.endpoint
    finally:
        await lab.remove(host, fork)


@pytest.fixture
async def template(host: Host, debian_template: Vm) -> AsyncIterator[Endpoint]:
    """A running Debian guest of the test's own, up in about three seconds."""
    async for endpoint in _forked(host, debian_template):
        yield endpoint


@pytest.fixture
async def tiny_guest(host: Host, tiny_template: Vm) -> AsyncIterator[Endpoint]:
    """A running tiny guest of the test's own, up in about a second. No systemd, no cloud-init, no bash."""
    async for endpoint in _forked(host, tiny_template):
        yield endpoint
