"""The password of a VM's VNC display: made here, given to libvirt with the definition, told by libvirt only.

libvirt keeps it in its own files (root, 0600), hands it to QEMU over the monitor, never in arguments, and
leaves it out of all XML that is not asked for with ``VIR_DOMAIN_XML_SECURE``. It is in no key and no spec:
snapshots, forks and templates are compared and stored without it, and each fork is given another.
"""

from __future__ import annotations

import secrets
import string
from pathlib import Path
from xml.etree import ElementTree as ET

from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.model import Display
from vmlab_tui.hosts.xml import parse

_LENGTH = 8
"""VNC's own authentication looks at no more (RFC 6143, 7.2.2)."""
_SIGNS = string.ascii_letters + string.digits
_FIPS = Path("/proc/sys/crypto/fips_enabled")


def new_password() -> str:
    """A random one; empty where the kernel is in FIPS mode: without DES QEMU would not start."""
    try:
        if _FIPS.read_text().strip() == "1":
            return ""
    except OSError:
        pass  # a kernel that knows no such mode
    return "".join(secrets.choice(_SIGNS) for _ in range(_LENGTH))


def set_password(domain: ET.Element, password: str) -> None:
    """Put it on the VNC displays of a definition; an empty one takes it away."""
    for graphics in domain.iterfind("devices/graphics[@type='vnc']"):
        graphics.attrib.pop("passwd", None)
        if password:
            graphics.set("passwd", password)


def display_of(xml: str) -> Display | None:
    """The VNC display in a running domain's XML; None if it has none that listens on a port.

    Its password is known only from XML with secrets.
    """
    for graphics in parse(xml).iterfind("devices/graphics[@type='vnc']"):
        port = graphics.get("port", "")
        if port.isdigit() and 0 < int(port) < 65536:
            listen = graphics.get("listen") or "127.0.0.1"
            host = "127.0.0.1" if listen in ("0.0.0.0", "::") else clean_line(listen, 80)  # noqa: S104
            host = f"[{host}]" if ":" in host else host
            return Display(host, int(port), graphics.get("passwd", ""))
    return None
