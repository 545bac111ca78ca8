"""Deadlines, and the named sync points."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError


def test_a_deadline_counts_down_and_stops_at_zero() -> None:
    deadline = Deadline(0.2)
    assert 0.1 < deadline.left <= 0.2
    assert deadline.part(0.01) == 0.01
    assert deadline.part(60) <= 0.2
    deadline.check("boot")
    time.sleep(0.25)
    assert deadline.expired and deadline.left == 0 and deadline.part(5) == 0
    with pytest.raises(DeadlineError, match=r"boot: not done within 0\.2 s"):
        deadline.check("boot")


def test_a_deadline_can_begin_in_the_past() -> None:
    assert Deadline(10, start=time.monotonic() - 9).left <= 1
    assert Deadline(10, start=time.monotonic() - 11).expired


PROGRAM = """
from vmlab_tui.base import faults
name = faults.declare("here", "it is there")
assert faults.POINTS["here"] == "it is there"
faults.point("elsewhere")
print("before", flush=True)
faults.point(name)
print("after", flush=True)
"""


def program(fault: str | None) -> subprocess.Popen[bytes]:
    environ = {name: value for name, value in os.environ.items() if name != "VMLAB_FAULT"}
    if fault is not None:
        environ["VMLAB_FAULT"] = fault
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("fault", "status", "out", "err"),
    [
        (None, 0, b"before\nafter\n", b""),
        ("", 0, b"before\nafter\n", b""),
        ("other:kill", 0, b"before\nafter\n", b""),
        ("here:kill", -signal.SIGKILL, b"before\n", b""),
        ("here", -signal.SIGKILL, b"before\n", b""),
        ("other:fail,here:kill", -signal.SIGKILL, b"before\n", b""),
        ("here:fail", 1, b"before\n", b"LabError: fault injected at here"),
        ("here:full", 1, b"before\n", b"No space left on device: 'here'"),
    ],
)
def test_what_a_point_does(fault: str | None, status: int, out: bytes, err: bytes) -> None:
    with program(fault) as process:
        got, errors = process.communicate(timeout=60)
    assert (process.returncode, got) == (status, out)
    assert err in errors


def test_a_stopped_program_goes_on() -> None:
    with program("here:stop") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(process.pid, signal.SIGCONT)
        got, _ = process.communicate(timeout=60)
    assert got == b"before\nafter\n"
