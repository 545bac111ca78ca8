"""The NoCloud seed: a small ISO labelled ``cidata`` that cloud-init reads at the first boot."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycdlib

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.paths import write_durably

RESERVED = frozenset({"users", "ssh_keys", "ssh_authorized_keys", "disable_root", "ssh_deletekeys"})
"""Keys of user-data that are vmlab's: who may log in, and how the guest proves who it is."""
_HEAD = "#cloud-config\n"
_FILES = ("user-data", "meta-data", "network-config")
_LONGEST = 16 << 20


@dataclass(frozen=True)
class SeedSpec:
    """What a guest is told. Keys are OpenSSH texts; ``extra`` is merged into user-data, its keys winning."""

    instance_id: str
    hostname: str
    user: str
    authorized_keys: tuple[str, ...]
    host_key_private: str
    host_key_public: str
    extra: Mapping[str, Any] = field(default_factory=dict)


def user_data(spec: SeedSpec) -> str:
    """``#cloud-config`` and JSON, which is YAML too. Raises UsageError if ``extra`` sets a reserved key."""
    if taken := sorted(RESERVED & spec.extra.keys()):
        raise UsageError(
            f"cloud_init may not set {', '.join(taken)}",
            hint="vmlab makes the login user and the host key; add users in a step",
        )
    user = {
        "name": spec.user,
        # a string: cloud-init 22.4 reports a list as an error
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": True,
        "ssh_authorized_keys": list(spec.authorized_keys),
    }
    data = {
        "hostname": spec.hostname,
        "manage_etc_hosts": "localhost",
        "ssh_pwauth": False,
        **spec.extra,
        "users": [user],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": spec.host_key_private, "ed25519_public": spec.host_key_public},
    }
    return f"{_HEAD}{json.dumps(data, indent=1)}\n"


def meta_data(spec: SeedSpec) -> str:
    return json.dumps({"instance-id": spec.instance_id, "local-hostname": spec.hostname}) + "\n"


def network_config() -> str:
    """DHCP on every Ethernet card, whatever its address: a fork of the VM has another one."""
    cards = {"vmlab": {"match": {"name": "e*"}, "dhcp4": True}}
    return json.dumps({"version": 2, "ethernets": cards}) + "\n"


def write_seed(path: Path, spec: SeedSpec) -> None:
    """Write the ISO, 0600 (it holds the VM's host key). Raises UsageError as :func:`user_data` does."""
    _write(path, user_data(spec), meta_data(spec), network_config())


def reseed(source: Path, target: Path, *, hostname: str, host_key_private: str, host_key_public: str) -> None:
    """Write the seed ``source`` of ours anew as ``target``, for a fork of its VM.

    The instance id stays: for cloud-init the fork is an instance that has been set up already, and only what
    it does at every boot is done again, with the new name. Raises LabError if ``source`` cannot be read.
    """
    user, meta, network = _read(source)
    user.pop("fqdn", None)  # the old name in full
    user["hostname"] = meta["local-hostname"] = hostname
    user["ssh_keys"] = {"ed25519_private": host_key_private, "ed25519_public": host_key_public}
    _write(target, f"{_HEAD}{json.dumps(user, indent=1)}\n", json.dumps(meta) + "\n", network)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """User-data, meta-data and network-config of a seed of ours. Raises LabError."""
    found: list[str] = []
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError("too large for a seed")
        iso = pycdlib.PyCdlib()
        iso.open(str(path))
        try:
            for name in _FILES:
                out = io.BytesIO()
                iso.get_file_from_iso_fp(out, joliet_path=f"/{name}")
                found.append(out.getvalue().decode())
        finally:
            iso.close()
        user, meta = (json.loads(text.removeprefix(_HEAD)) for text in found[:2])
        if not isinstance(user, dict) or not isinstance(meta, dict):
            raise ValueError("not a seed of vmlab's")
    except (OSError, ValueError, pycdlib.pycdlibexception.PyCdlibException) as error:
        raise LabError(f"{path}: the seed cannot be read: {error}") from error
    return user, meta, found[2]


def _write(path: Path, *texts: str) -> None:
    iso = pycdlib.PyCdlib()
    try:
        iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
        for number, (name, text) in enumerate(zip(_FILES, texts, strict=True)):
            raw = text.encode()
            iso.add_fp(
                io.BytesIO(raw),
                len(raw),
                f"/FILE{number}.;1",
                rr_name=name,
                joliet_path=f"/{name}",
                file_mode=0o100444,
            )
        out = io.BytesIO()
        iso.write_fp(out)
    finally:
        iso.close()
    write_durably(path, out.getvalue(), mode=0o600)
