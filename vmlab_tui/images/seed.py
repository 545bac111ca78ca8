"""The NoCloud seed: a small ISO labelled ``cidata`` that cloud-init reads at the first boot."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycdlib

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import write_durably

RESERVED = frozenset({"users", "ssh_keys", "ssh_authorized_keys", "disable_root", "ssh_deletekeys"})
"""Keys of user-data that are vmlab's: who may log in, and how the guest proves who it is."""


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
    return "#cloud-config\n" + json.dumps(data, indent=1) + "\n"


def meta_data(spec: SeedSpec) -> str:
    return json.dumps({"instance-id": spec.instance_id, "local-hostname": spec.hostname}) + "\n"


def network_config() -> str:
    """DHCP on every Ethernet card, whatever its address: a fork of the VM has another one."""
    cards = {"vmlab": {"match": {"name": "e*"}, "dhcp4": True}}
    return json.dumps({"version": 2, "ethernets": cards}) + "\n"


def write_seed(path: Path, spec: SeedSpec) -> None:
    """Write the ISO, 0600 (it holds the VM's host key). Raises UsageError as :func:`user_data` does."""
    files = {
        "user-data": user_data(spec),
        "meta-data": meta_data(spec),
        "network-config": network_config(),
    }
    iso = pycdlib.PyCdlib()
    try:
        iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
        for number, (name, text) in enumerate(files.items()):
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
