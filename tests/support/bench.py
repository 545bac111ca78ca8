"""What benches on the shipped Debian have in common: a store of their own, a way in that is not vmlab's."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tests.support import lab
from vmlab_tui.base.paths import Store


@contextmanager
def debian_store() -> Iterator[Store]:
    """A new store with the shipped Debian 12 in it; at the end it is removed with every VM of it."""
    source, image = lab.debian_image("debian-12")
    store = lab.new_store()
    try:
        lab.put_image(store, image, source.images / image.file)
        yield store
    finally:
        asyncio.run(lab.sweep(store))
        shutil.rmtree(store.root)


def moment(event: dict[str, object]) -> float:
    """When an event of a run was written, in seconds since 1970."""
    return datetime.fromisoformat(str(event["time"])).timestamp()


def openssh(store: Store, uuid: str, hosts: Path, command: str) -> list[str | Path]:
    """The words that run ``command`` in a VM by OpenSSH's own client; its pin is written to ``hosts``."""
    lease = json.loads((store.vm(uuid) / "lease.json").read_text())
    port = next(one["host_port"] for one in lease["ports"] if one["name"] == "ssh")
    hosts.write_text(f"[127.0.0.1]:{port} {(store.vm(uuid) / 'known_host').read_text()}")
    return [
        "ssh", "-F", "/dev/null", "-i", store.keys / "id_ed25519", "-p", str(port),
        "-o", f"UserKnownHostsFile={hosts}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
        "-o", "ConnectTimeout=30", "lab@127.0.0.1", command,
    ]  # fmt: skip
