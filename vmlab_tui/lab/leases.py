"""The lease: who made a VM, for which run, kept until when. A file; the truth for all of these."""

from __future__ import annotations

import getpass
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store, write_durably

SCHEMA = 1
FILE = "lease.json"


class PortLease(BaseModel):
    """A forward from 127.0.0.1 to the guest, reserved for the VM's life."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    host_port: int
    guest_port: int


class ForkedFrom(BaseModel):
    """The VM and the snapshot that a fork started from, as they were called then."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uuid: str
    name: str
    snapshot: str


class Lease(BaseModel):
    """``lease.json`` in a VM's directory. Times are ISO 8601 in UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: int = Field(SCHEMA, alias="schema")
    uuid: str
    name: str
    run_id: str
    profile: str
    image: str
    owner: str
    created: str
    expires: str | None = None
    keep: bool = False
    user: str = "lab"
    mac: str = ""
    network: str = "isolated"
    ports: tuple[PortLease, ...] = ()
    forked_from: ForkedFrom | None = None
    """A fork has no run: ``run_id`` is then a name of its own without a directory."""
    adopted: tuple[str, ...] = ()
    """Files outside the VM's directory that are its own since it was adopted."""

    def port(self, name: str) -> int | None:
        """The port on 127.0.0.1 that was reserved under ``name``."""
        return next((port.host_port for port in self.ports if port.name == name), None)

    @property
    def seconds_left(self) -> float | None:
        """Until expiry; negative when past; None without an expiry."""
        return (
            (datetime.fromisoformat(self.expires) - datetime.now(UTC)).total_seconds()
            if self.expires
            else None
        )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def whoami() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def write_lease(store: Store, lease: Lease) -> None:
    """Write durably into the VM's directory, which must exist."""
    text = lease.model_dump_json(by_alias=True, indent=1) + "\n"
    write_durably(store.vm(lease.uuid) / FILE, text)


def keep(store: Store, uuid: str, seconds: float) -> str:
    """Keep a VM for ``seconds`` from now on; returns the expiry. Raises LabError as :func:`read_lease`."""
    until = after(seconds)
    lease = read_lease(store.vm(uuid))
    write_lease(store, lease.model_copy(update={"expires": until, "keep": True}))
    return until


def keep_for_good(store: Store, uuid: str) -> None:
    """Keep a VM until somebody says otherwise. Raises LabError as :func:`read_lease`."""
    lease = read_lease(store.vm(uuid))
    write_lease(store, lease.model_copy(update={"expires": None, "keep": True}))


def read_lease(folder: Path) -> Lease:
    """The lease in a VM directory.

    Raises LabError when it is missing, damaged or of a newer schema: whoever asks must then keep the VM.
    """
    path = folder / FILE
    try:
        data = json.loads(path.read_bytes())
        if isinstance(data, dict) and int(data.get("schema", 0)) > SCHEMA:
            raise LabError(
                f"{path} is of schema {data['schema']}", hint="it was written by a newer vmlab; use that one"
            )
        return Lease.model_validate(data)
    except (OSError, ValueError, ValidationError) as error:
        raise LabError(f"{path} cannot be read: {error}", hint="vmlab leaves this VM alone") from error


def all_leases(store: Store) -> tuple[dict[str, Lease], dict[str, str]]:
    """Every lease of the store by VM uuid, and the problems by directory name where one is unreadable."""
    leases: dict[str, Lease] = {}
    problems: dict[str, str] = {}
    if not store.vms.is_dir():
        return leases, problems
    for folder in sorted(store.vms.iterdir()):
        try:
            lease = read_lease(folder)
        except LabError as error:
            problems[folder.name] = error.message
        else:
            if lease.uuid == folder.name:
                leases[lease.uuid] = lease
            else:
                problems[folder.name] = f"its lease is for {lease.uuid}"
    return leases, problems
