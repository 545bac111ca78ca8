"""Going back to a snapshot: in the QEMU that runs where that comes to the same, else libvirt's way.

libvirt ends a running VM's QEMU and starts another one with the snapshot. Where the machine has not changed
since, the QEMU that is there can load it as well: faster, with forwards and console left open. All that
libvirt says of the domain then stays true, since it is the same process with the same definition.

Not under emulation: QEMU's own tick counter never goes back within one process, so the guest's TSC would
jump ahead by all the time since the snapshot. After some minutes that is a stalled kernel and services
killed by their watchdogs, in a guest that ought to be as it was. With KVM the TSC is the CPU's.

Everything here blocks: call it on a lane.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.ids import is_name
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.connection import shown
from vmlab_tui.hosts.domains import read_power, read_snapshot, version
from vmlab_tui.hosts.model import Power, Snapshot, Then
from vmlab_tui.hosts.starting import Command, start_qemu
from vmlab_tui.hosts.xml import parse

LOADED = declare(
    "revert.loaded", "the snapshot is loaded; libvirt's mark and the power may still be as before"
)

IN_PLACE = frozenset({"kvm"})
"""Types of domains that may load a snapshot into their running QEMU."""

EXTERNAL = (10, 0, 0)
"""The libvirt from which on external snapshots are gone back to, and deleted, without harm."""

_SECURE = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE  # else passwords would be lost where XML is put back
_LIVE = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
_STORED = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE


class _NotLoaded(LabError):
    """QEMU could not load the snapshot; it stands still, and its memory is nobody's."""


# -- what may be done ----------------------------------------------------------------------------


def why_not_back(domain: Any, name: str) -> str:
    """Why going back to a snapshot would do harm or cannot be; empty where nothing is known against it."""
    root = parse(domain.snapshotLookupByName(name).getXMLDesc())
    seen = read_snapshot(root)
    if why := _external(domain, seen, "go back to"):
        return why
    if domain.hasManagedSaveImage(0):
        return (
            "it is off with its memory saved (virsh managedsave), which its next start would put on top: "
            "start it first, or drop that memory with virsh managedsave-remove"
        )
    if seen.external:
        return ""
    then, now = _disks(root.find("domain")), _disks(parse(domain.XMLDesc(0)))
    for target, path in then.items():
        if now.get(target, path) != path:
            return (
                f"its disk {target} is {clean_line(now[target], 200)} now, and the snapshot lies in "
                f"{clean_line(path, 200)}: going back would spoil what stands on that"
            )
    return ""


def why_not_delete(domain: Any, name: str) -> str:
    """Why deleting a snapshot would do harm; empty where nothing is known against it."""
    root = parse(domain.snapshotLookupByName(name).getXMLDesc())
    return _external(domain, read_snapshot(root), "delete")


def _external(domain: Any, seen: Snapshot, what: str) -> str:
    here = version(domain.connect().getLibVersion())
    if not seen.external or here >= EXTERNAL:
        return ""
    names = ", ".join(clean_line(str(path), 200) for path in seen.files[:3])
    return (
        f"the snapshot is external, in files of its own ({names}), "
        f"and libvirt {'.'.join(map(str, here))} cannot {what} such ones safely (10.0 can)"
    )


def _disks(domain: ET.Element | None) -> dict[str, str]:
    """The files of the disks that internal snapshots are in, by target."""
    found: dict[str, str] = {}
    for disk in domain.iterfind("devices/disk") if domain is not None else ():
        driver, source, target = disk.find("driver"), disk.find("source"), disk.find("target")
        if driver is not None and driver.get("type") == "qcow2" and source is not None and target is not None:
            found[target.get("dev", "")] = source.get("file") or source.get("dev") or ""
    return found


# -- going back ----------------------------------------------------------------------------------


def go_back(domain: Any, name: str, then: Then | None, *, force: bool, command: Command) -> bool:
    """See Host.revert; whether it was done in place."""
    snapshot = domain.snapshotLookupByName(name)
    root = parse(snapshot.getXMLDesc(_SECURE))
    seen = read_snapshot(root)
    if not force and is_name(name) and _same_machine(domain, root, seen):
        as_it_was = Then.PAUSED if seen.power is Power.PAUSED else Then.RUNNING
        try:
            _in_place(domain, name, root, then or as_it_was, command)
        except _NotLoaded:
            pass  # another QEMU may be able to; if not, its reason is the better one
        else:
            return True
    flags, options = 0, []
    if then is Then.RUNNING:
        flags, options = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING, ["--running"]
    elif then is Then.PAUSED or (then is Then.OFF and seen.memory):
        flags, options = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED, ["--paused"]
    if force or (flags and not seen.memory):
        # libvirt warns that a guest which runs would get a new QEMU; that is what was asked for
        flags, options = flags | libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE, [*options, "--force"]
    with command("snapshot-revert", shown(domain), name, *options):
        start_qemu(lambda: domain.revertToSnapshot(snapshot, flags))
    point(LOADED)
    if then is Then.OFF and domain.isActive():
        _off(domain, command)
    return False


def _in_place(domain: Any, name: str, root: ET.Element, then: Then, command: Command) -> None:
    runs = read_power(domain) is Power.ON
    if runs and then is not Then.RUNNING:
        with command("suspend", shown(domain)):
            domain.suspend()
    load = f"loadvm {name}"
    with command("qemu-monitor-command", shown(domain), "--hmp", load):
        # it stops the CPUs and lets them go on by itself, and libvirt hears of both
        said = libvirt_qemu.qemuMonitorCommand(domain, load, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
        if said.strip():
            raise _NotLoaded(clean_line(said))
    point(LOADED)
    redefine(domain, root, current=True, command=command)
    if then is Then.OFF:
        _off(domain, command)
    elif then is Then.RUNNING and not runs:
        with command("resume", shown(domain)):
            domain.resume()


def _off(domain: Any, command: Command) -> None:
    with command("destroy", shown(domain)):
        domain.destroy()


def redefine(domain: Any, root: ET.Element, *, current: bool, command: Command) -> None:
    """Tell libvirt a snapshot's XML anew."""
    flags, options = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE, ["--redefine"]
    if current:
        flags, options = flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT, [*options, "--current"]
    with command("snapshot-create", shown(domain), "snapshot.xml", *options):
        domain.snapshotCreateXML(ET.tostring(root, encoding="unicode"), flags)


def describe(domain: Any, name: str, text: str, *, command: Command) -> None:
    """See Host.describe_snapshot."""
    snapshot = domain.snapshotLookupByName(name)
    root = parse(snapshot.getXMLDesc(_SECURE))
    element = root.find("description")
    if element is None:
        element = ET.Element("description")
        root.insert(1, element)
    element.text = text
    current = bool(domain.hasCurrentSnapshot()) and domain.snapshotCurrent().getName() == name
    redefine(domain, root, current=current, command=command)


# -- whether the machine is the same -------------------------------------------------------------

_Shape = tuple[str, tuple[tuple[str, str], ...], str, tuple[Any, ...]]

_NO_MACHINE = frozenset({"alias", "seclabel", "currentMemory", "genid", "metadata", "name", "uuid"})
"""What says nothing of the machine, or changes while it runs."""
_OF_THE_PROCESS = {
    "domain": ("id",),
    "source": ("index",),
    "backingStore": ("index",),
    "console": ("tty",),
    "target": ("state",),
}
"""Attributes that only a running QEMU has."""


def _same_machine(domain: Any, root: ET.Element, seen: Snapshot) -> bool:
    """Whether the QEMU that runs is the machine whose memory the snapshot holds, as far as libvirt knows."""
    if not seen.memory or seen.external:
        return False
    if domain.connect().getType() != "QEMU" or read_power(domain) not in (Power.ON, Power.PAUSED):
        return False
    live = root.find("domain")
    if live is None or live.get("type") not in IN_PLACE:
        return False
    if _shape(live) != _shape(parse(domain.XMLDesc(_LIVE))):
        return False
    if not domain.isPersistent():
        return True
    stored = root.find("inactiveDomain")
    return stored is not None and _shape(stored) == _shape(parse(domain.XMLDesc(_STORED)))


def _implied(element: ET.Element) -> bool:
    """Devices that libvirt leaves out where it writes XML for a migration: every machine has them."""
    kind = (element.tag, element.get("bus") or element.get("type"))
    return kind in (("input", "ps2"), ("audio", "none"))


def _shape(element: ET.Element) -> _Shape:
    """A definition without what differs from start to start, its devices in one order."""
    tag = "domain" if element.tag == "inactiveDomain" else element.tag
    hidden: tuple[str, ...] = _OF_THE_PROCESS.get(tag, ())
    if tag == "graphics" and element.get("autoport") == "yes":
        hidden = ("port", "websocket")
    kept = tuple(sorted((key, value) for key, value in element.items() if key not in hidden))
    # libvirt chooses the terminal or socket at the other end of a character device
    ends = tag in ("serial", "console", "parallel", "channel") and element.get("type") in ("pty", "unix")
    below = [
        _shape(child)
        for child in element
        if child.tag not in _NO_MACHINE and not (ends and child.tag == "source") and not _implied(child)
    ]
    if tag == "devices":
        below.sort()
    return tag, kept, (element.text or "").strip(), tuple(below)
