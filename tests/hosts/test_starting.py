"""A VNC port that somebody else took between libvirt's look and QEMU's bind."""

from __future__ import annotations

from collections.abc import Callable

import libvirt
import pytest

from vmlab_tui.hosts.starting import start_qemu

# as libvirt 9.0 with QEMU 7.2 says it
TAKEN = (
    "internal error: process exited while connecting to monitor: 2026-01-02T13:14:15.265Z qemu: "
    "-vnc 127.0.0.1:1,audiodev=audio1: Failed to find an available port: Address already in use"
)
FORWARD = "qemu-system-x86_64: -netdev user: Could not set up host forwarding rule: Address already in use"


def failing(times: int, message: str) -> tuple[list[int], Callable[[], None]]:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        if len(calls) <= times:
            raise libvirt.libvirtError(message)

    return calls, call


def test_another_port_is_tried_a_few_times_and_only_for_that() -> None:
    calls, call = failing(2, TAKEN)
    start_qemu(call)
    assert len(calls) == 3
    calls, call = failing(9, TAKEN)
    with pytest.raises(libvirt.libvirtError, match="available port"):
        start_qemu(call)
    assert len(calls) == 4
    calls, call = failing(1, FORWARD)
    with pytest.raises(libvirt.libvirtError, match="forwarding"):
        start_qemu(call)
    assert len(calls) == 1, "a forward is the VM's own: another try would fail the same way"
