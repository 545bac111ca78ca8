"""The list of all runs."""

from __future__ import annotations

from tests.tui.conftest import lines, opened, text, until
from tests.tui.run_samples import UNTIL, MadeRun
from vmlab_tui.tui.screens.runs import RunsArea
from vmlab_tui.tui.widgets.rows import Column, Rows, _share


async def test_only_an_interrupted_run_can_be_resumed(made: MadeRun) -> None:
    made.steps(1, 6)
    made.begin(7)
    async with opened() as (app, pilot):
        await pilot.press("2")

        def state() -> str:
            cursor = app.screen.query_one(Rows).cursor
            return cursor.cells[1].text if cursor else ""

        def offered() -> bool:
            active = app.screen.active_bindings.get("g")
            return bool(active and active.enabled)

        await until(pilot, lambda: state() == "running")
        assert not offered()
        made.die()
        await until(pilot, lambda: state() == "interrupted")
        assert offered()
        made.work()
        made.end("failed", 1, "kept", UNTIL)
        await until(pilot, lambda: state() == "failed")
        assert not offered()


async def test_a_wide_list_tells_profile_step_and_what_has_become_of_the_vm(made: MadeRun) -> None:
    made.steps(1, 3)
    async with opened((160, 45)) as (app, pilot):
        await pilot.press("2")

        def row() -> str:
            return next((line for line in text(app).splitlines() if made.id in line), "")

        await until(pilot, lambda: row().endswith(" -"))
        made.steps(4, 9)
        made.begin(10)
        await until(pilot, lambda: row().endswith(" live") and " 10 " in row())
        assert row().split()[:6] == [f">{made.id}", "running", "10", "install", "desktop", "sample"]
        assert row().index("running") < 60
        made.finish(10, "failed", "exit status 3")
        made.write("paused", reason="step 10 failed", until=UNTIL)
        await until(pilot, lambda: row().endswith(" paused"))
        made.die()
        await until(pilot, lambda: row().endswith(" left"))
        made.work()
        made.end("failed", 1, "kept", UNTIL)
        await until(pilot, lambda: row().endswith(" kept"))


async def test_keys_are_those_that_the_run_under_the_cursor_can_take(made: MadeRun) -> None:
    made.steps(1, 9)
    made.begin(10)
    async with opened((120, 30)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "s ssh" in lines(app)[-1] and "X end" in lines(app)[-1])
        made.finish(10)
        made.end("passed", 0, "destroyed")
        await until(pilot, lambda: "s ssh" not in lines(app)[-1])
        assert "X end" not in lines(app)[-1] and "n run" in lines(app)[-1]
        await pilot.press("s", "X")
        await pilot.pause()
        assert isinstance(app.screen, RunsArea)


def test_sharing_the_width() -> None:
    plain, limited, wide = Column("a"), Column("b", most=30), Column("c", least=17, most=40)
    assert list(_share(31, [plain, plain])) == [15, 16]
    assert list(_share(30, [limited])) == [30]
    assert list(_share(50, [limited, wide])) == [30, 20]
    assert list(_share(200, [limited, wide])) == [30, 40]
    assert list(_share(200, [limited, plain])) == [30, 170]
    assert list(_share(11, [limited, wide])) == [5, 6]
    assert list(_share(9, [])) == []
