"""How far a guest that boots has come; without SSH, whose import takes a sixth of a second."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """How far a guest has come, in order."""

    QEMU = "qemu"
    CONSOLE = "console"
    PORT = "port"
    BANNER = "banner"
    AUTHENTICATED = "authenticated"
    CLOUD_INIT = "cloud-init"


SHORT: dict[str, str] = {
    "": "waiting for SSH",
    Stage.QEMU: "QEMU runs, nothing on the console yet",
    Stage.CONSOLE: "the guest boots, its SSH port is closed",
    Stage.PORT: "port open, waiting for the SSH banner",
    Stage.BANNER: "SSH answers, logging in",
    Stage.AUTHENTICATED: "logged in",
}
"""What the stages of waiting for SSH mean, short enough for one line; the empty one: not known yet."""

MEANING = {
    Stage.QEMU: "QEMU runs, but nothing has appeared on the console",
    Stage.CONSOLE: "the console shows output, but the SSH port does not accept connections",
    Stage.PORT: "the port accepts connections (as QEMU's forward always does), but no SSH server answers",
    Stage.BANNER: "an SSH server answers, but logging in does not work",
    Stage.AUTHENTICATED: "logged in",
    Stage.CLOUD_INIT: "logged in, cloud-init is at work",
}
