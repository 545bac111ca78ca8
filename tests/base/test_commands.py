"""The log of commands really run: what is noted, how it ended, and who is told."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from vmlab_tui.base import commands
from vmlab_tui.base.commands import Record, record, recording, subscribe
from vmlab_tui.base.errors import DeadlineError
from vmlab_tui.base.proc import ProgramError, arun, run


@pytest.fixture
def seen() -> Iterator[list[Record]]:
    found: list[Record] = []
    stop = subscribe(found.append)
    yield found
    stop()


def test_a_command_has_its_time_its_duration_and_its_outcome(seen: list[Record]) -> None:
    before = datetime.now(UTC)
    with recording(("virsh", "start", "a name")):
        pass
    with pytest.raises(ValueError, match="boom"), recording(("virsh", "destroy", "web")):
        raise ValueError("boom")
    good, bad = seen
    assert (good.command, good.outcome) == ("virsh start 'a name'", "ok")
    assert (bad.command, bad.outcome) == ("virsh destroy web", "failed")
    assert abs((datetime.fromisoformat(good.at) - before).total_seconds()) < 5
    assert good.at.endswith("+00:00")
    assert commands.recent()[-2:] == (good, bad)


def test_hostile_text_is_clean_and_bounded(seen: list[Record]) -> None:
    record("virsh start \x1b]0;x\x07 \u202e" + "y" * 9000)
    assert "\x1b" not in seen[0].command
    assert "\u202e" not in seen[0].command
    assert len(seen[0].command) <= 2000


def test_the_log_is_bounded_and_nobody_is_told_after_the_end(seen: list[Record]) -> None:
    told: list[Record] = []
    stop = subscribe(told.append)
    record("one")
    stop()
    stop()
    for number in range(600):
        record(str(number))
    assert [one.command for one in told] == ["one"]
    assert len(commands.recent()) == 500
    assert commands.recent()[-1].command == "599"
    assert len(seen) == 601


def test_threads_do_not_lose_records(seen: list[Record]) -> None:
    threads = [threading.Thread(target=lambda: [record("x") for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 800


async def test_programs_are_recorded_as_they_were_started(seen: list[Record]) -> None:
    python = sys.executable
    run([python, "-c", "pass"])
    await arun([python, "-c", "pass"], bound=True)
    with pytest.raises(ProgramError):
        await arun([python, "-c", "raise SystemExit(3)"], data=b"a secret")
    with pytest.raises(DeadlineError):
        run([python, "-c", "import time; time.sleep(9)"], timeout=0.2)
    with pytest.raises(DeadlineError):
        await arun([python, "-c", "import time; time.sleep(9)"], timeout=0.2)
    task = asyncio.create_task(arun([python, "-c", "import time; time.sleep(9)"]))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one.outcome for one in seen] == ["ok", "ok", "failed", "failed", "failed", "failed"]
    assert {one.command.split()[0] for one in seen} == {python}
    assert seen[3].seconds >= 0.2
    assert "secret" not in str(seen)
