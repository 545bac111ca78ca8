"""Waiting for a guest: what is said while it lasts, and how it ends."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guests.beds import Bed, free_port
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError
from vmlab_tui.guests import waiting
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import ensure_user_key, new_host_key
from vmlab_tui.guests.ssh import AuthError, HostKeyError
from vmlab_tui.guests.stage import Stage
from vmlab_tui.guests.waiting import Died, NotReady, boot_id, wait_ready, while_alive


class Watch:
    """Callbacks of a wait and what they were told."""

    def __init__(self, console: str = "") -> None:
        self.console = console
        self.running = True
        self.told: list[tuple[Stage, str]] = []

    @property
    def stages(self) -> list[Stage]:
        return [stage for stage, _ in self.told]

    def on_stage(self, stage: Stage, detail: str) -> None:
        self.told.append((stage, detail))

    def tail(self) -> str:
        return self.console

    async def alive(self) -> bool:
        return self.running


async def wait(endpoint: Endpoint, seconds: float, watch: Watch) -> None:
    guest = await wait_ready(endpoint, Deadline(seconds), watch.on_stage, watch.tail, watch.alive)
    assert guest.connected
    await guest.close()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_stages_in_order(gnu: Bed) -> None:
    watch = Watch("[    0.0] Linux\nlogin: ")
    await wait(gnu.endpoint, 10, watch)
    assert watch.stages == [Stage.QEMU, Stage.CONSOLE, Stage.PORT, Stage.BANNER, Stage.AUTHENTICATED]
    assert watch.told[1][1] == "login: " or watch.told[1][1] == "login:"
    assert watch.told[3][1].startswith("SSH-2.0-OpenSSH")


async def test_an_open_port_alone_means_nothing(gnu: Bed) -> None:
    held: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()

    async with serving(silent) as port:
        watch = Watch("boot\x1b]0;evil\x07 line\nKernel panic \x9b31m\n")
        with pytest.raises(NotReady) as caught:
            await wait(replace(gnu.endpoint, port=port), 2, watch)
        for writer in held:
            writer.close()
    assert caught.value.stage is Stage.PORT
    assert watch.stages == [Stage.QEMU, Stage.CONSOLE, Stage.PORT]
    assert "no SSH server answers" in caught.value.message
    assert "Kernel panic" in caught.value.message
    assert not set("\x1b\x07\x9b") & set(caught.value.message)


async def test_an_empty_console_is_told_before_the_port(gnu: Bed) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(silent) as port:
        watch = Watch()
        with pytest.raises(NotReady) as caught:
            await wait(replace(gnu.endpoint, port=port), 1, watch)
    assert (caught.value.stage, watch.stages) == (Stage.QEMU, [Stage.QEMU])
    assert "the console is empty" in caught.value.message


async def test_connections_accepted_long_before_the_server_speaks(gnu: Bed) -> None:
    """As with QEMU's forward: the first connections hang, later ones reach the server."""
    begin = time.monotonic()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if time.monotonic() - begin < 2:
            await reader.read()
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", gnu.endpoint.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    async with serving(forward) as port:
        watch = Watch("x")
        await wait(replace(gnu.endpoint, port=port), 15, watch)
    assert watch.stages[-1] is Stage.AUTHENTICATED
    assert time.monotonic() - begin < 6


PANIC = """\
[    1.204512] VFS: Unable to mount root fs on unknown-block(0,0)
[    1.205001] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
[    1.207000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---
"""


async def test_a_kernel_panic_ends_the_wait_at_once(gnu: Bed, tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    console.write_text("[    0.000000] Linux version 6.1\n")
    watch = Watch()
    watch.tail = console.read_text  # type: ignore[method-assign]
    task = asyncio.create_task(wait(replace(gnu.endpoint, port=free_port()), 60, watch))
    await asyncio.sleep(0.3)
    begin = time.monotonic()
    with console.open("a") as file:
        file.write(PANIC)
    with pytest.raises(Died, match="Unable to mount root fs") as caught:
        await task
    assert time.monotonic() - begin < 5
    assert "stage reached: console" in caught.value.message


async def test_what_only_speaks_of_a_panic_is_none(gnu: Bed) -> None:
    watch = Watch("Linux\n")
    task = asyncio.create_task(wait(replace(gnu.endpoint, port=free_port()), 2.5, watch))
    await asyncio.sleep(0.3)
    watch.console += "app: what does 'end Kernel panic - not syncing' mean?\n"
    with pytest.raises(NotReady):
        await task


async def test_cloud_init_is_not_waited_for_in_a_guest_that_panicked(gnu: Bed) -> None:
    watch = Watch("Linux\n")
    waited = asyncio.create_task(
        while_alive(
            asyncio.sleep(60),
            gnu.endpoint,
            "cloud-init",
            stage=Stage.CLOUD_INIT,
            console_tail=watch.tail,
            alive=watch.alive,
        )
    )
    await asyncio.sleep(0.3)
    watch.console += PANIC
    with pytest.raises(Died, match="panicked while waiting for cloud-init"):
        await asyncio.wait_for(waited, 5)


async def test_what_answers_is_not_ssh(gnu: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_OTHER_LINES", 0.5)

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with serving(http) as port:
        with pytest.raises(NotReady, match="does not speak SSH") as caught:
            await wait(replace(gnu.endpoint, port=port), 3, Watch("x"))
    assert caught.value.stage is Stage.PORT


async def test_the_vm_stops_meanwhile(gnu: Bed) -> None:
    watch = Watch("Power down")
    task = asyncio.create_task(wait(replace(gnu.endpoint, port=free_port()), 60, watch))
    await asyncio.sleep(0.3)
    watch.running = False
    with pytest.raises(Died, match="Power down"):
        await asyncio.wait_for(task, 5)


async def test_wrong_host_key_and_refused_key_are_put_up_with_only_for_a_while(
    gnu: Bed, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_KEY_GRACE", 0.5)
    monkeypatch.setattr(waiting, "_LOGIN_GRACE", 0.5)
    with pytest.raises(HostKeyError):
        await wait(replace(gnu.endpoint, host_key=new_host_key().public), 30, Watch("x"))
    with pytest.raises(AuthError):
        other = ensure_user_key(folder / "other-keys")
        await wait(replace(gnu.endpoint, key=other.private), 30, Watch("x"))


async def test_without_a_pin_it_does_not_even_begin(gnu: Bed) -> None:
    watch = Watch()
    with pytest.raises(LabError, match="no usable host key"):
        await wait(replace(gnu.endpoint, host_key=""), 30, watch)
    assert watch.told == []


async def test_cancelling_leaves_nothing(gnu: Bed) -> None:
    before = len(asyncio.all_tasks())
    task = asyncio.create_task(wait(replace(gnu.endpoint, port=free_port()), 60, Watch()))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == before


async def test_boot_id(gnu: Bed) -> None:
    guest = await wait_ready(gnu.endpoint, Deadline(10), lambda *a: None, lambda: "", Watch().alive)
    assert await boot_id(guest) == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    await guest.close()


def test_openssh_is_there() -> None:
    assert shutil.which("ssh")
