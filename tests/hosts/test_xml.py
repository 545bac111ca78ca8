"""Domain XML: what is built, what is read back, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.hosts.fork import rewrite
from vmlab_tui.hosts.model import Accel, Forward, Mark, VmSpec
from vmlab_tui.hosts.xml import domain_xml, parse_domain, snapshot_xml

VM = Path("/lab/vms/u")
SPEC = VmSpec(
    uuid="6d3b1c0e-5c38-4c3f-9b0a-4a1f6a1b2c3d", name="web-1", cpus=2, memory=1 << 30, accel=Accel.TCG,
    disk=VM / "disk.qcow2", disk_format="qcow2",
    chain=((Path("/lab/images/layer.qcow2"), "qcow2"), (Path("/lab/images/base.raw"), "raw")),
    seed=VM / "seed.iso", console_log=VM / "console.log", mac="52:54:00:01:02:03",
    forwards=(Forward("ssh", 40022, 22), Forward("web", 40080, 8080)), mark=Mark("0.1", "run", "/lab"),
)  # fmt: skip


def args(root: ET.Element) -> list[str]:
    space = "{http://libvirt.org/schemas/domain/qemu/1.0}"
    return [arg.get("value", "") for arg in root.iterfind(f"{space}commandline/{space}arg")]


def test_the_whole_chain_is_spelled_out_and_ends() -> None:
    disk = ET.fromstring(domain_xml(SPEC)).find("devices/disk")
    assert disk is not None
    layers, below = [], disk.find("backingStore")
    while below is not None:
        form, source = below.find("format"), below.find("source")
        layers.append(
            (form.get("type"), source.get("file")) if form is not None and source is not None else None
        )
        below = below.find("backingStore")
    assert layers == [("qcow2", "/lab/images/layer.qcow2"), ("raw", "/lab/images/base.raw"), None]
    assert disk.find("driver").get("type") == "qcow2"  # type: ignore[union-attr]


def test_images_are_exempt_from_relabelling_only_where_there_is_such() -> None:
    assert domain_xml(SPEC, dac=True).count('<seclabel model="dac" relabel="no"') == 2
    assert "seclabel" not in domain_xml(SPEC, dac=False)


def test_io_uring_is_for_the_disk_alone_and_only_where_it_may_be() -> None:
    drivers = ET.fromstring(domain_xml(SPEC, io_uring=True)).findall("devices/disk/driver")
    assert [one.get("io") for one in drivers] == ["io_uring", None]
    assert "io_uring" not in domain_xml(SPEC)


def test_networks() -> None:
    isolated = args(ET.fromstring(domain_xml(SPEC)))[1]
    assert isolated.split(",") == [
        "user", "id=vmlab0", "restrict=on",
        "hostfwd=tcp:127.0.0.1:40022-:22", "hostfwd=tcp:127.0.0.1:40080-:8080",
    ]  # fmt: skip
    assert "restrict" not in args(ET.fromstring(domain_xml(replace(SPEC, network="user"))))[1]
    bridged = ET.fromstring(domain_xml(replace(SPEC, network="default", forwards=())))
    assert args(bridged) == []
    assert bridged.find("devices/interface/source").get("network") == "default"  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="no port forwards"):
        domain_xml(replace(SPEC, network="default"))


def test_accel() -> None:
    assert ET.fromstring(domain_xml(SPEC)).get("type") == "qemu"
    kvm = ET.fromstring(domain_xml(replace(SPEC, accel=Accel.KVM)))
    assert kvm.get("type") == "kvm"
    assert kvm.find("cpu").get("mode") == "host-passthrough"  # type: ignore[union-attr]


def test_what_is_built_is_read_back() -> None:
    seen = parse_domain(domain_xml(replace(SPEC, firmware="uefi")))
    assert (seen.uuid, seen.name, seen.cpus, seen.memory) == (SPEC.uuid, SPEC.name, 2, 1 << 30)
    assert (seen.mark, seen.firmware, seen.formats) == (SPEC.mark, "uefi", ("qcow2", "raw"))
    assert seen.disks == (SPEC.disk, SPEC.seed)
    images = {path for path, _ in SPEC.chain}
    assert set(seen.files) >= {SPEC.disk, SPEC.seed, SPEC.console_log, VM / "nvram.fd", *images}


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_description_and_mark_make_readable_xml(description: str, run: str) -> None:
    clean = "".join(one for one in run if one.isprintable() and one.isascii())
    text = domain_xml(replace(SPEC, description=description, mark=Mark("0.1", clean, "/lab")))
    assert parse_domain(text).mark == Mark("0.1", clean, "/lab")
    ET.fromstring(snapshot_xml(clean or "x", description))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x"}, {"name": ""}, {"name": "a b"}, {"name": "a\x9bb"},
        {"mac": "52:54:00:01:02:03,romfile=/etc/shadow"}, {"mac": "52:54:00:01:02:03\n"},
        {"disk": Path("disk.qcow2")}, {"seed": Path("/lab/\x00seed")},
        {"disk_format": "vmdk"}, {"chain": ((Path("/x"), "auto"),)},
        {"forwards": (Forward("a", 0, 22),)}, {"forwards": (Forward("a", 1, 70000),)},
        {"cpus": 0}, {"memory": 1000}, {"firmware": "uboot"},
    ],
)  # fmt: skip
def test_bad_specs_never_become_xml(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        domain_xml(replace(SPEC, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE d [<!ENTITY a "b">]><domain><name>&a;</name></domain>',
        "<domain><name>x</domain>",
        "<domain><memory unit='parsec'>1</memory></domain>",
        "<domain><vcpu>many</vcpu></domain>",
    ],
)
def test_unreadable_xml_is_an_error(text: str) -> None:
    with pytest.raises(LabError):
        parse_domain(text)


def test_files_of_foreign_domains_are_all_found() -> None:
    seen = parse_domain("""
      <domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
        <os><kernel>/k/vmlinuz</kernel><initrd>/k/initrd</initrd><loader>/ovmf/code.fd</loader>
          <nvram template='/ovmf/vars.fd'><source file='/n/vars.fd'/></nvram></os>
        <devices>
          <disk type='block'><source dev='/dev/vg/lv'/></disk>
          <disk type='file'><mirror type='file'><source file='/m/copy.qcow2'/></mirror>
            <source file='/d/top.qcow2'/><backingStore><source file='/d/base.qcow2'/></backingStore></disk>
          <disk type='file' device='cdrom'><target dev='sda'/></disk>
        </devices>
        <qemu:commandline><qemu:arg value='file=/q/extra.img,if=none'/><qemu:arg value='/q/plain'/>
        </qemu:commandline></domain>""")
    assert {str(path) for path in seen.files} == {
        "/k/vmlinuz", "/k/initrd", "/ovmf/code.fd", "/ovmf/vars.fd", "/n/vars.fd", "/dev/vg/lv",
        "/m/copy.qcow2", "/d/top.qcow2", "/d/base.qcow2", "/q/extra.img", "/q/plain",
    }  # fmt: skip
    assert seen.mark is None


def test_a_fork_of_a_vm_on_a_network_or_without_seed_is_refused() -> None:
    def snapshot(spec: VmSpec) -> str:
        body = domain_xml(spec)
        return f"<domainsnapshot><name>s</name><memory snapshot='internal'/>{body}</domainsnapshot>"

    with pytest.raises(UsageError, match="its address"):
        rewrite(snapshot(replace(SPEC, network="default", forwards=())), SPEC)
    with pytest.raises(UsageError, match="seed"):
        rewrite(snapshot(SPEC), replace(SPEC, seed=None))
    with pytest.raises(UsageError, match="VM's name"):
        rewrite(snapshot(SPEC), replace(SPEC, name="<x>"))


def test_what_a_fork_has_of_its_own() -> None:
    twin = replace(
        SPEC, uuid="0d3b1c0e-5c38-4c3f-9b0a-4a1f6a1b2c3d", name="web-2", disk=VM / "d", seed=VM / "s",
        console_log=VM / "c", forwards=(Forward("ssh", 40023, 22),), mark=Mark("0.1", "other", "/lab"),
    )  # fmt: skip
    body = domain_xml(SPEC).replace("<genid />", f"<genid>{SPEC.uuid}</genid>")
    parent = "<parent><name>clean-boot</name></parent>"
    text = f"<domainsnapshot><name>s</name>{parent}<memory snapshot='internal'/>{body}</domainsnapshot>"
    snapshot, domain = rewrite(text, twin)
    assert (snapshot, domain) == rewrite(text, twin), "a second call after a crash says the same"
    for old in (SPEC.uuid, str(SPEC.disk), str(SPEC.seed), str(SPEC.console_log), "40022", ">web-1<", parent):
        assert old in text
        assert old not in snapshot
        assert old not in domain
    seen = parse_domain(domain)
    assert (seen.uuid, seen.name, seen.disks, seen.mark) == (
        twin.uuid,
        "web-2",
        (VM / "d", VM / "s"),
        twin.mark,
    )
