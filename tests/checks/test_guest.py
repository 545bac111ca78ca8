"""Every check kind on a real guest, over SSH."""

from __future__ import annotations

from typing import Any

import pytest

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.checks.registry import CheckSpec, run_check
from vmlab_tui.checks.result import CheckResult
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.ssh import Guest, connect

pytestmark = pytest.mark.guest


async def check(guest: Guest, kind: str, within: float = 0, **params: Any) -> CheckResult:
    spec = CheckSpec(kind=kind, params=params, within=within)  # type: ignore[arg-type]
    return await run_check(spec, guest, Deadline(120))


async def expect(guest: Guest, wanted: str, kind: str, said: str = "", **params: Any) -> CheckResult:
    result = await check(guest, kind, **params)
    assert (result.state, said in result.detail) == (wanted, True), result
    return result


async def test_on_debian(template: Endpoint) -> None:
    async with connect(template, timeout=60) as guest:
        await expect(guest, "passed", "service", "active (running)", name="ssh", enabled=True)
        await expect(guest, "failed", "service", "there is no such unit", name="nosuch")
        await guest.execute("systemd-run --unit=broken sh -c 'echo last words; exit 3'")
        broken = await check(guest, "service", name="broken")
        assert broken.state == "failed"
        await guest.execute("systemd-run --unit=slow --on-active=2 sleep 1000")
        await expect(guest, "passed", "service", name="slow", within=30)
        await expect(guest, "passed", "service", name="nosuch", active=False)

        await expect(guest, "passed", "port", port=22)
        await expect(guest, "failed", "port", "nothing listens", port=8080)

        await expect(guest, "passed", "command", command="echo hello; id -un", expect="root")
        await expect(guest, "passed", "command", command="id -un", expect={"regex": "^lab$"}, user="lab")
        await expect(guest, "failed", "command", "exit status 7", command="echo no >&2; exit 7")

        await expect(guest, "passed", "package", name="openssh-server", version="1:")
        await expect(guest, "failed", "package", "not installed", name="xfce4")

        await expect(guest, "passed", "user", name="lab", home="/home/lab", sudo=True)
        await expect(guest, "failed", "user", "sudo", name="nobody", sudo=True)

        await guest.execute(
            "printf 'a\\nb' > \"/srv/it's\" && chown lab:lab /srv/it*s && chmod 4750 /srv/it*s"
        )
        path = "/srv/it's"
        await expect(
            guest, "passed", "file", path=path, mode="4750", owner="lab", group="lab", contains="a\nb"
        )
        await expect(guest, "failed", "file", "its mode is 4750", path=path, mode="0750")


async def test_on_a_guest_of_busybox(tiny_guest: Endpoint) -> None:
    async with connect(tiny_guest, timeout=60) as guest:
        await expect(guest, "passed", "port", port=22)
        await expect(guest, "failed", "port", port=8080)
        await expect(guest, "passed", "command", command="echo hello", expect="hello")
        await guest.execute("mkdir -p /srv && echo text > /srv/a && chmod 640 /srv/a")
        await expect(
            guest, "passed", "file", path="/srv/a", type="file", mode="0640", owner="root", contains="text"
        )
        await expect(guest, "failed", "file", "does not contain", path="/srv/a", contains="other")
        await expect(guest, "passed", "file", path="/srv/b", absent=True)
        await expect(guest, "passed", "user", name="root", groups=["root"])
        await expect(guest, "failed", "user", "no such user", name="nosuch")
        await expect(guest, "error", "package", name="curl")
        await expect(guest, "error", "service", name="ssh")
