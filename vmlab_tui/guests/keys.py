"""The lab's own SSH key and the host keys that VMs are given."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import locked, write_durably
from vmlab_tui.base.proc import run


@dataclass(frozen=True)
class UserKey:
    """The lab's key pair: the private key's file (0600) and the public key line."""

    private: Path
    public: str


@dataclass(frozen=True)
class HostKey:
    """A key pair for one VM: the private key in OpenSSH's PEM form and the public key line."""

    private: str
    public: str


def warm_up() -> None:
    """Import the SSH library (0.2 to 0.5 s) now, while there is something else to wait for."""
    import asyncssh  # noqa: F401


def _new(comment: str) -> HostKey:
    # ssh-keygen rather than the SSH library, whose import alone takes thirty times as long
    memory = Path("/dev/shm")  # noqa: S108 - a private folder in it, so that no disk sees the key
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="vmlab-key-") as folder:
        file = Path(folder) / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file])
        return HostKey(private=file.read_text(), public=file.with_suffix(".pub").read_text().strip())


def new_host_key(comment: str = "vmlab") -> HostKey:
    """A fresh ed25519 key pair for one VM. Blocks for some 15 ms."""
    return _new(comment)


def ensure_user_key(folder: Path) -> UserKey:
    """The key pair of the lab whose keys live in ``folder``; made at the first call, by one process only.

    Raises LabError when a key is there that others can read or that cannot be read back.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = folder / "id_ed25519", folder / "id_ed25519.pub"
    if not (private.exists() and public.exists()):
        with locked(folder / ".lock"):
            if not private.exists():
                pair = _new("vmlab")
                write_durably(private, pair.private, mode=0o600)
                write_durably(public, pair.public + "\n", mode=0o644)
            elif not public.exists():
                write_durably(public, _public_of(private) + "\n", mode=0o644)
    if private.stat().st_mode & 0o077:
        raise LabError(f"{private} can be read by others", hint=f"chmod 600 {private}")
    return UserKey(private=private, public=public.read_text().strip())


def _public_of(private: Path) -> str:
    import asyncssh

    try:
        key = asyncssh.read_private_key(private)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise LabError(
            f"{private} is not a private key that can be read: {error}",
            hint="move it away; a new one is made, and VMs made with the old one cannot be entered any more",
        ) from error
    return key.export_public_key("openssh").decode().strip()
