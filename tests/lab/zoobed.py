"""The command line on a zoo."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support import forked

LIBVIRT = Path("/var/lib/libvirt/qemu")
"""Where the system's libvirt keeps what belongs to its domains."""


def vmlab(*words: str, code: int = 0) -> dict[str, object]:
    """The JSON document of a command that ends with ``code``."""
    done = forked.run(*words, "--json")
    assert done.returncode == code, (words, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    found: dict[str, object] = json.loads(done.stdout)
    return found


def refused(*words: str, code: int = 3) -> str:
    """What vmlab says when it refuses, and ends with ``code``."""
    done = forked.run(*words)
    assert done.returncode == code, (words, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return done.stderr.decode()


def keys(document: dict[str, object], part: str, **having: object) -> set[str]:
    """The keys of those things in a ``part`` of a document that are ``having`` these values."""
    assert part in document, (document.get("items"), document.get("not_searched"), document.get("unprovable"))
    entries = document[part]
    assert isinstance(entries, list)
    return {entry["key"] for entry in entries if all(entry[name] == value for name, value in having.items())}


def limit(was: str, now: str) -> None:
    """Change the settings: ``was`` becomes ``now``."""
    config = Path(os.environ["VMLAB_CONFIG"]) / "config.yaml"
    config.write_text(config.read_text().replace(was, now))
