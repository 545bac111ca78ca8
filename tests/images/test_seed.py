"""The seed as other programs read it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.images.seed import RESERVED, SeedSpec, meta_data, reseed, user_data, write_seed

SPEC = SeedSpec(
    instance_id="11111111-1111-1111-1111-111111111111",
    hostname="web-1",
    user="lab",
    authorized_keys=("ssh-ed25519 AAAA lab",),
    host_key_private="-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    host_key_public="ssh-ed25519 BBBB host",
    extra={"packages": ["nginx"], "timezone": "Europe/Berlin"},
)


def read(folder: Path, path: Path, name: str) -> str:
    subprocess.run(
        ["osirrox", "-indev", path, "-extract", f"/{name}", folder / name], check=True, capture_output=True
    )
    return (folder / name).read_text()


@pytest.mark.skipif(
    not shutil.which("osirrox"), reason="xorriso is not installed; guests read it in any case"
)
def test_another_program_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    write_seed(path, SPEC)
    assert read(tmp_path, path, "user-data") == user_data(SPEC)
    assert json.loads(read(tmp_path, path, "meta-data"))["local-hostname"] == "web-1"
    assert json.loads(read(tmp_path, path, "network-config"))["ethernets"]["vmlab"]["dhcp4"] is True


def test_label_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    write_seed(path, SPEC)
    assert path.stat().st_mode & 0o777 == 0o600
    raw = path.read_bytes()
    assert raw[32769:32774] == b"CD001"
    assert raw[32768 + 40 : 32768 + 72].strip() == b"cidata"
    told = subprocess.run(["blkid", "-p", "-o", "export", path], capture_output=True, text=True).stdout
    assert "LABEL=cidata" in told
    assert b"user-data" in raw
    assert b"meta-data" in raw


def test_user_data_is_json_after_its_first_line() -> None:
    head, _, rest = user_data(SPEC).partition("\n")
    data = json.loads(rest)
    assert head == "#cloud-config"
    assert data["packages"] == ["nginx"]
    assert data["users"][0]["name"] == "lab"
    assert data["users"][0]["lock_passwd"] is True
    assert data["users"][0]["ssh_authorized_keys"] == ["ssh-ed25519 AAAA lab"]
    assert data["ssh_keys"]["ed25519_private"] == SPEC.host_key_private
    assert "password" not in rest.replace("lock_passwd", "")


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_who_may_log_in_is_not_the_profiles_business(key: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=key):
        write_seed(tmp_path / "seed.iso", replace(SPEC, extra={key: True}))
    assert not (tmp_path / "seed.iso").exists()


def test_values_cannot_leave_their_place() -> None:
    evil = 'x"}\n#cloud-config\nusers: [{name: evil}]\n'
    data = json.loads(user_data(replace(SPEC, hostname=evil)).partition("\n")[2])
    assert data["hostname"] == evil
    assert [user["name"] for user in data["users"]] == ["lab"]


def test_a_forks_seed_differs_in_name_and_host_key_only(tmp_path: Path) -> None:
    own = replace(SPEC, hostname="web-2", host_key_private="PRIVATE\n", host_key_public="ssh-ed25519 CCCC")
    extra = {**SPEC.extra, "fqdn": "web-1.example.org", "hostname": "web-1"}
    write_seed(tmp_path / "old.iso", replace(SPEC, extra=extra))
    keys = {"host_key_private": own.host_key_private, "host_key_public": own.host_key_public}
    for number in (1, 2):  # a fork of a fork too
        old, new = tmp_path / ("old.iso" if number == 1 else "new1.iso"), tmp_path / f"new{number}.iso"
        reseed(old, new, hostname=own.hostname, **keys)
        assert new.stat().st_mode & 0o777 == 0o600
        raw = new.read_bytes()
        assert json.dumps(json.loads(meta_data(own))).encode() in raw, "the instance is the same one"
        assert b"web-1" not in raw
        assert SPEC.host_key_public.encode() not in raw
    write_seed(tmp_path / "made.iso", own)
    assert _user_data(tmp_path / "new2.iso") == _user_data(tmp_path / "made.iso")


def _user_data(path: Path) -> object:
    raw = path.read_bytes()
    at = raw.index(b"#cloud-config\n")
    text = raw[at + len(b"#cloud-config\n") :].decode(errors="replace")
    return json.JSONDecoder().raw_decode(text)[0]


@pytest.mark.parametrize("raw", [b"", b"no ISO", b"\0" * 65536])
def test_a_seed_that_is_none_is_named(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "seed.iso").write_bytes(raw)
    with pytest.raises(LabError, match=r"seed\.iso"):
        reseed(
            tmp_path / "seed.iso", tmp_path / "new.iso", hostname="x", host_key_private="", host_key_public=""
        )
    assert not (tmp_path / "new.iso").exists()
