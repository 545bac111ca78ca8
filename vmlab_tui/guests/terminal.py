"""Handing the terminal to OpenSSH: the same trust as ours, none of the person's own settings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from vmlab_tui.base.paths import write_durably
from vmlab_tui.guests.endpoint import Endpoint


def write_known_hosts(endpoint: Endpoint, path: Path) -> None:
    """Write the pin of ``endpoint`` as a known_hosts file (0600). Raises LabError without a usable pin."""
    write_durably(path, f"{endpoint.known_hosts_name} {endpoint.pin}\n")


def _path(path: Path) -> str:
    """A path as a value in OpenSSH's configuration syntax: % and blanks mean something there."""
    text = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def ssh_argv(
    endpoint: Endpoint, command: Sequence[str] | None, known_hosts: Path, *, tty: bool = False
) -> list[str]:
    """The argument list that logs in with OpenSSH; ``known_hosts`` is written by :func:`write_known_hosts`.

    No ``command`` gives a login shell. One word is a line for the guest's shell, several are passed as they
    are. ``tty`` asks for a terminal for the command too. Raises LabError without a usable pin.
    """
    options = {
        "UserKnownHostsFile": _path(known_hosts),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlgorithms": _algorithms(endpoint),
        # before OpenSSH's own first choice, which costs an emulated guest a tenth of a second
        "KexAlgorithms": "^curve25519-sha256",
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "IdentityFile": _path(endpoint.key),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
        "LogLevel": "ERROR",
    }
    argv = ["ssh", "-F", "none"]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    argv += ["-p", str(endpoint.port), "-l", endpoint.user]
    if command and tty:
        argv.append("-t")
    argv += ["--", endpoint.host]
    if command:
        argv.append(command[0] if len(command) == 1 else shlex.join(command))
    return argv


def _algorithms(endpoint: Endpoint) -> str:
    kind = endpoint.pin.split()[0]
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind
