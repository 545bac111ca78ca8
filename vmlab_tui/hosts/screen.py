"""What a guest's screen shows, by libvirt's screenshot. Blocks: call it on a lane."""

from __future__ import annotations

import contextlib
from typing import Any

import libvirt

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.picture import BYTES, Picture, decode
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.xml import parse

_CHUNK = 1 << 18


class NoScreen(LabError):
    """The VM has no video device, or its host cannot take pictures: asking again is of no use."""


def take(domain: Any) -> Picture:
    """The first screen of a VM that runs or is paused. Raises NoScreen, LabError, libvirt's own errors."""
    stream = domain.connect().newStream()
    try:
        domain.screenshot(stream, 0)
        data = bytearray()
        while chunk := stream.recv(_CHUNK):
            data += chunk
            if len(data) > BYTES:
                raise LabError(f"the picture is refused: more than {BYTES >> 20} MiB")
        stream.finish()
    except BaseException as error:
        with contextlib.suppress(libvirt.libvirtError):
            stream.abort()
        if isinstance(error, libvirt.libvirtError) and (missing := _missing(domain, error)):
            raise missing from error
        raise
    return decode(bytes(data))


def _missing(domain: Any, error: libvirt.libvirtError) -> NoScreen | None:
    name = clean_line(domain.name(), 80)
    if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
        return NoScreen(f"{name}: its host takes no pictures of screens")
    with contextlib.suppress(libvirt.libvirtError, LabError):
        if not has_video(domain.XMLDesc()):
            return NoScreen(
                f"{name} has no screen: it has no video device",
                hint=f"give it one, then stop and start it: virsh edit {name}, and among its devices "
                "<video><model type='vga'/></video>",
            )
    return None


def has_video(xml: str) -> bool:
    """Whether a domain has a video device, by its XML. Raises LabError for what is no XML."""
    models = parse(xml).findall("devices/video/model")
    return any(model.get("type") != "none" for model in models)
