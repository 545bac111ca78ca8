"""One SSH connection to a guest: running commands in it as root, over whatever drops in between.

Output is bytes throughout, so nothing that a guest prints can end a session. No setting of the person's own
SSH client is read, no agent is spoken to, nothing is forwarded, and the guest's host key must be the pinned
one before anything is authenticated.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.checks.target import Output
from vmlab_tui.guests.endpoint import Endpoint

if TYPE_CHECKING:
    import asyncssh

KEPT_OUTPUT = 16 << 20
"""Bytes of each stream that ``execute`` keeps; the rest is read and thrown away."""
_CHANNELS = 8  # sshd allows ten sessions on a connection (MaxSessions)
_KEEPALIVE = 15  # seconds; four unanswered ones end the connection
_CHUNK = 1 << 16
_SPAWN_TRIES = 5


class ConnectError(LabError):
    """No SSH connection: nothing listens, or what listens does not finish the handshake."""


class HostKeyError(LabError):
    """Another machine answers, or the guest does not have the host key it was given."""


class AuthError(LabError):
    """The guest does not accept the lab's key for this user."""


class Dropped(LabError):
    """The connection ended while a command was running: whether it finished is not known."""


class Guest:
    """A guest reached over SSH. Implements ``checks.target.Target``.

    Connects at the first need, and again after a drop. Use as ``async with Guest(endpoint)`` or by
    :func:`connect`.
    """

    def __init__(self, endpoint: Endpoint, *, connect_timeout: float = 30) -> None:
        self.endpoint = endpoint
        self.connect_timeout = connect_timeout
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._channels = asyncio.Semaphore(_CHANNELS)

    async def __aenter__(self) -> Guest:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def open(self, timeout: float | None = None, *, sock: socket.socket | None = None) -> None:
        """Connect and log in unless that is done. ``sock`` is a connected socket to speak over.

        Raises ConnectError, HostKeyError, AuthError, DeadlineError.
        """
        async with self._connecting:
            if self.connected:
                if sock is not None:
                    sock.close()
                return
            limit = self.connect_timeout if timeout is None else timeout
            self._connection = await _log_in(self.endpoint, limit, sock)

    async def close(self) -> None:
        """End the connection; commands in flight raise Dropped. The next command connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.wait_closed(), 2)

    async def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = 60, user: str = "root"
    ) -> Output:
        """Run ``command`` by ``/bin/sh -c`` as ``user``; ``data`` goes to its standard input.

        Status 255 stands for a command that a signal ended. A connection found dead is renewed before the
        command is sent; one that drops afterwards raises Dropped, since the command may have run. Raises
        DeadlineError past ``timeout`` seconds and LabError when there is no connection.
        """
        what = f"{self.endpoint.label}: '{clean_line(command, 80)}'"
        try:
            async with asyncio.timeout(timeout), self.process(command, user=user, timeout=timeout) as process:
                out, err = await self._exchange(process, data)
                status, signal = process.exit_status, process.exit_signal
        except TimeoutError as error:
            raise DeadlineError(f"{what}: not done within {timeout:g} s") from error
        if status is None and signal is None:
            raise Dropped(f"{what}: the connection dropped before the command had ended")
        return Output(status=255 if status is None or signal is not None else status, out=out, err=err)

    async def _exchange(
        self, process: asyncssh.SSHClientProcess[bytes], data: bytes | None
    ) -> tuple[bytes, bytes]:
        async def feed() -> None:
            # a command may end without having read its input
            with contextlib.suppress(BrokenPipeError, ConnectionError, OSError):
                if data:
                    process.stdin.write(data)
                    await process.stdin.drain()
                process.stdin.write_eof()

        async def drain(reader: asyncssh.SSHReader[bytes]) -> bytes:
            kept = bytearray()
            while chunk := await reader.read(_CHUNK):
                if len(kept) < KEPT_OUTPUT:
                    kept += chunk[: KEPT_OUTPUT - len(kept)]
            return bytes(kept)

        with self.translated():
            _, out, err = await asyncio.gather(feed(), drain(process.stdout), drain(process.stderr))
            await process.wait_closed()
        return out, err

    @asynccontextmanager
    async def process(
        self, command: str, *, user: str = "root", timeout: float | None = None
    ) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        """A running command whose streams (bytes) the caller reads and writes; closed on leaving.

        Read inside :meth:`translated`. Raises what :meth:`open` raises, and Dropped when the channel cannot
        be had even over a new connection.
        """
        line = shell_line(command, user=user, login=self.endpoint.user)
        async with self._channels:
            process = await self._spawn(line, timeout)
            try:
                yield process
            except BaseException:
                with contextlib.suppress(Exception):
                    process.kill()
                raise
            finally:
                process.close()

    async def _spawn(self, line: str, timeout: float | None) -> asyncssh.SSHClientProcess[bytes]:
        import asyncssh

        for number in range(_SPAWN_TRIES):
            last = number == _SPAWN_TRIES - 1
            await self.open(timeout)
            connection = self._connection
            if connection is None:  # closed by somebody else meanwhile
                continue
            try:
                return await connection.create_process(
                    line, encoding=None, env=None, request_pty=False, window=4 << 20
                )
            except (asyncssh.ConnectionLost, asyncssh.DisconnectError, OSError) as error:
                # after a reset the first packet finds it out; nothing has been run then
                connection.abort()
                if last:
                    raise Dropped(
                        f"{self.endpoint.label}: SSH drops as soon as it is used: {_text(error)}"
                    ) from error
            except asyncssh.ChannelOpenError as error:
                asked = error.code == asyncssh.OPEN_REQUEST_SESSION_FAILED
                if connection.is_closed() and asked:
                    # the request was out: nobody knows whether the command began
                    raise Dropped(f"{self.endpoint.label}: the SSH connection dropped") from error
                # a server counts a session for a while after it was closed: sshd up to MaxSessions, dropbear
                # for the one that follows at once; nothing has run then
                if not last:
                    await asyncio.sleep(0.1 * (number + 1))
                    continue
                raise ConnectError(
                    f"{self.endpoint.label}: the guest refuses to run a command: {_text(error)}"
                ) from error
        raise Dropped(f"{self.endpoint.label}: the SSH connection was closed")

    @asynccontextmanager
    async def connection_to(
        self, port: int
    ) -> AsyncIterator[tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]]:
        """A TCP connection to a port on the guest's own loopback, as two streams of bytes.

        Raises what :meth:`open` raises, ConnectError when nothing listens there, Dropped.
        """
        reader, writer = await self._dial(port)
        try:
            with self.translated():
                yield reader, writer
        finally:
            writer.close()

    async def _dial(self, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        import asyncssh

        for last in (False, True):
            await self.open()
            connection = self._connection
            if connection is None:  # closed by somebody else meanwhile
                continue
            try:
                return await connection.open_connection("127.0.0.1", port, window=4 << 20)
            except asyncssh.ChannelOpenError as error:
                if not connection.is_closed() or last:
                    raise ConnectError(
                        f"{self.endpoint.label}: port {port} does not answer in the guest: {_text(error)}",
                        hint=f"does the service listen there? vmlab ssh {self.endpoint.label} -- ss -tln",
                    ) from error
            except (asyncssh.Error, OSError) as error:
                # after a reset the first packet finds it out
                connection.abort()
                if last:
                    raise Dropped(f"{self.endpoint.label}: SSH drops at once: {_text(error)}") from error
        raise Dropped(f"{self.endpoint.label}: the SSH connection was closed")

    @contextlib.contextmanager
    def translated(self) -> Any:
        """Turn the SSH library's errors into Dropped."""
        import asyncssh

        try:
            yield
        except (asyncssh.Error, ConnectionError) as error:
            raise Dropped(f"{self.endpoint.label}: the SSH connection dropped: {_text(error)}") from error


@asynccontextmanager
async def connect(endpoint: Endpoint, timeout: float = 30) -> AsyncIterator[Guest]:
    """An open connection to a guest: ``async with connect(endpoint, timeout=10) as guest``.

    Raises ConnectError, HostKeyError, AuthError, DeadlineError.
    """
    async with Guest(endpoint, connect_timeout=timeout) as guest:
        await guest.open()
        yield guest


def shell_line(command: str, *, user: str, login: str) -> str:
    """The command line that runs ``command`` by /bin/sh as ``user``, logged in as ``login``."""
    quoted = shlex.quote(command)
    if user == login:
        return f"exec /bin/sh -c {quoted}"
    if user == "root":
        return f"exec sudo -n /bin/sh -c {quoted}"
    if login == "root":
        return f"exec su -s /bin/sh {shlex.quote(user)} -c {quoted}"
    return f"exec sudo -n -H -u {shlex.quote(user)} /bin/sh -c {quoted}"


def _text(error: BaseException) -> str:
    return clean_line(str(error) or type(error).__name__)


async def _log_in(
    endpoint: Endpoint, timeout: float, sock: socket.socket | None
) -> asyncssh.SSHClientConnection:
    import asyncssh

    where = f"{endpoint.label} ({endpoint.user}@{endpoint.host}:{endpoint.port})"
    banner: list[str] = []

    class Client(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            banner.append(msg)

    try:
        pin = asyncssh.import_public_key(endpoint.pin)
        options = asyncssh.SSHClientConnectionOptions(
            config=None,
            client_factory=Client,
            client_version="vmlab",
            username=endpoint.user,
            client_keys=[str(endpoint.key)],
            client_certs=[],
            password=None,
            preferred_auth=["publickey"],
            gss_auth=False,
            gss_kex=False,
            host_based_auth=False,
            kbdint_auth=False,
            password_auth=False,
            disable_trivial_auth=True,  # a server that lets everybody in is not our guest
            known_hosts=([pin], [], []),
            x509_trusted_certs=None,
            x509_trusted_cert_paths=[],
            agent_path=None,
            agent_identities=None,
            agent_forwarding=False,
            pkcs11_provider=None,
            x11_forwarding=False,
            send_env=None,
            env=None,
            utf8_decode_errors="replace",
            encoding=None,
            connect_timeout=None,
            login_timeout=timeout,
            keepalive_interval=_KEEPALIVE,
            keepalive_count_max=4,
        )
    except (asyncssh.KeyImportError, ValueError, OSError) as error:
        if sock is not None:
            sock.close()
        raise LabError(f"{where}: cannot prepare the connection: {_text(error)}") from error
    except LabError:
        if sock is not None:
            sock.close()
        raise
    deadline = Deadline(timeout)
    try:
        async with asyncio.timeout(timeout):
            if sock is None:
                sock = await dial(endpoint)
            return await asyncssh.connect(sock=sock, config=None, options=options)
    except TimeoutError as error:
        raise DeadlineError(f"{where}: no SSH login within {deadline.seconds:g} s") from error
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise HostKeyError(
            f"{where}: its host key is not the one pinned for this VM ({_text(error)}); no login was tried",
            hint="another machine or program answers on this port, or the guest made new host keys",
        ) from error
    except (asyncssh.PermissionDenied, asyncssh.IllegalUserName) as error:
        said = f"; it says: {clean_line(banner[-1])}" if banner else ""
        raise AuthError(
            f"{where}: the guest does not let {clean_line(endpoint.user)} in with the lab's key{said}",
            hint="the seed did not reach the guest, or its cloud-init did not create the user",
        ) from error
    except (asyncssh.Error, OSError) as error:
        raise ConnectError(f"{where}: no SSH connection: {_text(error)}") from error


async def dial(endpoint: Endpoint) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
