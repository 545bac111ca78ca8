"""Package sources as machines have them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from vmlab_tui.base.errors import Refused
from vmlab_tui.images.build.sources import (
    KEYRING,
    Source,
    check_keys,
    guest_sources,
    read_sources,
    sources_for,
)


def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    return folder


def lines(suite: str, found: list[Source]) -> list[str]:
    return [source.line(suite, ["main"]) for source in sources_for(suite, found)]


def test_deb822(tmp_path: Path) -> None:
    folder = etc(tmp_path)
    (folder / "sources.list.d/debian.sources").write_text(
        "# comment\n"
        "Types: deb deb-src\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\n"
        "# another\n bookworm-backports\nComponents: main contrib\nSigned-By: /usr/share/keyrings/x.gpg\n"
        "\n"
        "Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n"
        "\n"
        "Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n"
    )
    (folder / "sources.list.d/other.sources").write_text(
        "Types: deb\nURIs: https://packages.example/node\nSuites: nodistro\nComponents: main\n"
    )
    assert lines("trixie", read_sources(folder)) == [
        "deb [signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian trixie-updates main",
        f"deb [signed-by={KEYRING}] http://mirror.example/security trixie-security main",
    ]


def test_one_line(tmp_path: Path) -> None:
    folder = etc(tmp_path)
    (folder / "sources.list").write_text(
        "# deb http://no.example/debian bookworm main\n"
        "deb-src http://no.example/debian bookworm main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
        "deb [arch=arm64] http://arm.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main non-free # ours\n"
        "deb http://a.example/debian-security bookworm-security main\n"
        "deb http://a.example/ubuntu jammy main\n"
    )
    assert lines("bookworm", read_sources(folder)) == [
        "deb [signed-by=/k.gpg] http://a.example/debian bookworm main",
        f"deb [signed-by={KEYRING}] http://a.example/debian-security bookworm-security main",
    ]


def test_first_mirror_of_a_role_wins(tmp_path: Path) -> None:
    folder = etc(tmp_path)
    (folder / "sources.list").write_text(
        "deb http://a.example/debian stable main\ndeb http://b.example/debian bookworm main\n"
    )
    assert [source.uri for source in read_sources(folder)] == ["http://a.example/debian"]


def test_a_machine_without_debian_falls_back(tmp_path: Path) -> None:
    folder = etc(tmp_path)
    (folder / "sources.list").write_text("deb http://archive.ubuntu.com/ubuntu jammy main universe\n")
    assert read_sources(folder) == []
    assert lines("bookworm", []) == [
        f"deb [signed-by={KEYRING}] http://deb.debian.org/debian bookworm main",
        f"deb [signed-by={KEYRING}] http://deb.debian.org/debian bookworm-updates main",
        f"deb [signed-by={KEYRING}] http://deb.debian.org/debian-security bookworm-security main",
    ]


def test_rolling_suites_have_one_archive() -> None:
    assert lines("sid", []) == [f"deb [signed-by={KEYRING}] http://deb.debian.org/debian sid main"]


@pytest.mark.parametrize("armoured", [False, True])
def test_a_keyring_without_the_release_is_explained(tmp_path: Path, armoured: bool) -> None:
    ring = tmp_path / "ring"
    raw = b"\x99junk" + b"Debian Archive Automatic Signing Key (12/bookworm) <ftpmaster@debian.org>"
    text = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" + base64.encodebytes(raw) + b"-----END PGP"
    ring.write_bytes(text if armoured else raw)
    source = Source("http://a.example/debian", "main", ring)
    check_keys("bookworm", [source])
    with pytest.raises(Refused, match="no key of Debian 13") as told:
        check_keys("trixie", [source])
    assert "debian-archive-keyring" in told.value.hint
    check_keys("trixie", [Source("http://a.example/debian", "main", ring, trusted=True)])


def test_a_keyring_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is missing"):
        check_keys("bookworm", [Source("http://a.example/debian", "main", tmp_path / "none")])


@pytest.mark.parametrize(
    "uri",
    ["http://user:secret@a.example/debian", "http://localhost:3142/debian", "file:/srv/debian"],
)
def test_guests_are_not_given_what_only_this_machine_can_use(uri: str) -> None:
    text = guest_sources("bookworm", [Source(uri, "main")], ["main"])
    assert "URIs: http://deb.debian.org/debian\n" in text
    assert "secret" not in text
    kept = guest_sources("bookworm", [Source("http://a.example/debian", "main")], ["main"])
    assert "URIs: http://a.example/debian\n" in kept
