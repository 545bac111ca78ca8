"""Facts of a guest: told by real shells on this machine, read back, and compared."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runs.samples import profile
from vmlab_tui.runs.facts import Facts, declared_paths, differences, parse, script

DEBIAN = b"""\
@packages
installed bash 5.2.15-2+b2
config-files old-thing 1.0
installed libc6:amd64 2.36-9
@units
ssh.service                enabled enabled
web.service                enabled-runtime enabled
@ports tcp
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 1 1
@ports udp
   0: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2
@users
root:x:0:0:root:/root:/bin/bash
a broken line
evil\x1b[2J:x:1:1::/:/bin/sh

@files
S 755 4096 41ed /srv
S 644 3 81a4 /srv/a
S 600 99999999 8180 /srv/large
S 777 1 a1ff /srv/link
L /srv/link
T a
0123456789012345678901234567890123456789012345678901234567890123  /srv/a
M /usr
@end
"""


def test_what_a_guest_says_is_read_and_cleaned() -> None:
    told = parse(DEBIAN)
    assert told.known["packages"] == {
        "bash": {"version": "5.2.15-2+b2"},
        "libc6:amd64": {"version": "2.36-9"},
    }
    assert told.known["units"]["web.service"] == {"state": "enabled-runtime"}
    assert set(told.known["ports"]) == {"tcp/22", "udp/68"}
    assert set(told.known["users"]) == {"root", "evil"}
    files = told.known["files"]
    assert files["/srv"] == {"kind": "directory", "mode": "0755"}
    assert files["/srv/a"] == {
        "kind": "file",
        "mode": "0644",
        "size": "3",
        "sha256": "0123456789" * 6 + "0123",
    }
    assert files["/srv/link"] == {"kind": "link", "mode": "0777", "to": "a"}
    assert told.unread == {"/srv/large"}
    assert told.notes == ("/usr: more than 5000 files, not looked at",)
    assert told.unknown == {}


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_the_script_on_real_shells(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    folder = tmp_path / "it's a place"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/two words").write_text("hi\n")
    (folder / "link").symlink_to("sub/two words")
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "b.log").chmod(0o600)
    paths = [str(folder), f"{tmp_path}/*.log", f"{tmp_path}/absent"]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    if shell == "busybox":
        tools = tmp_path / "bin"
        tools.mkdir()
        subprocess.run(["busybox", "--install", "-s", tools], check=True)
        env = {"PATH": str(tools)}
    argv = [shutil.which(shell) or "", *(["sh"] if shell == "busybox" else []), "-s"]
    done = subprocess.run(argv, input=script(paths), capture_output=True, env=env, check=True)
    told = parse(done.stdout)
    files = told.known["files"]
    digest = hashlib.sha256(b"hi\n").hexdigest()
    assert set(files) == {
        str(folder),
        f"{folder}/sub",
        f"{folder}/sub/two words",
        f"{folder}/link",
        f"{tmp_path}/a.log",
        f"{tmp_path}/b.log",
    }
    assert files[f"{folder}/sub/two words"]["sha256"] == digest
    assert files[f"{folder}/link"]["to"] == "sub/two words"
    assert files[f"{tmp_path}/b.log"]["mode"] == "0600"
    assert told.known["users"]["root"]["uid"] == "0"
    if shell == "dash" and shutil.which("dpkg-query"):
        assert told.known["packages"]["dpkg"]["version"]
    if shell == "busybox":
        assert "packages" in told.unknown, "not known is not none"
        assert "packages" not in told.known


def facts(**known: dict[str, dict[str, str]]) -> Facts:
    return Facts(known, {"units": "no systemd"})


def test_the_difference_of_two_states() -> None:
    file = {"kind": "file", "mode": "0644", "size": "1"}
    before = facts(
        packages={"a": {"version": "1"}, "b": {"version": "1"}},
        ports={"tcp/22": {}},
        users={},
        files={"/x": {**file, "sha256": "0"}, "/big": file, "/etc/hostname": {**file, "sha256": "0"}},
    )
    after = facts(
        packages={"a": {"version": "2"}},
        ports={"tcp/22": {}, "tcp/80": {}},
        users={},
        files={"/x": {**file, "sha256": "1"}, "/big": {**file, "sha256": "2"}, "/etc/hostname": file},
    )
    found = differences(before, after)
    assert [(one.section, one.name, one.before is None, one.after is None) for one in found.changes] == [
        ("packages", "a", False, False),
        ("packages", "b", False, True),
        ("ports", "tcp/80", True, False),
        ("files", "/x", False, False),
    ]
    assert dict(found.unknown) == {"units": "no systemd"}
    moved = facts(files={"/etc/hostname": {**file, "sha256": "1"}})
    assert "/etc/hostname" in differences(before, moved).notes[0]


def test_the_paths_that_a_profile_speaks_of() -> None:
    one = profile(
        steps=[{"kind": "copy", "name": "c", "src": "/here", "to": "/srv/site", "timeout": 1}],
        checks=[{"kind": "file", "params": {"path": "/etc/web.conf"}}],
        artifacts=["/var/log/*.log"],
    )
    assert declared_paths(one) == ("/srv/site", "/etc/web.conf", "/var/log/*.log")
