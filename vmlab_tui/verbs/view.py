"""``vmlab view``: a VM's screen, in a viewer of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.verbs.verb import Args, Context, Outcome, Verb, blocking
from vmlab_tui.verbs.vm_target import VM, label, one_vm, refuse_absent

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.hosts.model import Display

VIEWERS = ("remote-viewer", "virt-viewer", "vncviewer", "xtigervncviewer", "gvncviewer")
"""Those that are looked for, in this order."""


class View(Verb):
    """Start a viewer for the VM's VNC display."""

    id = "vm.view"
    words = ("view",)
    help = "Show a VM's screen in a VNC viewer"
    long_help = """\
The viewer is the one that config.yaml names under viewer:, else remote-viewer, virt-viewer or a
vncviewer, whichever is installed; it goes on by itself. Without one, or without a screen to start it
on, the display's address is printed and how to reach it. With --json nothing is started.

The display listens on 127.0.0.1 of the VM's host, with a random password that libvirt keeps. The
viewer gets it: virt-viewer by libvirt's own connection, remote-viewer in a file that it removes,
TigerVNC in its environment. Others ask for it; it is never printed, but the command that tells it is."""
    examples = (
        ("vmlab view last", "the newest run's VM"),
        ("vmlab view web-7f3a --json", "its address, for a program"),
    )
    areas = ("lab", "runs")
    key = "v"
    params = (VM,)

    def applies(self, power: str) -> bool:
        return power not in ("off", "crashed")

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.hosts.vnc import display_of

        async with ctx.host() as host:  # read-only, libvirt tells no passwords
            vm = await one_vm(ctx, host, args)
            refuse_absent(vm)
            if not self.applies(vm.power):
                raise LabError(
                    f"VM {label(vm)} is {vm.power}", hint=f"vmlab start {label(vm)}   # then once more"
                )
            display = display_of(await host.domain_xml(vm.uuid, secrets=True))
        if display is None:
            raise LabError(
                f"VM {label(vm)} has no VNC display on a port", hint=f"its console: vmlab console {label(vm)}"
            )
        far = _far(ctx.lab.uri)
        tells = ["virsh", "-c", ctx.lab.uri, "domdisplay", "--include-password", vm.uuid]
        viewer = None
        if not far and not ctx.wants_data:
            viewer = await blocking(lambda: _viewer(ctx.lab.uri, vm.uuid, display))
        if viewer:
            await blocking(viewer.start)
        data: JsonValue = {
            "schema": 1,
            "verb": "view",
            "vm": vm.name,
            "uuid": vm.uuid,
            "uri": display.uri,
            "host": far or None,
            "password": bool(display.password),
            "password_command": [*tells] if display.password else None,
        }
        by = f", by {clean_line(viewer.argv[0])}" if viewer else ""
        lines = [f"{label(vm)}: {display.uri}{by}"]
        if not viewer:
            lines += _ways(far, display.host, display.port)
        if display.password and not (viewer and viewer.knows):
            lines.append(f"  it asks for a password; this tells it: {clean_line(shlex.join(tells))}")
        return Outcome(data, tuple(lines))


@dataclass(frozen=True)
class Viewer:
    """A command that shows a display. ``knows``: it is given the password and asks for none.

    ``env`` is added to its environment; ``file``: what is to stand in a file whose name is its last argument.
    """

    argv: tuple[str, ...]
    knows: bool = False
    env: Mapping[str, str] | None = field(default=None, repr=False)
    file: str = field(default="", repr=False)

    def start(self) -> None:
        """Start it, to go on by itself. Raises LabError."""
        from vmlab_tui.base.proc import start_detached

        if not self.file:
            start_detached(self.argv, env=self.env)
            return
        handle, name = tempfile.mkstemp(".vv", "vmlab-view-")  # 0600; the viewer removes it once it is read
        with os.fdopen(handle, "w") as file:
            file.write(self.file)
        try:
            start_detached((*self.argv, name))
        except LabError:
            Path(name).unlink(missing_ok=True)
            raise


def _viewer(uri: str, uuid: str, display: Display) -> Viewer | None:
    """The command that shows the display; None when there is none, or no screen that it could show it on.

    Raises SpecErrors for settings that cannot be read.
    """
    from vmlab_tui.spec.settings import load_settings

    words = list(load_settings().viewer or ())
    if not words and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        words = [name for name in VIEWERS if shutil.which(name)][:1]
    # TigerVNC reads it there, another one asks; only this user and root can see it
    env = {"VNC_PASSWORD": display.password} if display.password else None
    match Path(words[0]).name if words else "":
        case "":
            return None
        case "virt-viewer":
            # libvirt opens the display for it, past the password
            return Viewer((*words, "--attach", "--connect", uri, "--", uuid), knows=True)
        case "remote-viewer" if display.password:
            return Viewer(tuple(words), knows=True, file=_connection_file(display))
        case "gvncviewer":
            return Viewer((*words, f"{display.host}:{display.port - 5900}"))
        case name if name.endswith("vncviewer"):
            real = Path(shutil.which(words[0]) or name).resolve().name  # vncviewer is what was installed last
            return Viewer((*words, f"{display.host}::{display.port}"), "tiger" in real, env)
    return Viewer((*words, display.uri), False, env)


def _connection_file(display: Display) -> str:
    """What remote-viewer(1) reads from a file; it removes that when it has."""
    return (
        f"[virt-viewer]\ntype=vnc\nhost={display.host}\nport={display.port}\n"
        f"password={display.password}\ndelete-this-file=1\n"
    )


def _far(uri: str) -> str:
    """The other machine that a libvirt URI means, as SSH would be told of it; empty for this one."""
    place = urlsplit(uri)
    if not place.hostname or place.scheme.startswith("test"):
        return ""
    return clean_line(f"{place.username}@{place.hostname}" if place.username else place.hostname, 120)


def _ways(far: str, host: str, port: int) -> list[str]:
    """How a display is reached that no viewer could be started for."""
    at = f"{host}:{port}"
    if far:
        return [
            f"  it listens there, not here: ssh -N -L {port}:{at} {far}",
            f"  then, beside it: remote-viewer vnc://127.0.0.1:{port}",
        ]
    return [
        "  no viewer here, or no screen to start it on: apt install virt-viewer, or viewer: in config.yaml",
        f"  from another machine: ssh -N -L {port}:{at} THIS-MACHINE, then remote-viewer vnc://127.0.0.1:{port}",
    ]
