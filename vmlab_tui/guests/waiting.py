"""Waiting until a guest can be logged in to, and saying all the while how far it has come.

With user networking QEMU accepts TCP connections on a forwarded port before the guest has even a kernel, so
an open port proves nothing: only the banner of an SSH server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.ssh import AuthError, ConnectError, Guest, HostKeyError, dial
from vmlab_tui.guests.stage import MEANING, Stage

_ORDER = list(Stage)

OnStage = Callable[[Stage, str], None]
ConsoleTail = Callable[[], str]
Alive = Callable[[], Awaitable[bool]]
T = TypeVar("T")

TAIL_LINES = 15
"""Console lines shown in an error."""
_PAUSE = 0.25  # seconds between a refused connection and the next try
_STAGGER = 1.5  # seconds after which a silent connection gets a rival
_SILENT = 20.0  # seconds after which a silent connection is given up
_OTHER_LINES = 5.0  # seconds that something may talk without a banner
_ALIVE_EVERY = 1.0
_KEY_GRACE = 15.0  # seconds a wrong host key is put up with: sshd may start before its keys are there
_LOGIN_GRACE = 60.0  # the same for a refused login: users are not let in before systemd says so
_OLD_PANIC = 10.0  # seconds to say more for a guest that panicked before the wait: it may be starting anew
# as the kernel writes it, at the beginning of a message and at the end of its trace
_PANIC = re.compile(r"(?:^|\] |\[ end )Kernel panic - not syncing(?:: (.*?))?(?: \]---)?$", re.MULTILINE)


class NotReady(DeadlineError):
    """The guest did not come up in time; ``stage`` is how far it came."""

    def __init__(self, message: str, *, stage: Stage, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stage = stage


class Died(LabError):
    """The VM stopped while it was waited for; ``stage`` is how far it had come."""

    def __init__(self, message: str, *, stage: Stage, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stage = stage


@dataclass
class _Watch:
    """A guest being looked at while something in it is waited for."""

    endpoint: Endpoint
    console_tail: ConsoleTail
    alive: Alive
    waiting_for: str = "SSH"
    stage: Stage = Stage.QEMU
    last: str = ""
    _old_panic: Deadline | None = None
    _looked: bool = False

    def explain(self, what: str) -> str:
        lines = [f"{self.endpoint.label}: {what}; stage reached: {self.stage} ({MEANING[self.stage]})"]
        if self.last:
            lines.append(f"last try: {self.last}")
        tail = clean(self.console_tail()).strip().splitlines()[-TAIL_LINES:]
        lines += (
            ["last lines of the console:", *("  | " + line for line in tail)]
            if tail
            else ["the console is empty"]
        )
        return "\n".join(lines)

    async def check_alive(self) -> None:
        if not await self.alive():
            raise Died(
                self.explain(f"the VM stopped while waiting for {self.waiting_for}"),
                stage=self.stage,
                hint="see the console log; a guest that goes off at boot often has a damaged or wrong image",
            )

    def check_panic(self, tail: str) -> None:
        """Raise Died when the kernel has panicked: nothing will come of waiting on."""
        found = list(_PANIC.finditer(clean(tail)))
        if not found:
            self._old_panic = None
        elif not self._looked:
            self._old_panic = Deadline(_OLD_PANIC)
        elif self._old_panic is None or self._old_panic.expired:
            why = clean_line(found[-1][1] or "", 200)
            raise Died(
                self.explain(
                    f"the guest's kernel panicked while waiting for {self.waiting_for}"
                    + (f" ({why})" if why else "")
                ),
                stage=self.stage,
                hint="see the console log; at boot, the image does not fit the VM or its disk is damaged",
            )
        self._looked = True

    def look_at_console(self) -> None:
        self.check_panic(self.console_tail())

    async def tick(self) -> None:
        """Once a second: is it there, what does it say."""
        while True:
            await self.check_alive()
            self.look_at_console()
            await asyncio.sleep(_ALIVE_EVERY)


@dataclass
class _Wait(_Watch):
    """One wait for a login in progress."""

    deadline: Deadline = field(kw_only=True)
    on_stage: OnStage = field(kw_only=True)
    port: bool = False
    attempts: set[asyncio.Task[tuple[socket.socket, str]]] = field(default_factory=set)

    def reach(self, stage: Stage, detail: str = "") -> None:
        if stage is Stage.PORT:
            # QEMU's forward accepts at once: told first, it would hide that the console is still empty
            self.port = True
            if self.stage is Stage.QEMU:
                return
        if _ORDER.index(stage) > _ORDER.index(self.stage):
            self.stage = stage
            self.on_stage(stage, detail)

    def look_at_console(self) -> None:
        tail = self.console_tail()
        if self.stage is Stage.QEMU and tail.strip():
            self.reach(Stage.CONSOLE, clean_line(tail.strip().splitlines()[-1]))
            if self.port:
                self.reach(Stage.PORT)
        self.check_panic(tail)

    async def log_in(self) -> Guest:
        wrong_key: Deadline | None = None
        refused: Deadline | None = None
        while True:
            sock, banner = await self.first_banner()
            self.reach(Stage.BANNER, banner)
            guest = Guest(self.endpoint)
            try:
                await guest.open(max(10.0, self.deadline.part(60)), sock=sock)
            except HostKeyError as error:
                wrong_key = wrong_key or Deadline(_KEY_GRACE)
                self.last = error.message
                if wrong_key.expired:
                    raise
            except AuthError as error:
                refused = refused or Deadline(_LOGIN_GRACE)
                self.last = error.message
                if refused.expired:
                    raise
            except (ConnectError, DeadlineError) as error:
                self.last = error.message
            else:
                self.reach(Stage.AUTHENTICATED, banner)
                return guest
            await asyncio.sleep(_PAUSE)

    async def first_banner(self) -> tuple[socket.socket, str]:
        """A connected socket on which an SSH server has spoken (nothing read from it yet)."""
        try:
            while True:
                self.attempts.add(asyncio.create_task(self.attempt()))
                done, _ = await asyncio.wait(
                    self.attempts, timeout=_STAGGER, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    self.attempts.discard(task)
                    if (error := task.exception()) is None:
                        return task.result()
                    if not isinstance(error, OSError | TimeoutError | _Silent):
                        raise error
                    self.last = clean_line(str(error) or type(error).__name__)
                if done:
                    await asyncio.sleep(_PAUSE)
        finally:
            await self.drop_attempts()

    async def drop_attempts(self) -> None:
        attempts, self.attempts = self.attempts, set()
        for task in attempts:
            task.cancel()
        for result in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(result, tuple):
                result[0].close()

    async def attempt(self) -> tuple[socket.socket, str]:
        async with asyncio.timeout(_SILENT):
            sock = await dial(self.endpoint)
            try:
                self.reach(Stage.PORT)
                return sock, await _peek_banner(sock)
            except BaseException:
                sock.close()
                raise


class _Silent(Exception):
    """What answers does not speak SSH."""


async def _peek_banner(sock: socket.socket) -> str:
    """The ``SSH-2.0-...`` line, left unread so that the same connection can be used to log in.

    Peeking saves the guest a second handshake, which costs it a fraction of a second when emulated.
    """
    loop = asyncio.get_running_loop()
    patience: Deadline | None = None
    while True:
        readable = asyncio.Event()
        loop.add_reader(sock, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(sock)
        seen = sock.recv(8192, socket.MSG_PEEK)
        if not seen:
            raise _Silent("connection closed before an SSH banner")
        for line in seen.split(b"\n")[:-1]:
            if line.startswith(b"SSH-"):
                return clean_line(line.rstrip(b"\r"))
        # a server may send other lines first; a closed connection looks the same, as the bytes stay unread
        patience = patience or Deadline(_OTHER_LINES)
        if len(seen) >= 8192 or patience.expired:
            raise _Silent("what answers on the port does not speak SSH")
        await asyncio.sleep(0.05)  # the unread bytes keep the socket readable: do not spin


async def wait_ready(
    endpoint: Endpoint,
    deadline: Deadline,
    on_stage: OnStage,
    console_tail: ConsoleTail,
    alive: Alive,
) -> Guest:
    """Wait until the lab's key opens the guest; the open connection is the caller's to close.

    ``on_stage`` is called once per stage reached, with a cleaned one-line detail. ``console_tail`` gives the
    console's latest text, ``alive`` whether the VM still runs (asked once a second). Raises NotReady (with
    the stage and the console's last lines), Died, HostKeyError or AuthError when the guest stays wrong, and
    what ``alive`` raises.
    """
    endpoint.pin  # noqa: B018 - no pin is an error now, not after minutes
    wait = _Wait(endpoint, console_tail, alive, deadline=deadline, on_stage=on_stage)
    on_stage(Stage.QEMU, "")
    ticking = asyncio.create_task(wait.tick())
    logging_in = asyncio.create_task(wait.log_in())
    try:
        done, _ = await asyncio.wait(
            {ticking, logging_in}, timeout=deadline.left, return_when=asyncio.FIRST_COMPLETED
        )
        if logging_in in done:
            return logging_in.result()
        if ticking in done:
            ticking.result()
        raise NotReady(
            wait.explain(f"no SSH login within {deadline.seconds:g} s"),
            stage=wait.stage,
            hint="look at the console; a slow host needs a longer boot_timeout",
        )
    finally:
        ticking.cancel()
        if not logging_in.done():
            logging_in.cancel()
            with contextlib.suppress(BaseException):
                await (await logging_in).close()
        await asyncio.gather(ticking, return_exceptions=True)
        await wait.drop_attempts()


async def while_alive(
    work: Coroutine[Any, Any, T],
    endpoint: Endpoint,
    waiting_for: str,
    *,
    stage: Stage,
    console_tail: ConsoleTail,
    alive: Alive,
) -> T:
    """What ``work`` returns or raises; Died as soon as the VM stops or its kernel panics.

    Otherwise a guest that is gone looks like one that is slow until SSH notices, a minute later.
    """
    return await beside(work, _Watch(endpoint, console_tail, alive, waiting_for, stage).tick())


async def beside(work: Coroutine[Any, Any, T], watch: Coroutine[Any, Any, None]) -> T:
    """What ``work`` returns or raises, or what ``watch``, which has no end, raises before that."""
    working, ticking = asyncio.create_task(work), asyncio.create_task(watch)
    try:
        await asyncio.wait({working, ticking}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            ticking.result()
        return await working
    finally:
        for task in (working, ticking):
            task.cancel()
        await asyncio.gather(working, ticking, return_exceptions=True)


async def boot_id(guest: Guest, timeout: float = 30) -> str:
    """What tells one boot of the guest from the next."""
    done = await guest.execute(
        "cat /proc/sys/kernel/random/boot_id", timeout=timeout, user=guest.endpoint.user
    )
    found = clean_line(done.out).strip()
    if done.status or not found:
        raise LabError(f"{guest.endpoint.label}: the guest does not tell its boot id")
    return found


async def reboot(
    guest: Guest,
    before: str,
    deadline: Deadline,
    on_stage: OnStage,
    console_tail: ConsoleTail,
    alive: Alive,
) -> Guest:
    """Reboot the guest once and wait until it can be logged in to again.

    ``before`` is :func:`boot_id` as recorded before the first call, so calling again after a crash does not
    reboot twice. Closes ``guest``; the new connection is the caller's. Raises what :func:`wait_ready` does.
    """
    with contextlib.suppress(LabError):
        if await boot_id(guest, deadline.part(30)) == before:
            await guest.execute(
                "(sleep 0.2 2>/dev/null || sleep 1; systemctl reboot || reboot || reboot -f)"
                " >/dev/null 2>&1 </dev/null &",
                timeout=max(5.0, deadline.part(30)),
            )
    await guest.close()
    while True:
        fresh = await wait_ready(guest.endpoint, deadline, on_stage, console_tail, alive)
        try:
            if await boot_id(fresh, deadline.part(30)) != before:
                return fresh
        except LabError:
            pass  # the old system is going down under us
        await fresh.close()
        if deadline.expired:
            raise NotReady(
                f"{guest.endpoint.label}: the guest did not reboot within {deadline.seconds:g} s",
                stage=Stage.AUTHENTICATED,
            )
        await asyncio.sleep(0.5)
