"""OpenSSH with our trust."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guests.beds import Bed
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import new_host_key
from vmlab_tui.guests.terminal import ssh_argv, write_known_hosts


def ssh(endpoint: Endpoint, known: Path, *words: str, home: Path) -> subprocess.CompletedProcess[bytes]:
    argv = ssh_argv(endpoint, list(words), known)
    env = {**os.environ, "HOME": str(home), "SSH_AUTH_SOCK": str(home / "agent")}
    return subprocess.run(argv, capture_output=True, env=env, timeout=20, stdin=subprocess.DEVNULL)


@pytest.fixture
def known(gnu: Bed, tmp_path: Path) -> Path:
    path = tmp_path / 'odd %h "name"' / "known_host"
    path.parent.mkdir()
    write_known_hosts(gnu.endpoint, path)
    return path


def test_words_arrive_as_they_are_and_one_word_is_a_line(gnu: Bed, known: Path, tmp_path: Path) -> None:
    done = ssh(gnu.endpoint, known, "printf", "%s|", "a  b", "$HOME", "it's", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"a  b|$HOME|it's|"), done.stderr
    assert ssh(gnu.endpoint, known, "echo $((1+1)); exit 3", home=tmp_path).stdout == b"2\n"


def test_another_host_key_is_refused(gnu: Bed, known: Path, tmp_path: Path) -> None:
    write_known_hosts(replace(gnu.endpoint, host_key=new_host_key().public), known)
    done = ssh(gnu.endpoint, known, "true", home=tmp_path)
    assert done.returncode == 255
    assert b"verification failed" in done.stderr


def test_a_host_that_begins_with_a_dash_is_no_option(gnu: Bed, known: Path) -> None:
    argv = ssh_argv(replace(gnu.endpoint, host="-oProxyCommand=false"), None, known)
    assert argv.index("--") < argv.index("-oProxyCommand=false")
