"""Script steps: once, through drops, with their true end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.guests.beds import Bed, until
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, StepError, UsageError
from vmlab_tui.guests.ssh import Guest, connect
from vmlab_tui.guests.units import (
    UnitLost,
    UnitPhase,
    UnitSpec,
    follow_unit,
    kill_unit,
    run_unit,
    start_unit,
    unit_place,
    unit_state,
)

pytestmark = pytest.mark.usefixtures("unit_folders")


def spec(script: str, number: int = 1, **more: object) -> UnitSpec:
    return UnitSpec("run-1", number, 1, script, **more)  # type: ignore[arg-type]


class Log:
    def __init__(self) -> None:
        self.data = b""
        self.times: list[float] = []

    def __call__(self, chunk: bytes) -> None:
        self.data += chunk
        self.times.append(time.monotonic())


async def test_output_status_and_environment(guest: Guest) -> None:
    log = Log()
    unit = spec(
        "echo \"$GREETING|$HOME|$USER|$VMLAB_STEP\"\npwd\nprintf '\\377'\necho no >/dev/stderr\nexit 7",
        env={"GREETING": 'it\'s  "so" $HOME\n2'},
    )
    assert await run_unit(guest, unit, log, Deadline(20)) == 7
    assert log.data == b'it\'s  "so" $HOME\n2|/root|root|1\n/root\n\xffno\n'
    state = await unit_state(guest, unit)
    assert (state.phase, state.status, state.size) == (UnitPhase.ENDED, 7, len(log.data))


async def test_an_error_ends_a_script_without_interpreter(guest: Guest) -> None:
    log = Log()
    assert await run_unit(guest, spec("echo a\nfalse\necho b"), log, Deadline(20)) == 1
    assert log.data == b"a\n"


async def test_the_end_is_told_promptly(guest: Guest, bed: Bed) -> None:
    late = []
    for number, quiet in ((1, 2.4), (2, 2.6)):  # by then a quiet log is looked at once a second
        unit = spec(f"sleep {quiet}", number)
        await run_unit(guest, unit, Log(), Deadline(20))
        late.append(time.time() - bed.at(f"{unit.folder}/status").stat().st_mtime)
    # BusyBox has no flock: it looks every 0.4 s
    assert min(late) < (0.8 if bed.endpoint.vm == "busybox" else 0.45), late


async def test_started_twice_runs_once(guest: Guest, bed: Bed, folder: Path) -> None:
    unit = spec(f"echo x >>{folder}/once-$VMLAB_RUN; sleep 0.5")
    bed.at(str(folder)).mkdir(parents=True, exist_ok=True)
    first = await asyncio.gather(*(start_unit(guest, unit) for _ in range(4)))
    assert True in first
    assert await start_unit(guest, unit) is False
    assert await follow_unit(guest, unit, 0, Log(), Deadline(20)) == 0
    assert await start_unit(guest, unit) is False
    count = bed.at(f"{folder}/once-run-1")
    assert count.read_text() == "x\n"
    count.unlink()


async def test_it_outlives_the_connection_and_is_read_on(guest: Guest, bed: Bed) -> None:
    log = Log()
    unit = spec("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.4; done; exit 5")
    task = asyncio.create_task(run_unit(guest, unit, log, Deadline(30)))
    await until(lambda: b"line 2" in log.data)
    bed.cut()
    await until(lambda: b"line 4" in log.data)
    bed.cut()
    assert await asyncio.wait_for(task, 20) == 5
    assert log.data == b"".join(b"line %d\n" % i for i in range(1, 7))


async def test_another_worker_reads_on_from_an_offset(guest: Guest, bed: Bed) -> None:
    unit = spec("echo one; sleep 1; echo two; exit 3")
    async with connect(bed.endpoint) as first:
        assert await start_unit(first, unit)
        assert (await unit_state(first, unit)).phase is UnitPhase.RUNNING
    log = Log()
    assert await follow_unit(guest, unit, 2, log, Deadline(20)) == 3
    assert log.data == b"e\ntwo\n"


async def test_much_output(guest: Guest) -> None:
    log = Log()
    unit = spec("i=0; while [ $i -lt 200 ]; do head -c 65536 /dev/zero; i=$((i+1)); done")
    assert await run_unit(guest, unit, log, Deadline(60)) == 0
    assert log.data == b"\0" * 65536 * 200


async def test_where_it_ended(guest: Guest) -> None:
    unit = spec("cd /tmp; export FOO='a\nb'; LOCAL=no; exit 1", secrets={"TOKEN": "s3cret"})
    await run_unit(guest, unit, Log(), Deadline(20))
    place = await unit_place(guest, unit)
    assert (place.cwd, place.env["FOO"], "LOCAL" in place.env, "TOKEN" in place.env) == (
        "/tmp",
        "a\nb",
        False,
        False,
    )


async def test_secrets_are_seen_by_the_script_and_nobody_else(
    guest: Guest, bed: Bed, unit_folders: Path
) -> None:
    log = Log()
    unit = spec('printf %s "$TOKEN" | od -c -A n | tr -d " \\n"; sleep 1', secrets={"TOKEN": "s3'c$r\n"})
    task = asyncio.create_task(run_unit(guest, unit, log, Deadline(20)))
    await until(lambda: log.data)
    assert log.data == b"s3'c$r\\n"
    assert unit_folders.is_dir() and list(unit_folders.iterdir()) == []
    assert unit_folders.stat().st_mode & 0o777 == 0o700
    for path in bed.at(unit.folder).iterdir():
        if path.is_file() and path.name != "log":
            assert b"s3'c" not in path.read_bytes(), path
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            assert b"s3'c$r" not in process.read_bytes(), process
    await task


async def test_another_user_and_other_interpreters(guest: Guest, bed: Bed) -> None:
    user = "lab" if bed.endpoint.vm == "busybox" else "nobody"
    log = Log()
    unit = spec("id -un; echo err >/dev/stderr; cd /tmp; exit 2", user=user, env={"A": "1"})
    assert await run_unit(guest, unit, log, Deadline(20)) == 2
    assert log.data == f"{user}\nerr\n".encode()
    assert (await unit_place(guest, unit)).cwd == "/tmp"
    log = Log()
    unit = spec("#!/bin/sh -x\nfalse; echo $A; echo $0", 2, user=user, env={"A": "1"})
    assert await run_unit(guest, unit, log, Deadline(20)) == 0
    assert b"+ echo 1\n1\n" in log.data
    log = Log()
    assert await run_unit(guest, spec("#!/usr/bin/env -S cat\nhello", 3), log, Deadline(20)) in (0, 127)
    log = Log()
    assert await run_unit(guest, spec("#!/bin/cat\nhello", 4), log, Deadline(20)) == 0
    assert log.data == b"#!/bin/cat\nhello"


async def test_no_such_user(guest: Guest) -> None:
    with pytest.raises(StepError, match="no user 'ghost'"):
        await run_unit(guest, spec("true", user="ghost"), Log(), Deadline(20))


async def test_what_it_leaves_running_stays_and_is_not_waited_for(guest: Guest) -> None:
    begin = time.monotonic()
    unit = spec("sleep 7.25 & echo done")
    assert await run_unit(guest, unit, Log(), Deadline(20)) == 0
    assert time.monotonic() - begin < 6
    assert b"sleep 7.25" in (await guest.execute("ps -ef 2>/dev/null || ps")).out


async def test_killing_reaches_everything(guest: Guest) -> None:
    unit = spec("trap '' TERM; sleep 61.5 & (sleep 61.5) & while :; do sleep 61.5; done")
    await start_unit(guest, unit)
    await asyncio.sleep(0.3)
    state = await kill_unit(guest, unit, grace=0.6)
    assert (state.phase, state.status) == (UnitPhase.ENDED, 137)
    assert (
        b"61.5" not in (await guest.execute("ps -ef 2>/dev/null | grep '[6]1.5' || ps | grep '[6]1.5'")).out
    )
    assert await follow_unit(guest, unit, 0, Log(), Deadline(10)) == 137
    assert await start_unit(guest, unit) is False


async def test_killing_asks_first_and_spares_what_has_ended(guest: Guest) -> None:
    unit = spec("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done")
    log = Log()
    task = asyncio.create_task(run_unit(guest, unit, log, Deadline(20)))
    await until(lambda: log.data)
    state = await kill_unit(guest, unit)
    assert (state.phase, state.status) == (UnitPhase.ENDED, 143)
    assert await task == 143
    assert b"bye" in log.data
    ended = spec("exit 4", 2)
    await run_unit(guest, ended, Log(), Deadline(20))
    assert (await kill_unit(guest, ended)).status == 4
    assert (await kill_unit(guest, spec("true", 3))).phase is UnitPhase.ABSENT


async def test_past_its_time_it_runs_on(guest: Guest) -> None:
    unit = spec("sleep 62.5")
    with pytest.raises(DeadlineError, match="step 1"):
        await run_unit(guest, unit, Log(), Deadline(1.5))
    assert (await unit_state(guest, unit)).phase is UnitPhase.RUNNING
    await kill_unit(guest, unit)


async def test_finding_a_shell_changes_no_variable(guest: Guest) -> None:
    log = Log()
    unit = replace(spec('echo "$first $shell"'), env={"first": "one", "shell": "two"})
    assert await run_unit(guest, unit, log, Deadline(20)) == 0
    assert log.data == b"one two\n"


async def test_what_is_started_while_a_unit_is_ended_is_ended_too(guest: Guest) -> None:
    log = Log()
    unit = spec("trap 'sleep 66.5 & exit 9' TERM; echo there; sleep 67.5 & wait")
    running = asyncio.create_task(run_unit(guest, unit, log, Deadline(60)))
    await until(lambda: log.data == b"there\n")
    began = time.monotonic()
    await kill_unit(guest, unit, grace=20)
    assert time.monotonic() - began < 15, "it was left to be killed"
    assert await running in (9, 143)


async def test_another_boot_and_a_sudden_death_read_back_as_lost(guest: Guest, bed: Bed) -> None:
    unit = spec("kill -9 $PPID; exec sleep 63.5")
    with pytest.raises(UnitLost) as lost:
        await run_unit(guest, unit, Log(), Deadline(20))
    assert lost.value.state.phase is UnitPhase.LOST
    await kill_unit(guest, unit)
    unit = spec("sleep 64.5", 2)
    await start_unit(guest, unit)
    claim = bed.at(f"{unit.folder}/pid")
    saved = claim.read_text()
    pid, ticks, _ = saved.split()
    claim.write_text(f"{pid} {ticks} 00000000-another-boot\n")
    state = await unit_state(guest, unit)
    assert (state.phase, state.detail) == (UnitPhase.LOST, "the guest has rebooted since")
    with pytest.raises(UnitLost, match="rebooted"):
        await follow_unit(guest, unit, 0, Log(), Deadline(10))
    claim.write_text(saved)
    assert (await kill_unit(guest, unit)).status == 143


@pytest.mark.parametrize("bed", ["gnu"], indirect=True)
async def test_a_script_that_fills_its_disk_has_its_true_end(guest: Guest) -> None:
    unit = spec(
        'dd if=/dev/zero of="$D/fill" bs=4k count=1000 || :; echo one; sleep 0.5; echo two; exit 3', 5
    )
    unit = replace(unit, env={"D": unit.folder})
    # in the guest: the bed has mounts of its own
    mount = f"mkdir -p {unit.folder} && mount -t tmpfs -o size=256k,mode=755 tmpfs {unit.folder}"
    assert (await guest.execute(mount)).status == 0
    try:
        log = Log()
        assert await run_unit(guest, unit, log, Deadline(20)) == 3
        assert b"No space left on device" in log.data
        assert log.data.endswith(b"two\n")
        assert (await unit_state(guest, unit)).status == 3
    finally:
        await guest.execute(f"umount -l {unit.folder}")


async def test_never_started(guest: Guest) -> None:
    assert (await unit_state(guest, spec("true"))).phase is UnitPhase.ABSENT
    with pytest.raises(UnitLost, match="never started"):
        await follow_unit(guest, spec("true"), 0, Log(), Deadline(10))


@pytest.mark.parametrize(
    "wrong",
    [{"user": "a b"}, {"user": "-x"}, {"env": {"A B": "1"}}, {"env": {"A": "\0"}}, {"secrets": {"1": ""}}],
)
def test_names_that_would_be_shell(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        spec("true", **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        UnitSpec("../run", 1, 1, "true")


async def test_a_program_cut_short_does_nothing(guest: Guest, bed: Bed) -> None:
    from vmlab_tui.guests.units import _start_program

    unit = spec("touch /tmp/vmlab-must-not-be")
    program = _start_program(unit, None)
    for cut in (100, len(program) // 2, len(program) - 8):
        await guest.execute("exec /bin/sh -s", data=program[:cut])
    assert (await unit_state(guest, unit)).phase is UnitPhase.ABSENT
    assert not bed.at("/tmp/vmlab-must-not-be").exists()


@pytest.mark.parametrize("bed", ["gnu"], indirect=True)
async def test_a_running_unit_holds_its_lock_until_its_end(bed: Bed, guest: Guest) -> None:
    """What whoever follows it is woken by."""
    unit = spec("sleep 1.5; sleep 4.5 &", 77)
    await start_unit(guest, unit)
    with bed.at(f"{unit.folder}/lock").open("rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await follow_unit(guest, unit, 0, Log(), Deadline(20))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
