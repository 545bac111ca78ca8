"""Names and ids."""

from __future__ import annotations

import re
import secrets
import time
import uuid

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a profile, image, VM or snapshot of ours may be called."""


def is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None and ".." not in text


def new_run_id(profile: str) -> str:
    """``quickstart-20260102-131415-7f3a``: sorts by time within a profile, unique, safe in paths."""
    return f"{profile[:40]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def new_uuid() -> str:
    return str(uuid.uuid4())


def new_mac() -> str:
    """A MAC address in QEMU's own range, 52:54:00."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
