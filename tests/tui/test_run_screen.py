"""The Run screen on real run directories, with the test as the run's worker."""

from __future__ import annotations

import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static
from textual.widgets._toast import Toast

from tests.tui.conftest import lines, opened_run, text, until
from tests.tui.looks import NARROW, WIDE, bindings, cursor, end, marks, says
from tests.tui.run_samples import UNTIL, MadeRun
from vmlab_tui.base.paths import is_locked
from vmlab_tui.base.units import span
from vmlab_tui.guests.stage import SHORT, Stage
from vmlab_tui.runs.plan import PlannedStart, write_plan
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.screens.dialogs import ConfirmDialog
from vmlab_tui.tui.screens.run_secrets import SecretsDialog
from vmlab_tui.tui.screens.runs import RunsArea
from vmlab_tui.tui.widgets.logview import LogView
from vmlab_tui.tui.widgets.rows import Rows


async def test_a_failure_its_output_the_console_and_the_keys_are_on_one_small_screen(made: MadeRun) -> None:
    made.failed()
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "FAILED" in end(screen))
        shown = text(pilot.app)
        for told in (
            "failed at 10 install desktop",
            ">FAIL  10  install desktop",
            "FAIL 10 install desktop  1.5s  exit status 100",
            "| E: no package xrdp",
            ": login:",
            "VM sample-7f3a is kept until 2099",
            "s ssh here",
            "X remove its VM",
            "enter log",
        ):
            assert told in shown
        assert "evil" not in shown
        assert {"s", "X"} <= bindings(screen)
        assert "g" not in bindings(screen)


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_where_it_starts_and_why_not_later_stand_above_the_steps(
    made: MadeRun, size: tuple[int, int]
) -> None:
    begun = PlannedStart(
        kind="checkpoint", source="s", snapshot="n", after=10, key="k", run_id="sample-1", instance_id="i"
    )
    why = "step 11 'install rdp': script changed since run sample-1"
    write_plan(made.folder, made.plan.model_copy(update={"start": begun, "why": why}))
    made.steps(1, 7)
    for number in (8, 9, 10):
        made.begin(number)
        made.finish(number, "reused")
    made.begin(11)
    async with LabApp().run_test(size=size) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: marks(screen)["install rdp"] == "run")
        told = [line.strip() for line in lines(pilot.app)[1 : screen.query_one("#body").region.y]]
        where = "warm: run sample-1 has done all up to 10 'install desktop'"
        assert told == ([where, why] if size == NARROW else [f"{where}; {why}"])
        assert marks(screen)["install desktop"] == "same"
        if size == NARROW:  # a log has all the room
            await pilot.press("enter")
            await until(pilot, lambda: "warm: run" not in text(pilot.app))
            await pilot.press("escape")
            await until(pilot, lambda: "warm: run" in text(pilot.app))


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_notifications_do_not_cover_how_it_ended(made: MadeRun, size: tuple[int, int]) -> None:
    made.failed()
    async with LabApp().run_test(size=size, notifications=True) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "FAILED" in end(screen))
        for number in range(6):
            pilot.app.notify(f"{number} saved in {'/some/where/deep' * 5}", markup=False)
        await until(pilot, lambda: len(screen.query(Toast)) == 6)
        await until(pilot, lambda: "5 saved in" in text(pilot.app))
        rows = lines(pilot.app)
        top = screen.query_one("#ending").region.y
        assert [row.rstrip() for row in end(screen).split("\n")] == rows[top:-1]
        assert rows[0].startswith(" Run sample")


@pytest.mark.parametrize("size", [(100, 24), (160, 45)])
async def test_the_cause_stands_there_whatever_log_is_shown(made: MadeRun, size: tuple[int, int]) -> None:
    made.failed()
    (made.folder / "console.log").write_bytes(b"".join(b"says %d\n" % n for n in range(500)))
    async with LabApp().run_test(size=size) as pilot:
        screen = await opened_run(pilot, made.id)
        await pilot.press("shift+tab")
        await until(pilot, lambda: "[Journal]" in text(pilot.app))
        await until(pilot, lambda: "   | E: no package xrdp" in lines(pilot.app))
        assert ": says 499" in end(screen)
        assert "s ssh here" in end(screen)


async def test_a_long_output_leaves_room_for_steps_console_and_keys(made: MadeRun) -> None:
    made.steps(1, 9)
    made.begin(10, log=b"".join(b"line %d\n" % n for n in range(500)))
    (made.folder / "console.log").write_bytes(b"".join(b"says %d\n" % n for n in range(500)))
    made.finish(10, "failed", "exit status 100")
    made.end("failed", 1, "kept", UNTIL)
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "FAILED" in end(screen))
        shown = text(pilot.app)
        assert "| line 499" in shown
        assert ": says 499" in shown
        assert "s ssh here" in shown
        assert ">FAIL  10  install desktop" in shown
        assert screen.query_one(Rows).size.height >= 5


async def test_steps_tick_and_the_cursor_follows_until_it_is_moved(made: MadeRun) -> None:
    made.steps(1, 4)
    made.begin(5)
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        assert cursor(screen) == "step:5"
        assert marks(screen)["boot"] == "run"
        before = screen.query_one(Rows).rows[4].cells[3].text
        await until(pilot, lambda: screen.query_one(Rows).rows[4].cells[3].text != before)
        made.finish(5)
        made.begin(6)
        await until(pilot, lambda: cursor(screen) == "step:6")
        assert marks(screen)["boot"] == "ok"
        await pilot.press("up", "up")
        made.finish(6)
        made.begin(7)
        await until(pilot, lambda: marks(screen)["ssh"] == "run")
        assert cursor(screen) == "step:4"
        await pilot.press("down", "down", "down")
        made.finish(7)
        made.begin(8)
        await until(pilot, lambda: cursor(screen) == "step:8")
        screen.query_one(Rows).action_move(-2)
        screen._show_steps()  # news in the same instant do not take the cursor back
        assert cursor(screen) == "step:6"


async def test_stage_and_progress_of_the_step_in_flight(made: MadeRun) -> None:
    made.steps(1, 6)
    made.begin(7)
    made.write("stage", number=7, stage="waiting for SSH banner", detail="port 40022")
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        now = screen.query_one("#now", Static)
        assert "07 ssh  waiting for SSH banner: port 40022" in str(now.content)
        made.write("progress", number=7, done=34 << 20, total=120 << 20, unit="bytes")
        await until(pilot, lambda: "34.0M of 120M  [===" in str(now.content))
        assert "[===         ]" in lines(pilot.app)[-2]
        made.finish(7)
        await until(pilot, lambda: not now.display)


async def test_waiting_for_ssh_is_told_in_words_and_shows_the_console(made: MadeRun) -> None:
    made.steps(1, 6)
    (made.folder / "console.log").write_bytes(b"Booting from Hard Disk...\r\n")
    made.begin(7)
    made.write("stage", number=7, stage="port")
    async with LabApp().run_test(size=WIDE) as pilot:
        screen = await opened_run(pilot, made.id)
        now = screen.query_one("#now", Static)
        limit = span(made.plan.phase("ssh").timeout)
        assert f"07 ssh  port open, waiting for the SSH banner; up to {limit}" in str(now.content)
        await until(pilot, lambda: "Booting from Hard Disk" in text(pilot.app))
        assert screen.query_one(LogView).title == "07 ssh: console"
        made.finish(7)
        made.begin(8)
        made.write("stage", number=8, stage="config")
        limit = span(made.plan.phase("cloud-init").timeout)
        told = f"08 cloud-init  cloud-init is at work: config; up to {limit}"
        await until(pilot, lambda: told in str(now.content))
        assert screen.query_one(LogView).title == "08 cloud-init: console"
        await pilot.press("up")
        await until(pilot, lambda: "this step has printed nothing" in text(pilot.app))


def test_every_stage_of_the_wait_for_ssh_has_its_words() -> None:
    assert set(SHORT) == {"", *map(str, Stage)} - {Stage.CLOUD_INIT}  # which has a step of its own


async def test_checks_stand_below_their_step_with_what_they_found(made: MadeRun) -> None:
    made.steps(1, 11)
    made.begin(12)
    made.check("service xrdp", "failed", "inactive (dead)", "Unit xrdp.service\nis [bold]dead")
    made.check("command true")
    made.finish(12, "failed", "1 of 2 checks failed")
    made.end("failed", 1, "kept", UNTIL)
    async with LabApp().run_test(size=WIDE) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "FAILED" in end(screen))
        assert marks(screen)["  service xrdp: inactive (dead)"] == "FAIL"
        assert marks(screen)["  command true"] == "ok"
        assert "- service xrdp: inactive (dead)" in end(screen)
        assert "1 of 2 checks passed" in end(screen)
        await pilot.press("down")
        await until(pilot, lambda: "is [bold]dead" in text(pilot.app))


async def test_a_dead_worker_is_said_with_the_ways_on(made: MadeRun) -> None:
    made.steps(1, 9)
    made.begin(10, log=b"half\n")
    made.write("intent", what="domain", id="0b0b")
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        assert marks(screen)["install desktop"] == "run"
        assert "g" not in bindings(screen)
        made.die()
        await until(pilot, lambda: "INTERRUPTED" in end(screen))
        assert "interrupted at 10 install desktop" in lines(pilot.app)[0]
        assert marks(screen)["install desktop"] == "?"
        assert "what it made is still there: domain" in end(screen)
        assert "g go on" in end(screen)
        assert {"g", "s", "X"} <= bindings(screen)
        made.work()
        made.write("worker_started", pid=os.getpid(), boot_id="b", start_ticks=2, resumed=True)
        made.begin(10)
        await until(pilot, lambda: marks(screen)["install desktop"] == "run")
        assert not end(screen)
        assert "g" not in bindings(screen)


async def test_a_pause_says_how_long_and_what_then(made: MadeRun) -> None:
    made.steps(1, 9)
    made.begin(10, log=b"oops\n")
    made.finish(10, "failed", "exit status 3")
    made.write("paused", reason="step 10 failed", until=UNTIL)
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "PAUSED until 2099" in end(screen))
        assert "paused at 10 install desktop" in lines(pilot.app)[0]
        assert "| oops" in end(screen)
        assert {"s", "X"} <= bindings(screen)


async def test_a_passed_run_offers_only_what_there_is(made: MadeRun) -> None:
    made.steps(1, 16)
    made.end()
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "PASSED" in end(screen))
        assert "VM sample-7f3a is removed" in end(screen)
        assert not {"s", "X", "g"} & bindings(screen)
        assert "n" in bindings(screen)


async def test_a_run_that_vanishes_is_said_and_nothing_breaks(made: MadeRun) -> None:
    made.steps(1, 3)
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        made.die()
        shutil.rmtree(made.folder)
        await until(pilot, lambda: "cannot be read any more" in lines(pilot.app)[0])
        assert "esc goes back" in end(screen)
        assert not {"s", "X", "g"} & bindings(screen)
        await pilot.press("enter", "tab", "comma", "escape", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsArea))


async def test_a_run_that_never_was(lab_dir: Path) -> None:
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, "no-such-run")
        assert screen.problem
        assert "no-such-run" in lines(pilot.app)[0]
        assert "there is no such run" in end(screen)
        await pilot.press("tab", "X", "s", "g", "l", "escape", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsArea))


async def test_two_screens_on_one_run_show_the_same(made: MadeRun) -> None:
    made.steps(1, 3)
    async with LabApp().run_test(size=NARROW) as one, LabApp().run_test(size=WIDE) as other:
        first, second = await opened_run(one, made.id), await opened_run(other, made.id)
        made.begin(4)
        made.write("stage", number=4, stage="writing XML")
        for pilot, screen in ((one, first), (other, second)):
            now = screen.query_one("#now", Static)
            await until(pilot, partial(says, now, "writing XML"))
        assert marks(first) == marks(second)


async def test_end_asks_and_names_what_is_lost(made: MadeRun) -> None:
    made.failed()
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "X" in bindings(screen))
        await pilot.press("X")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert (made.folder / "plan.json").exists()


async def test_a_run_with_secrets_asks_for_them_before_it_goes_on(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    made = MadeRun(lab_dir, secret_names=("TOKEN",))
    made.steps(1, 9)
    made.begin(10)
    made.die()
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "g" in bindings(screen))
        await pilot.press("g")
        await until(pilot, lambda: isinstance(pilot.app.screen, SecretsDialog))
        await pilot.press("ctrl+s")
        assert "! TOKEN is needed" in text(pilot.app)
        await pilot.press(*"hush-9f3a", "enter")
        # a real worker: there is nothing that it could go on with, but it was given what it needs
        await until(pilot, lambda: screen.view is not None and screen.view.state.workers == 2, 30)
        await until(pilot, lambda: not is_locked(made.folder / "lock"), 30)
        for path in made.folder.rglob("*"):
            assert path.is_dir() or b"hush-9f3a" not in path.read_bytes(), path
        assert "hush-9f3a" not in text(pilot.app)


async def test_hostile_names_and_logs_keep_the_screen_in_shape(lab_dir: Path) -> None:
    evil = "x\x1b]0;evil\x07[@click=app.quit]go[/] [/red] \u202eabc\u4e2d\u6587\u4e2d\u6587"
    steps: list[dict[str, Any]] = [{"kind": "run", "name": evil, "script": "true", "timeout": 60}]
    made = MadeRun(lab_dir, steps=steps)
    made.steps(1, 9)
    made.begin(
        10, log=evil.encode() + b"\n\x9b31m\xff\xfe" + b"A" * 100_000 + b"\n\x1b[2J\x1b]52;c;eA==\x07end\n"
    )
    (made.folder / "console.log").write_bytes(b"\x1b[2J" + evil.encode() + b"\x1b[?1049l\r\n" * 9)
    made.write("stage", number=10, stage=evil, detail=evil)
    try:
        for size in (NARROW, WIDE):
            async with LabApp().run_test(size=size) as pilot:
                screen = await opened_run(pilot, made.id)
                for key in ("", "enter", "tab", "tab", "tab"):
                    if key:
                        await pilot.press(key)
                    await pilot.pause(0.3)
                    shown = text(pilot.app)
                    assert not {
                        sign for sign in shown if sign != "\n" and (ord(sign) < 32 or sign in "\x9b\u202e")
                    }
                    assert "evil\x07" not in shown
                await pilot.click(offset=(10, 10))
                await pilot.click(offset=(30, 0))
                assert pilot.app.screen is screen
        made.check(evil, "failed", evil, evil)
        made.finish(10, "failed", evil)
        made.write("note", text=evil)
        made.end("error", 4, "kept", UNTIL)
        async with LabApp().run_test(size=NARROW) as pilot:
            screen = await opened_run(pilot, made.id)
            await until(pilot, lambda: "ERROR" in end(screen))
            assert "[@click=app.quit]go[/]" in end(screen)
            assert not {sign for sign in end(screen) if sign != "\n" and (ord(sign) < 32 or sign == "\u202e")}
    finally:
        made.die()


async def test_what_the_screen_covers_does_not_make_it_repaint(made: MadeRun) -> None:
    made.failed()
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        assert not pilot.app._background_screens
        await until(pilot, lambda: "X" in bindings(screen))
        await pilot.press("X")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        assert pilot.app._background_screens[-1:] == [screen]


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_a_slow_step_is_marked_and_what_it_usually_takes_stands_beside(
    made: MadeRun, size: tuple[int, int]
) -> None:
    usual = {10: 30.0, 11: 0.2}
    steps = tuple(one.model_copy(update={"usual": usual.get(one.number)}) for one in made.plan.steps)
    write_plan(made.folder, made.plan.model_copy(update={"steps": steps}))
    made.steps(1, 9)
    made.begin(10)
    async with LabApp().run_test(size=size) as pilot:
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "usually 30.0s" in text(pilot.app))
        made.write("step_finished", number=10, attempt=1, state="ok", seconds=95)
        made.begin(11)
        made.finish(11)
        await until(pilot, lambda: "!1:35" in text(pilot.app) and marks(screen)["install rdp"] == "ok")
        assert re.search(r"!1:35 +~30\.0s", text(pilot.app))
        assert {"t", "a"} <= bindings(screen)
