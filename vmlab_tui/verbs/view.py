"""``vmlab view``: a VM's screen, in a viewer of its own."""

from __future__ import annotations

import os
import shutil
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

The display listens on 127.0.0.1 of the VM's host and has no password of its own: everybody who
has an account on that machine can reach it."""
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
        from vmlab_tui.hosts.xml import display_of

        async with ctx.host(readonly=True) as host:
            vm = await one_vm(ctx, host, args)
            refuse_absent(vm)
            if not self.applies(vm.power):
                raise LabError(
                    f"VM {label(vm)} is {vm.power}", hint=f"vmlab start {label(vm)}   # then once more"
                )
            display = display_of(await host.domain_xml(vm.uuid))
        if display is None:
            raise LabError(
                f"VM {label(vm)} has no VNC display on a port", hint=f"its console: vmlab console {label(vm)}"
            )
        far = _far(ctx.lab.uri)
        argv = [] if far or ctx.wants_data else await blocking(lambda: _viewer(ctx.lab.uri, vm.uuid, display))
        if argv:
            from vmlab_tui.base.proc import start_detached

            await blocking(lambda: start_detached(argv))
        data: JsonValue = {
            "schema": 1,
            "verb": "view",
            "vm": vm.name,
            "uuid": vm.uuid,
            "uri": display.uri,
            "host": far or None,
            "password": display.password,
        }
        lines = [f"{label(vm)}: {display.uri}" + (f", by {clean_line(argv[0])}" if argv else "")]
        if not argv:
            lines += _ways(far, display.host, display.port)
        return Outcome(data, tuple(lines))


def _viewer(uri: str, uuid: str, display: Display) -> list[str]:
    """The command that shows the display; empty when there is none, or no screen that it could show it on.

    Raises SpecErrors for settings that cannot be read.
    """
    from vmlab_tui.spec.settings import load_settings

    words = list(load_settings().viewer or ())
    if not words and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        words = [name for name in VIEWERS if shutil.which(name)][:1]
    match Path(words[0]).name if words else "":
        case "":
            return []
        case "virt-viewer":
            return [*words, "--connect", uri, "--", uuid]
        case "gvncviewer":
            return [*words, f"{display.host}:{display.port - 5900}"]
        case name if name.endswith("vncviewer"):
            return [*words, f"{display.host}::{display.port}"]
    return [*words, display.uri]


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
