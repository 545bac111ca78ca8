"""What the header reader takes, and what it refuses."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.images.header import BadImage, check_importable, inspect


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    return path


def patch(path: Path, offset: int, raw: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(raw)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("cluster", ["512", "64k", "2M"])
def test_reads_what_qemu_writes(tmp_path: Path, compat: str, cluster: str) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"compat={compat},cluster_size={cluster}", path, "100M")
    header = inspect(path)
    assert (header.format, header.virtual_size) == ("qcow2", 100 << 20)
    assert header.version == (2 if compat == "0.10" else 3)
    check_importable(path, header)


def test_reads_compressed_and_extended(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    options = "compression_type=zstd,extended_l2=on,cluster_size=128k"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "8G")
    assert inspect(path).virtual_size == 8 << 30


def test_backing_file_is_refused_and_named(tmp_path: Path, qcow2: Path) -> None:
    over = tmp_path / "over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2, over)
    header = inspect(over)
    assert header.backing == str(qcow2)
    assert header.backing_format == "qcow2"
    with pytest.raises(BadImage, match="stands on another file"):
        check_importable(over, header)


def test_backing_file_that_does_not_exist_is_refused_without_opening_it(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", path, "1G")
    header = inspect(path)
    assert header.backing == "/etc/shadow"
    with pytest.raises(BadImage, match="/etc/shadow"):
        check_importable(path, header)


def test_name_of_a_backing_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/x\x1b]0;owned\x07\x9b31m", path, "1G")
    backing = inspect(path).backing
    assert backing is not None
    assert backing.isprintable()


def test_external_data_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    data = tmp_path / "data.raw"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={data}", path, "16M")
    header = inspect(path)
    assert header.data_file == str(data)
    with pytest.raises(BadImage, match="another file"):
        check_importable(path, header)


def test_data_file_by_the_feature_bit_alone_is_refused(qcow2: Path) -> None:
    patch(qcow2, 72, struct.pack(">Q", 4))
    with pytest.raises(BadImage, match="another file"):
        check_importable(qcow2, inspect(qcow2))


def test_encrypted_is_refused(qcow2: Path) -> None:
    patch(qcow2, 32, struct.pack(">I", 2))
    with pytest.raises(BadImage, match="encrypted"):
        check_importable(qcow2, inspect(qcow2))


@pytest.mark.parametrize(("bit", "word"), [(0, "not closed"), (1, "corrupt")])
def test_marked_as_broken_is_refused(qcow2: Path, bit: int, word: str) -> None:
    patch(qcow2, 72, struct.pack(">Q", 1 << bit))
    with pytest.raises(BadImage, match=word):
        check_importable(qcow2, inspect(qcow2))


@pytest.mark.parametrize(
    ("offset", "raw", "why"),
    [
        (4, struct.pack(">I", 4), "version 4"),
        (8, struct.pack(">QI", 1 << 40, 9), "backing file's name"),
        (8, struct.pack(">QI", 0, 9), "backing file's name"),
        (8, struct.pack(">QI", 200, 1 << 31), "backing file's name"),
        (20, struct.pack(">I", 8), "cluster bits"),
        (20, struct.pack(">I", 60), "cluster bits"),
        (24, struct.pack(">Q", 1 << 62), "a disk of"),
        (36, struct.pack(">I", 0), "table is too short"),
        (36, struct.pack(">I", 1 << 30), "outside the file"),
        (40, struct.pack(">Q", 1 << 50), "outside the file"),
        (48, struct.pack(">Q", 1 << 50), "reference counts"),
        (60, struct.pack(">IQ", 1, 1 << 50), "snapshot table"),
        (72, struct.pack(">Q", 1 << 20), "not known"),
        (96, struct.pack(">I", 9), "refcount order"),
        (100, struct.pack(">I", 100), "length 100"),
        (100, struct.pack(">I", 1 << 31), "length"),
        (104 + 8, struct.pack(">II", 0x44415441, 1 << 31), "extension"),
    ],
)
def test_headers_that_lie(qcow2: Path, offset: int, raw: bytes, why: str) -> None:
    patch(qcow2, offset, raw)
    with pytest.raises(BadImage, match=why):
        inspect(qcow2)


@pytest.mark.parametrize("length", [4, 71, 100, 512, 4096, 65536, 196608])
def test_cut_off(qcow2: Path, length: int) -> None:
    os.truncate(qcow2, length)
    with pytest.raises(BadImage):
        inspect(qcow2)


@pytest.mark.parametrize(
    ("form", "shown"), [("vmdk", "vmdk"), ("vdi", "vdi"), ("vhdx", "vhdx"), ("vpc", "vhd"), ("qed", "qed")]
)
def test_other_formats_are_named_and_refused(tmp_path: Path, form: str, shown: str) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-f", form, path, "16M")
    with pytest.raises(BadImage, match=f"this is {shown}") as told:
        inspect(path)
    assert f"convert -f {form}" in told.value.hint


def test_vmdk_descriptor_that_names_a_file(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    text = '# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "/etc/shadow" 0\n'
    path.write_text(text.ljust(1024))
    with pytest.raises(BadImage, match="vmdk"):
        inspect(path)


def mbr(path: Path, size: int = 1 << 20) -> None:
    path.write_bytes(bytes(510) + b"\x55\xaa" + bytes(size - 512))


def test_raw_with_a_boot_sector(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    mbr(path)
    header = inspect(path)
    assert (header.format, header.virtual_size, header.backing) == ("raw", 1 << 20, None)
    check_importable(path, header)


def test_raw_that_is_also_qcow2_is_nobodys(tmp_path: Path, qcow2: Path) -> None:
    patch(qcow2, 510, b"\x55\xaa")
    with pytest.raises(BadImage, match="qcow2 or raw"):
        inspect(qcow2)


def test_raw_with_a_vhd_footer_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    mbr(path)
    patch(path, (1 << 20) - 512, b"conectix")
    with pytest.raises(BadImage, match="vhd or raw"):
        inspect(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(1 << 20)])
def test_nothing_that_can_be_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    with pytest.raises(BadImage, match="no disk format"):
        inspect(path)


def test_raw_of_half_a_sector(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    mbr(path, 1000000)
    with pytest.raises(BadImage, match="whole sectors"):
        inspect(path)


def test_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero"), tmp_path / "absent"):
        with pytest.raises(BadImage):
            inspect(path)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=0, max_size=400), st.integers(0, 600))
def test_any_header_gives_an_answer_or_bad_image(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "disk"
    good = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 26, 0, 1, 3 << 16, 1 << 16, 1, 0, 0)
    good += struct.pack(">QQQII", 0, 0, 0, 4, 104)
    whole = bytearray(good.ljust(4 << 16, b"\0"))
    whole[at : at + len(raw)] = raw
    path.write_bytes(whole)
    try:
        header = inspect(path)
    except BadImage:
        return
    assert header.format in ("qcow2", "raw")
    assert header.virtual_size >= 0


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_the_snapshots_in_it_are_told_and_a_torn_table_is_no_fault(tmp_path: Path, compat: str) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"compat={compat}", path, "100M")
    assert inspect(path).saved == ()
    for name in ("one", "a rather longer name than that", "\u00e4"):
        qemu_img("snapshot", "-c", name, path)
    header = inspect(path)
    assert header.saved == (("one", 0), ("a rather longer name than that", 0), ("\u00e4", 0))
    assert header.snapshots == 3
    at = struct.unpack(">Q", path.read_bytes()[64:72])[0]
    patch(path, at + 32, struct.pack(">I", 5 << 20))  # as version 2 has it, without more of an entry
    patch(path, at + 36, struct.pack(">I", 1 << 30))  # more of an entry than the file has
    assert inspect(path).saved == ()
    patch(path, at + 36, struct.pack(">I", 0))
    assert inspect(path).saved[0][1] == 5 << 20
