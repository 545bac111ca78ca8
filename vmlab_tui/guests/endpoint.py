"""Where a guest answers SSH and how it proves that it is the right one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmlab_tui.base.errors import LabError

HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


@dataclass(frozen=True)
class Endpoint:
    """One guest's SSH server.

    ``key`` is the lab's private key file. ``host_key`` is the public key line (``ssh-ed25519 AAAA...``) that
    the guest must present: nobody logs in anywhere else. ``vm`` names the machine in messages.
    """

    host: str
    port: int
    user: str
    key: Path
    host_key: str
    vm: str = ""

    @property
    def label(self) -> str:
        return self.vm or f"{self.host}:{self.port}"

    @property
    def pin(self) -> str:
        """``type base64`` of the pinned host key, without a comment.

        Raises LabError when there is none or it is not one plain public key: an empty pin would make an SSH
        library fall back to somebody else's known_hosts.
        """
        words = self.host_key.split()
        if len(words) < 2 or words[0] not in HOST_KEY_TYPES or "\n" in self.host_key.strip():
            raise LabError(
                f"{self.label}: no usable host key is pinned for this VM",
                hint="its known_host file is missing or damaged, and nobody can tell the VM without it",
            )
        return f"{words[0]} {words[1]}"

    @property
    def known_hosts_name(self) -> str:
        """The name under which OpenSSH looks the pin up."""
        return f"[{self.host}]:{self.port}" if self.port != 22 else self.host
