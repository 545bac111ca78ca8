"""Blocking calls on daemon threads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.hosts.lane import Lane


async def test_a_hung_call_does_not_hold_up_the_next() -> None:
    lane, gate = Lane("t", threads=2), threading.Event()
    with pytest.raises(DeadlineError, match="slow thing"):
        await lane.call(gate.wait, timeout=0.1, what="slow thing")
    begin = time.monotonic()
    assert await lane.call(lambda: 7, timeout=5, what="quick") == 7
    assert time.monotonic() - begin < 1
    gate.set()
    lane.close()


async def test_with_all_threads_hung_a_call_fails_in_time_and_never_runs() -> None:
    lane, gate, ran = Lane("t", threads=1), threading.Event(), []
    with pytest.raises(DeadlineError):
        await lane.call(gate.wait, timeout=0.1, what="first")
    with pytest.raises(DeadlineError) as caught:
        await lane.call(lambda: ran.append(1), timeout=0.1, what="second")
    assert "still hang" in caught.value.hint
    gate.set()
    assert await lane.call(lambda: 1, timeout=5, what="third") == 1
    assert ran == []
    await asyncio.sleep(0.05)
    assert lane.busy == 0
    lane.close()


async def test_a_cancelled_call_in_the_queue_is_dropped() -> None:
    lane, gate, ran = Lane("t", threads=1), threading.Event(), []
    first = asyncio.create_task(lane.call(gate.wait, timeout=5, what="first"))
    second = asyncio.create_task(lane.call(lambda: ran.append(1), timeout=5, what="second"))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.sleep(0)
    gate.set()
    await first
    assert await lane.call(lambda: 2, timeout=5, what="third") == 2
    assert ran == []
    lane.close()


async def test_errors_come_through_and_a_closed_lane_says_so() -> None:
    lane = Lane("t")
    with pytest.raises(ZeroDivisionError):
        await lane.call(lambda: 1 // 0, timeout=5, what="division")
    lane.close()
    with pytest.raises(LabError, match="closed"):
        await lane.call(lambda: 1, timeout=5, what="late")


def test_a_hung_call_does_not_keep_the_program_from_ending() -> None:
    script = """
import asyncio, threading
from vmlab_tui.hosts.lane import Lane
async def main():
    try:
        await Lane("t").call(threading.Event().wait, timeout=0.1, what="hangs")
    except Exception as error:
        print(error)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert "hangs: not done within 0.1 s" in done.stdout
