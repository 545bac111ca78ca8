"""The key `d`: where a run failed, the cause comes on a screen."""

from __future__ import annotations

from tests.tui.conftest import opened, opened_run, text, until
from tests.tui.run_samples import MadeRun
from vmlab_tui.tui.screens.text import TextScreen


async def test_on_a_failed_run_d_names_the_cause_and_keeps_what_shows_it(made: MadeRun) -> None:
    made.steps(1, 9)
    made.begin(10, log=b"+ apt-get install\n\x1b[31mE: Unable to locate package xrdp\x1b[2J\n")
    made.finish(10, "failed", "exit status 100")
    made.end("failed", 1, "destroyed")
    async with opened() as (app, pilot):
        await opened_run(pilot, made.id)
        await until(pilot, lambda: "d diagnose" in text(app))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, TextScreen))
        await until(pilot, lambda: "likely cause: no such package: xrdp" in text(app))
        assert "| E: Unable to locate package xrdp" in text(app)
        await pilot.press("escape")
        await until(pilot, lambda: "failed at 10" in text(app))
    (folder,) = made.folder.glob("diagnosis-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == {"diagnosis.txt", "diagnosis.json", "step.txt", "console.txt"} - (
        set() if (made.folder / "console.log").exists() else {"console.txt"}
    )
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    assert b"\x1b" in files["step.txt"].read_bytes(), "as it came"
    assert "\x1b" not in files["diagnosis.txt"].read_text()


async def test_a_run_that_passed_and_left_nothing_has_no_such_key(made: MadeRun) -> None:
    made.steps(1, 14)
    made.end()
    async with opened() as (app, pilot):
        screen = await opened_run(pilot, made.id)
        await until(pilot, lambda: "PASSED" in text(app))
        assert not screen.active_bindings["d"].enabled if "d" in screen.active_bindings else True
        await pilot.press("d")
        await pilot.pause()
        assert app.screen is screen
