"""Domain XML: built from a frozen VmSpec, and read back. Never pasted, never edited as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree as ET

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.ids import is_name
from vmlab_tui.hosts.model import Accel, Mark, VmSpec

QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
MARK_NS = "urn:vmlab:mark:1"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
NIC_ADDR = "0x10"
"""PCI slot of the user-mode network card: fixed, so that it is the same after every restart and revert."""

ET.register_namespace("qemu", QEMU_NS)
ET.register_namespace("vmlab", MARK_NS)

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_FORMATS = frozenset({"qcow2", "raw"})


def legal(text: str) -> str:
    """``text`` with what cannot stand in XML replaced by question marks."""
    return _ILLEGAL.sub("?", text)


def nvram_path(spec: VmSpec) -> Path:
    """Where the UEFI variables of a VM lie: beside its disk, so that they go where its folder goes."""
    return spec.disk.parent / "nvram.fd"


def user_network(spec: VmSpec) -> tuple[str, str]:
    """QEMU's ``-netdev`` and ``-device`` values for the networks ``isolated`` and ``user``.

    ``<interface type='user'>`` has no ``restrict``, and forwards added by monitor command are lost when
    QEMU restarts; this form survives restart and revert by anyone.
    """
    parts = ["user", "id=vmlab0"]
    if spec.network == "isolated":
        parts.append("restrict=on")
    parts += [f"hostfwd=tcp:127.0.0.1:{fwd.host_port}-:{fwd.guest_port}" for fwd in spec.forwards]
    # an empty romfile: the firmware need not try to boot from this card
    card = f"virtio-net-pci,netdev=vmlab0,mac={spec.mac},bus=pcie.0,addr={NIC_ADDR},romfile="
    return ",".join(parts), card


def check_spec(spec: VmSpec) -> None:
    """Raise UsageError for a spec that must not become XML: names, paths, ports, formats."""
    if not is_name(spec.name):
        raise UsageError(
            f"'{_ILLEGAL.sub('?', spec.name)[:80]}' cannot be a VM's name",
            hint="use letters, digits, dot, dash and underscore; at most 63",
        )
    if not _MAC.fullmatch(spec.mac):
        raise UsageError(f"{spec.name}: '{spec.mac[:40]}' is not a MAC address")
    for path in (spec.disk, spec.seed, spec.console_log, *(path for path, _ in spec.chain)):
        if path is not None and (not path.is_absolute() or _ILLEGAL.search(str(path))):
            raise UsageError(f"{spec.name}: '{_ILLEGAL.sub('?', str(path))}' is not a usable absolute path")
    for name in (spec.disk_format, *(name for _, name in spec.chain)):
        if name not in _FORMATS:
            raise UsageError(f"{spec.name}: disk format '{name[:20]}' is not one of raw, qcow2")
    for fwd in spec.forwards:
        if not (0 < fwd.host_port < 65536 and 0 < fwd.guest_port < 65536):
            raise UsageError(f"{spec.name}: forward '{fwd.name}' has a port outside 1..65535")
    if spec.forwards and spec.network not in ("isolated", "user"):
        raise UsageError(
            f"{spec.name}: a VM on the network '{spec.network}' has no port forwards",
            hint="use network: isolated or user, or connect to its own address",
        )
    if spec.cpus < 1 or spec.memory < 1 << 20:
        raise UsageError(f"{spec.name}: needs at least one CPU and 1 MiB of memory")
    if spec.firmware not in ("bios", "uefi"):
        raise UsageError(f"{spec.name}: firmware '{spec.firmware[:20]}' is not one of bios, uefi")


def _add(parent: ET.Element, tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child


def _source(parent: ET.Element, path: Path, *, keep_owner: bool) -> None:
    source = _add(parent, "source", file=str(path))
    if keep_owner:
        # without it libvirt hands an image to the QEMU user at the first start and never gives it back
        _add(source, "seclabel", model="dac", relabel="no")


def _disk(devices: ET.Element, spec: VmSpec, *, dac: bool, io_uring: bool) -> None:
    disk = _add(devices, "disk", type="file", device="disk", snapshot="internal")
    if spec.disk_format == "raw":
        disk.set("snapshot", "no")
    driver = _add(disk, "driver", name="qemu", type=spec.disk_format, discard="unmap")
    if io_uring:
        driver.set("io", "io_uring")
    _source(disk, spec.disk, keep_owner=False)
    below = disk
    for path, form in spec.chain:
        below = _add(below, "backingStore", type="file")
        _add(below, "format", type=form)
        _source(below, path, keep_owner=dac)
    _add(below, "backingStore")  # the chain ends here: nothing is probed beyond it
    _add(disk, "target", dev="vda", bus="virtio")
    _add(disk, "boot", order="1")


def _seed(devices: ET.Element, seed: Path) -> None:
    # a virtio disk rather than a CD: cloud kernels come without AHCI
    disk = _add(devices, "disk", type="file", device="disk", snapshot="no")
    _add(disk, "driver", name="qemu", type="raw")
    _source(disk, seed, keep_owner=False)
    _add(disk, "backingStore")
    _add(disk, "target", dev="vdb", bus="virtio")
    _add(disk, "readonly")


def _machine(root: ET.Element, spec: VmSpec) -> None:
    os = _add(root, "os")
    if spec.firmware == "uefi":
        os.set("firmware", "efi")
    _add(os, "type", "hvm", arch="x86_64", machine="q35")
    if spec.firmware == "uefi":
        _add(_add(os, "firmware"), "feature", enabled="no", name="secure-boot")
        _add(os, "nvram", str(nvram_path(spec)))
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if spec.accel is Accel.KVM:
        _add(root, "cpu", mode="host-passthrough", migratable="on")
    else:
        _add(root, "cpu", mode="maximum")
    clock = _add(root, "clock", offset="utc")
    _add(clock, "timer", name="hpet", present="no")
    _add(root, "on_poweroff", "destroy")
    _add(root, "on_reboot", "restart")
    _add(root, "on_crash", "destroy")


def mark_element(mark: Mark) -> ET.Element:
    """A Mark as it stands in a domain's metadata."""
    return ET.Element(
        f"{{{MARK_NS}}}mark", {"version": mark.version, "run": mark.run_id, "store": mark.store}
    )


def domain_xml(spec: VmSpec, *, dac: bool = True, io_uring: bool = False, password: str = "") -> str:
    """The XML of a VM. ``dac``: the host relabels files by owner, so images are told to stay as they are.

    ``io_uring``: QEMU may use it for the disk. ``password``: of its display; only for libvirt's ears.
    Raises UsageError for a spec that cannot be one (see check_spec).
    """
    check_spec(spec)
    root = ET.Element("domain", type="kvm" if spec.accel is Accel.KVM else "qemu")
    _add(root, "name", spec.name)
    _add(root, "uuid", spec.uuid)
    _add(root, "genid")  # libvirt makes one, and another at each revert: so a guest learns of going back
    if spec.description:
        _add(root, "description", legal(spec.description)[:1000])
    if spec.mark:
        _add(root, "metadata").append(mark_element(spec.mark))
    _add(root, "memory", str(spec.memory // 1024), unit="KiB")
    _add(root, "vcpu", str(spec.cpus))
    _machine(root, spec)
    devices = _add(root, "devices")
    _disk(devices, spec, dac=dac, io_uring=io_uring)
    if spec.seed:
        _seed(devices, spec.seed)
    _add(devices, "controller", type="usb", model="none")  # polling it costs time under emulation
    serial = _add(devices, "serial", type="pty")
    _add(serial, "log", file=str(spec.console_log), append="on")
    _add(serial, "target", port="0")
    channel = _add(devices, "channel", type="unix")
    _add(channel, "target", type="virtio", name=AGENT_CHANNEL)
    rng = _add(devices, "rng", model="virtio")
    _add(rng, "backend", "/dev/urandom", model="random")
    _add(devices, "memballoon", model="virtio")
    graphics = _add(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
    if password:
        graphics.set("passwd", password)
    _add(_add(devices, "video"), "model", type="vga")
    if spec.network in ("isolated", "user"):
        commandline = ET.SubElement(root, f"{{{QEMU_NS}}}commandline")
        netdev, card = user_network(spec)
        for value in ("-netdev", netdev, "-device", card):
            ET.SubElement(commandline, f"{{{QEMU_NS}}}arg", {"value": value})
    else:
        interface = _add(devices, "interface", type="network")
        _add(interface, "mac", address=spec.mac)
        _add(interface, "source", network=spec.network)
        _add(interface, "model", type="virtio")
    return ET.tostring(root, encoding="unicode")


def snapshot_xml(name: str, description: str = "") -> str:
    """The XML that asks for an internal snapshot."""
    root = ET.Element("domainsnapshot")
    _add(root, "name", name)
    if description:
        _add(root, "description", legal(description)[:1000])
    return ET.tostring(root, encoding="unicode")


@dataclass(frozen=True)
class Parsed:
    """What vmlab wants to know of any domain's XML. ``memory`` in bytes."""

    uuid: str
    name: str
    memory: int
    cpus: int
    mark: Mark | None
    disks: tuple[Path, ...]
    files: tuple[Path, ...]
    formats: tuple[str, ...]
    """The driver type of each disk, in the order of ``disks``."""
    firmware: str


def parse(xml: str) -> ET.Element:
    """An element tree; raises LabError for XML with a DOCTYPE or that cannot be parsed."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise LabError("XML with a DOCTYPE is refused")
    try:
        return ET.fromstring(xml)  # noqa: S314  # no DOCTYPE, so nothing to expand
    except ET.ParseError as error:
        raise LabError(f"unreadable XML: {error}") from error


_UNITS = {"b": 1, "bytes": 1, "kb": 1000, "k": 1024, "kib": 1024, "mb": 1000**2, "m": 1024**2, "mib": 1024**2}
_UNITS |= {"gb": 1000**3, "g": 1024**3, "gib": 1024**3, "tb": 1000**4, "t": 1024**4, "tib": 1024**4}


def _files(root: ET.Element) -> Iterator[str]:
    for element in root.iter():
        if element.tag in ("source", "log"):
            yield element.get("file") or element.get("dev") or ""
        elif element.tag == "memory":  # of a snapshot, outside of its disks
            yield element.get("file") or ""
        elif element.tag in ("nvram", "kernel", "initrd", "dtb", "loader"):
            yield element.text or ""
            yield element.get("template") or ""
            nested = element.find("source")
            yield (nested.get("file") or "") if nested is not None else ""
        elif element.tag == f"{{{QEMU_NS}}}arg":
            # foreign domains may name files in plain QEMU arguments; better a path too many than a lost disk
            yield from re.findall(r"(?:^|[=,:])(/[^,]+)", element.get("value") or "")


def files_of(root: ET.Element) -> tuple[Path, ...]:
    """Every absolute path that a domain's or a snapshot's XML names as a file."""
    return tuple(dict.fromkeys(Path(name) for name in _files(root) if name.startswith("/")))


@lru_cache(4096)
def parse_domain(xml: str) -> Parsed:
    """Read a domain's XML, own or foreign. Raises LabError if it cannot be read completely."""
    root = parse(xml)
    memory = root.find("memory")
    unit = (memory.get("unit", "KiB") if memory is not None else "KiB").lower()
    found = root.find(f"metadata/{{{MARK_NS}}}mark")
    mark = None
    if found is not None:
        mark = Mark(found.get("version", ""), found.get("run", ""), found.get("store", ""))
    disks: list[Path] = []
    formats: list[str] = []
    for disk in root.iterfind("devices/disk"):
        source, driver = disk.find("source"), disk.find("driver")
        name = (source.get("file") or source.get("dev")) if source is not None else None
        if name:
            disks.append(Path(name))
            formats.append(driver.get("type", "") if driver is not None else "")
    os = root.find("os")
    uefi = os is not None and (os.get("firmware") == "efi" or os.find("loader[@type='pflash']") is not None)
    try:
        return Parsed(
            uuid=root.findtext("uuid", ""),
            name=root.findtext("name", ""),
            memory=int(memory.text or 0) * _UNITS[unit] if memory is not None else 0,
            cpus=int(root.findtext("vcpu") or 1),
            mark=mark,
            disks=tuple(disks),
            files=files_of(root),
            formats=tuple(formats),
            firmware="uefi" if uefi else "bios",
        )
    except (KeyError, ValueError) as error:
        raise LabError(f"unreadable domain XML: {error!r}") from error
