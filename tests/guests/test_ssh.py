"""Connections: whom they trust, what they survive."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import asyncssh
import pytest

from tests.guests.beds import Bed, free_port, until
from vmlab_tui import guests
from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import HostKey, UserKey, ensure_user_key, new_host_key
from vmlab_tui.guests.ssh import AuthError, ConnectError, Dropped, Guest, HostKeyError, connect


async def test_streams_are_bytes_and_status_is_the_commands(guest: Guest) -> None:
    done = await guest.execute(r"cat; printf '\377\376\200'; printf '\303(' >&2; exit 3", data=b"in\0put")
    assert (done.status, done.out, done.err) == (3, b"in\0put\xff\xfe\x80", b"\xc3(")


async def test_a_command_is_one_shell_line_whatever_is_in_it(guest: Guest) -> None:
    done = await guest.execute("""printf '%s|' "it's" "\\$HOME" 'a  b'\nprintf end""")
    assert done.out == b"it's|$HOME|a  b|end"


async def test_another_user(guest: Guest, bed: Bed) -> None:
    user = "lab" if bed.endpoint.vm == "busybox" else "nobody"
    assert (await guest.execute("id -un", user=user)).out.strip() == user.encode()


async def test_a_signal_is_status_255(gnu_guest: Guest) -> None:
    assert (await gnu_guest.execute("kill -9 $$")).status == 255


async def test_input_that_nobody_reads(gnu_guest: Guest) -> None:
    done = await gnu_guest.execute("exit 4", data=b"x" * (8 << 20))
    assert done.status == 4


async def test_past_its_time(gnu_guest: Guest) -> None:
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match=r"sleep 30.*within 0\.3 s"):
        await gnu_guest.execute("sleep 30", timeout=0.3)
    assert time.monotonic() - begin < 3
    assert (await gnu_guest.execute("echo on")).out == b"on\n"


async def test_more_commands_at_once_than_sshd_allows_on_a_connection(gnu_guest: Guest) -> None:
    done = await asyncio.gather(*(gnu_guest.execute(f"echo {i}; sleep 0.1") for i in range(25)))
    assert [each.out for each in done] == [f"{i}\n".encode() for i in range(25)]


async def test_connects_again_after_a_drop(gnu: Bed, gnu_guest: Guest) -> None:
    await gnu_guest.execute("true")
    gnu.cut()
    assert (await gnu_guest.execute("echo back")).out == b"back\n"


async def test_a_drop_in_the_middle_is_not_taken_for_an_end(gnu: Bed, gnu_guest: Guest) -> None:
    task = asyncio.create_task(gnu_guest.execute("echo begun; sleep 5"))
    await asyncio.sleep(0.6)
    gnu.cut()
    with pytest.raises(Dropped):
        await asyncio.wait_for(task, 3)


async def test_a_wrong_host_key_ends_it_before_any_login(user_key: UserKey, folder: Path) -> None:
    tried: list[str] = []

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            tried.append(username)
            return True

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], server_factory=Server
    )
    async with server:
        port = server.get_port()
        endpoint = Endpoint("127.0.0.1", port, "root", user_key.private, new_host_key().public, vm="web")
        with pytest.raises(HostKeyError, match=r"web .*host key is not the one pinned"):
            async with connect(endpoint, timeout=5):
                pass
    assert tried == []


async def test_a_host_key_of_another_type_is_a_wrong_one(user_key: UserKey) -> None:
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[asyncssh.generate_private_key("ecdsa-sha2-nistp256")]
    )
    async with server:
        endpoint = Endpoint("127.0.0.1", server.get_port(), "root", user_key.private, new_host_key().public)
        with pytest.raises(HostKeyError):
            async with connect(endpoint, timeout=5):
                pass


@pytest.mark.parametrize(
    "pin", ["", "ssh-ed25519", "* ssh-ed25519 AAAA", "ssh-ed25519 AAAA\nssh-ed25519 BBBB"]
)
async def test_no_pin_is_an_error_even_if_the_person_knows_the_host(
    gnu: Bed, host_key: HostKey, pin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{gnu.endpoint.port} {host_key.public}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LabError, match="no usable host key is pinned"):
        async with connect(replace(gnu.endpoint, host_key=pin)):
            pass


async def test_neither_configuration_nor_agent_is_touched(
    gnu: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(
        "Host *\n  ForwardAgent yes\n  User mallory\n  ProxyCommand false\n  Port no-number\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    calls: list[object] = []

    async def agent(reader: object, writer: asyncio.StreamWriter) -> None:
        calls.append(reader)
        writer.close()

    server = await asyncio.start_unix_server(agent, str(tmp_path / "agent"))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    async with server:
        async with connect(gnu.endpoint) as guest:
            done = await guest.execute('id -un; echo "agent=$SSH_AUTH_SOCK"')
        assert done.out == b"root\nagent=\n"
    assert calls == []


async def test_a_key_that_is_not_accepted(gnu: Bed, folder: Path) -> None:
    other = ensure_user_key(folder / "other-keys")
    with pytest.raises(AuthError, match="does not let root in"):
        async with connect(replace(gnu.endpoint, key=other.private)):
            pass


async def test_nothing_listens(gnu: Bed) -> None:
    with pytest.raises(ConnectError):
        async with connect(replace(gnu.endpoint, port=free_port())):
            pass


async def test_silence_after_accepting(gnu: Bed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(DeadlineError, match=r"no SSH login within 0\.5 s"):
            async with connect(replace(gnu.endpoint, port=silent.getsockname()[1]), timeout=0.5):
                pass
        assert time.monotonic() - begin < 2


class Willing(asyncssh.SSHServer):
    """Accepts any key."""

    connections: ClassVar[list[asyncssh.SSHServerConnection]] = []

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connections.append(conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True


@pytest.mark.parametrize("how", ["connection gone", "channel closed"])
async def test_a_server_that_gives_no_status(user_key: UserKey, how: str) -> None:
    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(b"half \xff")
        await process.stdout.drain()
        if how == "channel closed":
            process.close()
        else:
            Willing.connections[-1].abort()

    Willing.connections.clear()
    key = new_host_key()
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.import_private_key(key.private)],
        server_factory=Willing,
        process_factory=serve,
        encoding=None,
    )
    async with server:
        endpoint = Endpoint("127.0.0.1", server.get_port(), "root", user_key.private, key.public)
        async with connect(endpoint) as guest:
            with pytest.raises(Dropped):
                await asyncio.wait_for(guest.execute("anything"), 5)
    assert len(Willing.connections) == 1, "a command that may have run must not be sent again"


async def test_a_server_that_lets_everybody_in_is_not_believed(user_key: UserKey) -> None:
    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    key = new_host_key()
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[asyncssh.import_private_key(key.private)], server_factory=Server
    )
    async with server:
        endpoint = Endpoint("127.0.0.1", server.get_port(), "root", user_key.private, key.public)
        with pytest.raises(LabError):
            async with connect(endpoint, timeout=5):
                pass


async def test_no_socket_is_left_behind(gnu: Bed, folder: Path) -> None:
    other = ensure_user_key(folder / "other-keys")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for endpoint in (
        replace(gnu.endpoint, key=other.private),
        replace(gnu.endpoint, host_key=new_host_key().public),
    ):
        for _ in range(3):
            with pytest.raises(LabError):
                async with connect(endpoint):
                    pass
    await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 1)


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    first = ensure_user_key(tmp_path / "keys")
    assert first == ensure_user_key(tmp_path / "keys")
    assert first.private.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    first.private.chmod(0o644)
    with pytest.raises(LabError, match="can be read by others"):
        ensure_user_key(tmp_path / "keys")


def test_the_ssh_library_is_loaded_only_when_needed() -> None:
    names = [path.stem for path in Path(guests.__path__[0]).glob("[a-z]*.py")]
    assert len(names) > 8
    code = "import sys\n" + "".join(f"import vmlab_tui.guests.{name}\n" for name in names)
    code += "sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
