"""Files in and out."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.guests.beds import Bed
from vmlab_tui.base.errors import StepError, UsageError
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.transfer import fetch, send_tree, shell_glob
from vmlab_tui.guests.untar import BadArchive, Untar, safe_name


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    src = tmp_path / "site"
    (src / "css").mkdir(parents=True)
    (src / "index.html").write_bytes(b"<h1>\xff</h1>")
    (src / "css/a b.css").write_text("a")
    (src / "css/ö'\"$x").write_text("odd")
    (src / "new\nline").write_text("nl")
    (src / "-rf").write_text("dash")
    (src / "run.sh").write_text("#!/bin/sh\n")
    (src / "run.sh").chmod(0o755)
    (src / "link").symlink_to("css/a b.css")
    (src / "empty").mkdir()
    (src / ("long" * 40)).write_text("long")
    return src


@pytest.fixture
def target(bed: Bed, folder: Path, request: pytest.FixtureRequest) -> str:
    return f"{folder}/to-{os.urandom(4).hex()}/sub"


def _content(root: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


async def test_a_tree_arrives_as_it_is(guest: Guest, bed: Bed, tree: Path, target: str) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int, name: str) -> None:
        seen.append((done, total))

    sent = await send_tree(guest, tree, target, on_progress=progress)
    there = bed.at(target)
    assert _content(there) == _content(tree)
    assert (there / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (there / "run.sh").stat().st_uid == 0
    assert (there / "empty").is_dir()
    assert (sent.files, sent.skipped) == (7, 0)
    assert seen[0][0] == 0 and seen[-1] == (sent.bytes, sent.bytes) and seen == sorted(seen)


async def test_again_sends_only_what_changed(guest: Guest, bed: Bed, tree: Path, target: str) -> None:
    await send_tree(guest, tree, target)
    again = await send_tree(guest, tree, target)
    # a name with a newline cannot be compared line by line and goes each time
    assert (again.files, again.skipped) == (1, 6)
    (tree / "index.html").write_text("<h2>new</h2>")
    (tree / "run.sh").chmod(0o700)
    third = await send_tree(guest, tree, target)
    assert (third.files, third.skipped) == (3, 4)
    assert bed.at(target + "/index.html").read_text() == "<h2>new</h2>"
    assert bed.at(target + "/run.sh").stat().st_mode & 0o777 == 0o700
    bed.at(target + "/css/a b.css").write_text("changed in the guest")
    assert (await send_tree(guest, tree, target)).files == 2
    assert bed.at(target + "/css/a b.css").read_text() == "a"


async def test_exclude_delete_and_owner(guest: Guest, bed: Bed, tree: Path, target: str) -> None:
    await send_tree(guest, tree, target)
    (tree / "run.sh").unlink()
    bed.at(target + "/mine").write_text("x")
    owner = "lab:staff" if bed.endpoint.vm == "busybox" else "nobody"
    sent = await send_tree(guest, tree, target, exclude=("css",), delete=True, owner=owner)
    assert sent.deleted == 2
    assert bed.at(target + "/css/a b.css").exists(), "what is excluded is not deleted either"
    assert set(_content(bed.at(target))) == set(_content(tree))
    info = bed.at(target + "/index.html").stat()
    assert (info.st_uid, info.st_gid) == ((12345, 12350) if bed.endpoint.vm == "busybox" else (65534, 65534))


async def test_one_file(guest: Guest, bed: Bed, tree: Path, target: str) -> None:
    await send_tree(guest, tree / "run.sh", target + "/renamed")
    await send_tree(guest, tree / "run.sh", target + "/into/")
    assert bed.at(target + "/renamed").read_text() == bed.at(target + "/into/run.sh").read_text()


async def test_folders_of_the_system_are_left_alone(
    guest: Guest, bed: Bed, tmp_path: Path, target: str
) -> None:
    there = bed.at(target)
    (there / "usr/lib").mkdir(parents=True, mode=0o711)
    (there / "usr/lib").chmod(0o711)
    (there / "lib").symlink_to("usr/lib")
    (tmp_path / "src/lib").mkdir(parents=True)
    (tmp_path / "src/lib").chmod(0o777)
    (tmp_path / "src/lib/new").write_text("x")
    await send_tree(guest, tmp_path / "src", target)
    assert (there / "lib").is_symlink()
    assert (there / "usr/lib/new").read_text() == "x"
    assert (there / "usr/lib").stat().st_mode & 0o777 == 0o711


async def test_a_drop_in_the_middle(guest: Guest, bed: Bed, tmp_path: Path, target: str) -> None:
    (tmp_path / "src").mkdir()
    for number in range(6):
        (tmp_path / f"src/{number}").write_bytes(os.urandom(8 << 20))
    drops = 0

    def progress(done: int, total: int, name: str) -> None:
        nonlocal drops
        if done > 20 << 20 and not drops:
            drops += 1
            bed.cut()

    await send_tree(guest, tmp_path / "src", target, on_progress=progress)
    assert drops == 1
    assert _content(bed.at(target)) == _content(tmp_path / "src")
    assert (await guest.execute(f"rm -r {target}")).status == 0


@pytest.mark.parametrize("wrong", ["relative", "/a/../b", "/a\0b"])
async def test_targets_that_are_refused(guest: Guest, tree: Path, wrong: str) -> None:
    with pytest.raises(UsageError):
        await send_tree(guest, tree, wrong)


async def test_more_refusals(guest: Guest, tree: Path) -> None:
    with pytest.raises(UsageError, match="could delete a system's folder"):
        await send_tree(guest, tree, "/etc", delete=True)
    with pytest.raises(UsageError, match="not an owner"):
        await send_tree(guest, tree, "/a/b", owner="$(id)")
    with pytest.raises(StepError, match="no user or group 'ghost'"):
        await send_tree(guest, tree, "/a/b", owner="ghost")
    with pytest.raises(UsageError, match="does not exist"):
        await send_tree(guest, tree / "nothing", "/a/b")
    with pytest.raises(StepError, match="cannot unpack into /proc/self/x"):
        await send_tree(guest, tree, "/proc/self/x")


async def test_fetch(guest: Guest, bed: Bed, tree: Path, target: str, tmp_path: Path) -> None:
    await send_tree(guest, tree, target)
    os.mkfifo(bed.at(target + "/css/pipe"))
    globs = [f"{target}/*.html", f"{target}/css", f"{target}/$(touch x)*", "/no/such*"]
    got = await fetch(guest, globs, tmp_path / "out")
    below = tmp_path / "out" / target.lstrip("/")
    assert (below / "index.html").read_bytes() == b"<h1>\xff</h1>"
    assert (below / "css/a b.css").read_text() == "a"
    assert len(got.files) == 3
    assert any("/no/such*: nothing there" in problem for problem in got.problems)
    assert any("pipe: device or pipe" in problem for problem in got.problems)
    assert (below / "index.html").stat().st_mode & 0o777 == 0o600


async def test_fetch_stops_at_its_limit(guest: Guest, bed: Bed, target: str, tmp_path: Path) -> None:
    bed.at(target).mkdir(parents=True)
    bed.at(target + "/a").write_bytes(b"a" * 1000)
    bed.at(target + "/b").write_bytes(b"b" * (30 << 20))
    got = await asyncio.wait_for(fetch(guest, [f"{target}/*"], tmp_path / "out", limit=5000), 10)
    assert (len(got.files), got.bytes) == (1, 1000)
    assert "over the size limit" in got.problems[0]
    assert (await guest.execute(f"rm -r {target}")).status == 0


def test_patterns_are_not_shell() -> None:
    assert shell_glob("/a b/$(x)*[0-9]?;'") == r"/a\ b/\$\(x\)*[0-9]?\;\'"
    for wrong in ("rel", "/a/../b", "/a\nb", "/\x1b"):
        with pytest.raises(UsageError):
            shell_glob(wrong)


def _tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def _unpack(folder: Path, raw: bytes, step: int = 1 << 16, limit: int = 1 << 20) -> Untar:
    folder.mkdir(exist_ok=True)
    untar = Untar(folder, limit, lambda done, name: None)
    for at in range(0, len(raw), step):
        untar.feed(raw[at : at + step])
    untar.close()
    return untar


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", "..", "a/.."])
def test_names_that_lead_out_are_skipped(tmp_path: Path, name: str) -> None:
    untar = _unpack(tmp_path / "in", _tar((_info(name), b"x"), (_info("good"), b"y")))
    assert untar.files == ["good"]
    assert "leads out" in untar.problems[0]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["good", "in"]


def test_links_and_devices_are_skipped_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    raw = _tar(
        (_info("d", tarfile.SYMTYPE, str(tmp_path / "victim")), b""),
        (_info("d/file"), b"x"),
        (_info("h", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (_info("c", tarfile.CHRTYPE), b""),
    )
    untar = _unpack(tmp_path / "in", raw)
    assert untar.files == ["d/file"]
    assert list((tmp_path / "victim").iterdir()) == []
    assert len(untar.problems) == 3


def test_a_link_that_is_there_already_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/d").symlink_to(tmp_path / "victim")
    (tmp_path / "in/f").symlink_to(tmp_path / "victim/f")
    untar = _unpack(tmp_path / "in", _tar((_info("d/file"), b"x"), (_info("f"), b"new")))
    assert untar.files == ["f"]
    assert list((tmp_path / "victim").iterdir()) == []
    assert (tmp_path / "in/f").read_bytes() == b"new"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 1 << 20])
def test_every_format_in_any_pieces(tmp_path: Path, form: int, step: int) -> None:
    names = ["a", "d/" + "n" * 90, "x" * 90 + "/" + "y" * 60]
    if form != tarfile.USTAR_FORMAT:
        names += ["z" * 200, "ö"]
    raw = _tar(*((_info(name), name.encode() * 7) for name in names), form=form)
    untar = _unpack(tmp_path / "in", raw, step)
    assert untar.files == names
    for name in names:
        assert (tmp_path / "in" / name).read_bytes() == name.encode() * 7


def test_damage_and_bombs(tmp_path: Path) -> None:
    good = _tar((_info("a"), b"x" * 600))
    with pytest.raises(BadArchive, match="ends in the middle"):
        _unpack(tmp_path / "1", good[:700])
    with pytest.raises(BadArchive, match="checksum"):
        _unpack(tmp_path / "2", b"b" + good[1:])
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.XHDTYPE, 8 << 30
    with pytest.raises(BadArchive, match="too large"):
        _unpack(tmp_path / "3", huge.tobuf(tarfile.GNU_FORMAT))
    sparse = _info("s")
    sparse.pax_headers = {"GNU.sparse.size": "99999999999"}
    with pytest.raises(BadArchive, match="sparse"):
        _unpack(tmp_path / "4", _tar((sparse, b"x"), form=tarfile.PAX_FORMAT))


def test_names_for_people() -> None:
    assert safe_name(b"a\x1b[31m/\xff\xc2\x9b") == "a%1B[31m/%FF%C2%9B"
    assert safe_name(b"./a//b/") == "a/b"
    assert safe_name(b"./") is None
