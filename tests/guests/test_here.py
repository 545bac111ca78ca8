"""A shell where a step ended, through OpenSSH on a real server."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.terminal import AtTerminal
from tests.guests.beds import Bed, until
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.guests.here import leave_opening, leave_secrets, shell_here
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.terminal import ssh_argv, write_known_hosts
from vmlab_tui.guests.units import UnitSpec, kill_unit, run_unit, start_unit, unit_place

pytestmark = pytest.mark.usefixtures("unit_folders")
SECRET = "s3'c$r\n et"


@pytest.fixture
def known(bed: Bed, tmp_path: Path) -> Path:
    write_known_hosts(bed.endpoint, tmp_path / "known_hosts")
    return tmp_path / "known_hosts"


async def ended(guest: Guest, script: str, number: int = 1, user: str = "root", **env: str) -> UnitSpec:
    """A unit that has run to its end."""
    unit = UnitSpec("run-1", number, 1, script, user=user, env=env, secrets={"TOKEN": SECRET})
    await run_unit(guest, unit, lambda _: None, Deadline(20))
    return unit


async def here(guest: Guest, unit: UnitSpec, known: Path, *command: str, secrets: bool = False) -> list[str]:
    """The argument list that goes there."""
    path = await leave_opening(guest, unit, await unit_place(guest, unit), ["welcome"])
    left = await leave_secrets(guest, unit.secrets) if secrets else ""
    line = shell_here(path, left, command, user=unit.user, login="root")
    return ssh_argv(guest.endpoint, line, known, tty=not command)


async def output(argv: list[str], data: bytes = b"") -> bytes:
    done = await asyncio.to_thread(subprocess.run, argv, input=data, capture_output=True, timeout=20)
    assert done.returncode == 0, done
    return bytes(done.stdout)


def variables(raw: bytes) -> dict[bytes, bytes]:
    found = dict(pair.partition(b"=")[::2] for pair in raw.split(b"\0") if pair)
    return {name: value for name, value in found.items() if name not in (b"_", b"SHLVL")}


@pytest.mark.parametrize("shebang", ["", "#!/bin/bash\nset -e\n"])
async def test_folder_and_environment_are_those_of_the_failing_exit(
    guest: Guest, bed: Bed, known: Path, shebang: str
) -> None:
    user = "lab" if bed.endpoint.vm == "busybox" else "nobody"
    if shebang and user == "lab":
        pytest.skip("what is called bash there is none")
    script = shebang + 'cd /tmp; cd /usr 2>/dev/null || cd /etc\nexport FOO="it\'s\n$A" TERM=odd\nfalse\n'
    for number, who in enumerate(("root", user), 1 if shebang else 3):
        unit = await ended(guest, script, number, who, A='"$(id)`', B="")
        saved = bed.at(f"{unit.folder}/env").read_bytes()
        argv = await here(guest, unit, known, "cat", "/proc/self/environ")
        assert variables(await output(argv)) == variables(saved)
        assert b"FOO=it's\n\"$(id)`\0" in saved
        argv = await here(guest, unit, known, "pwd; id -un; cat")
        there = b"/usr" if bed.at("/usr").exists() else b"/etc"
        assert await output(argv, b"input") == b"%s\n%s\ninput" % (there, who.encode())


async def test_secrets_are_there_and_nowhere_else(guest: Guest, known: Path, unit_folders: Path) -> None:
    unit = await ended(guest, 'export AUTH="key $TOKEN"; exit 1')
    argv = await here(guest, unit, known, 'printf "%s|%s" "$TOKEN" "$AUTH"', secrets=True)
    assert not any("s3'c" in word for word in argv)
    assert [path.stat().st_mode & 0o777 for path in unit_folders.iterdir()] == [0o600, 0o600]
    assert await output(argv) == f"{SECRET}|key {SECRET}".encode()
    assert list(unit_folders.iterdir()) == []
    argv = await here(guest, unit, known, 'echo "[$TOKEN]"')
    assert await output(argv) == b"[]\n"


async def test_what_nobody_takes_is_gone(guest: Guest, known: Path, unit_folders: Path) -> None:
    unit = await ended(guest, "exit 1")
    path = await leave_opening(guest, unit, await unit_place(guest, unit), seconds=1)
    await leave_secrets(guest, unit.secrets, seconds=1)
    await until(lambda: list(unit_folders.iterdir()) == [])
    line = shell_here(path, "", ["true"], login="root")
    done = subprocess.run(ssh_argv(guest.endpoint, line, known), capture_output=True, timeout=20)
    assert done.returncode == 255
    assert b"ask once more" in done.stderr


@pytest.mark.parametrize("bed", ["gnu"], indirect=True)
@pytest.mark.parametrize(
    ("script", "command"),
    [
        ('#!/bin/bash\nset -e\nf() {\n  ls /nowhere "$X"\n}\nf\necho no', 'ls /nowhere "$X"'),
        ("#!/usr/bin/env bash\nset -e\ntrue\n(cd /; false)\n", "( cd /; false )"),
        ("#!/bin/bash -eu\necho $NOPE\n", "echo $NOPE"),
        ("#!/bin/bash\ntest -e /no || exit 3\n", "exit 3"),
        ("true\ncd /usr\nls /nowhere\ntrue\n", "ls /nowhere"),
        ("#!/bin/dash -e\nfalse\n", ""),  # dash does not tell
    ],
)
async def test_the_command_that_failed_is_the_last_of_the_history(
    guest: Guest, known: Path, script: str, command: str
) -> None:
    unit = await ended(guest, script)
    assert (await unit_place(guest, unit)).command == command
    argv = await here(guest, unit, known, secrets=True)
    term = AtTerminal([shutil.which("ssh") or "", *argv[1:]])
    try:
        await asyncio.to_thread(term.read_until, "welcome")
        await asyncio.to_thread(term.read_until, "# ")
        term.press(b"echo $((40+2)) ${#TOKEN} $HISTFILE; history\r")
        await asyncio.to_thread(term.read_until, f"42 {len(SECRET)}")
        last = f"1  {command}\r\n" if command else "; history\r\n"
        await asyncio.to_thread(term.read_until, last)
        term.press(b"exit 7\r")
        assert await asyncio.to_thread(term.status) == 7
        assert "s3'c" not in term.text
    finally:
        term.close()


@pytest.mark.parametrize("bed", ["busybox"], indirect=True)
async def test_busybox_knows_the_line(guest: Guest) -> None:
    unit = await ended(guest, 'echo a\n\n  ls /nowhere "$X"\necho b')
    assert (await unit_place(guest, unit)).command == 'ls /nowhere "$X"'


async def test_a_script_that_did_not_tell_its_place(guest: Guest, known: Path, bed: Bed) -> None:
    """One with a trap of its own, one that was killed, and one of which there is nothing."""
    unit = await ended(guest, "trap : EXIT; cd /tmp; exit 1", A="1")
    killed = UnitSpec("run-1", 2, 1, "#!/bin/sh -e\ncd /tmp; sleep 61.25", env={"A": "1"})
    await start_unit(guest, killed)
    await kill_unit(guest, killed)
    for one in (unit, killed, UnitSpec("run-2", 1, 1, "true", env={"A": "1"})):
        assert not (await unit_place(guest, one)).known
        argv = await here(guest, one, known, 'pwd; echo "$A $VMLAB_RUN $HOME"')
        assert await output(argv) == f"/root\n1 {one.run_id} /root\n".encode()


@pytest.mark.parametrize("bed", ["gnu"], indirect=True)
async def test_bash_tells_its_place_also_when_it_is_killed(guest: Guest, bed: Bed) -> None:
    unit = UnitSpec("run-1", 1, 1, "cd /tmp\necho there\nsleep 61.25")
    await start_unit(guest, unit)
    await until(lambda: bed.at(f"{unit.folder}/log").read_bytes() == b"there\n")
    await kill_unit(guest, unit)
    place = await unit_place(guest, unit)
    assert (place.cwd, place.command) == ("/tmp", "sleep 61.25")


@pytest.mark.parametrize("bed", ["gnu"], indirect=True)
async def test_what_bash_reads_first_is_kept_and_leaves_no_trace(guest: Guest, folder: Path) -> None:
    (folder / "own.sh").write_text("GREETING=hello\n")
    log: list[bytes] = []
    script = '#!/bin/bash -x\necho "$GREETING ${BASH_ENV-none} $0"\n'
    unit = UnitSpec("run-1", 1, 1, script, env={"BASH_ENV": f"{folder}/own.sh"})
    await run_unit(guest, unit, log.append, Deadline(20))
    assert f"hello {folder}/own.sh {unit.folder}/script\n".encode() in b"".join(log)
    log.clear()
    unit = UnitSpec("run-1", 2, 1, script)
    await run_unit(guest, unit, log.append, Deadline(20))
    said = f"+ echo ' none {unit.folder}/script'\n none {unit.folder}/script\n"
    assert b"".join(log) == said.encode()
