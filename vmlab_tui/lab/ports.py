"""The port registry: which port on 127.0.0.1 belongs to which VM, for the VM's whole life."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store, locked, write_durably
from vmlab_tui.hosts.model import Forward

FIRST, LAST = 22000, 29999
"""Below Linux's ephemeral range (32768 up), so that no outgoing connection sits on one."""


@contextlib.contextmanager
def _registry(store: Store) -> Iterator[dict[str, str]]:
    with locked(store.root / ".ports.lock"):
        yield _load(store)


def _load(store: Store) -> dict[str, str]:
    try:
        data = json.loads(store.ports.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LabError(
            f"{store.ports} is damaged: {error}", hint="restore it, or remove it while no VM exists"
        ) from error
    if data.get("schema", 0) > 1:
        raise LabError(f"{store.ports} was written by a newer vmlab", hint="use that one")
    ports: dict[str, str] = data["ports"]
    return ports


def _save(store: Store, ports: Mapping[str, str]) -> None:
    write_durably(
        store.ports, json.dumps({"schema": 1, "ports": dict(sorted(ports.items()))}, indent=1) + "\n"
    )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _in_order(store: Store) -> Iterator[int]:
    """All ports, from a place on that the store's path gives.

    A registry knows its own store only: two stores that began at the same place would want the same port in
    the moment between asking whether it is free and QEMU's taking it.
    """
    digest = hashlib.sha256(os.fsencode(store.root.resolve())).digest()
    start = FIRST + int.from_bytes(digest[:8]) % (LAST + 1 - FIRST)
    yield from range(start, LAST + 1)
    yield from range(FIRST, start)


def reserve(store: Store, uuid: str, wanted: Mapping[str, int]) -> tuple[Forward, ...]:
    """Reserve a port for each of ``wanted`` (name to guest port) for the VM ``uuid``.

    Asking again gives the same ports. Raises LabError when none is free.
    """
    with _registry(store) as ports:
        held = {owner: int(port) for port, owner in ports.items()}
        forwards = []
        candidates = _in_order(store)
        for name, guest_port in wanted.items():
            owner = f"{uuid}/{name}"
            port = held.get(owner)
            if port is None:
                port = next((at for at in candidates if str(at) not in ports and _free(at)), None)
            if port is None:
                raise LabError(
                    f"no free port between {FIRST} and {LAST} on 127.0.0.1", hint="end runs that keep VMs"
                )
            ports[str(port)] = owner
            forwards.append(Forward(name, port, guest_port))
        if len(ports) > len(held):  # asking again is common, and writing durably is not free
            _save(store, ports)
        return tuple(forwards)


def take_back(store: Store, uuid: str, wanted: Mapping[str, int]) -> tuple[int, ...]:
    """Reserve exactly these ports (by name) for a VM again; returns those that another has by now."""
    with _registry(store) as ports:
        missing = {str(port): f"{uuid}/{name}" for name, port in wanted.items() if str(port) not in ports}
        if missing:
            _save(store, {**ports, **missing})
        return tuple(port for port in wanted.values() if ports.get(str(port), uuid).partition("/")[0] != uuid)


def release(store: Store, uuid: str) -> tuple[int, ...]:
    """Give up every port of a VM; returns them."""
    with _registry(store) as ports:
        gone = tuple(int(port) for port, owner in ports.items() if owner.partition("/")[0] == uuid)
        if gone:
            _save(store, {port: owner for port, owner in ports.items() if int(port) not in gone})
        return gone


def held(store: Store, uuid: str) -> tuple[int, ...]:
    """The ports reserved for a VM."""
    return tuple(int(port) for port, owner in _load(store).items() if owner.partition("/")[0] == uuid)


def all_held(store: Store) -> dict[str, tuple[int, ...]]:
    """Every reserved port by VM uuid. Raises LabError for a damaged registry."""
    found: dict[str, list[int]] = {}
    for port, owner in _load(store).items():
        found.setdefault(owner.partition("/")[0], []).append(int(port))
    return {uuid: tuple(sorted(numbers)) for uuid, numbers in found.items()}
