"""A run's logs on its screen: from one to the other, searched, and out of the screen."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from textual.widgets import Input, Static
from textual.widgets._toast import Toast

from tests.tui.conftest import lines, opened_run, text, until
from tests.tui.looks import NARROW, WIDE, bindings, end
from tests.tui.run_samples import MadeRun
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.screens.dialogs import ConfirmDialog
from vmlab_tui.tui.screens.run_export import SaveDialog, pager_words
from vmlab_tui.tui.screens.run_panes import PaneLine, told
from vmlab_tui.tui.screens.runs import RunsArea
from vmlab_tui.tui.widgets.logview import LogView
from vmlab_tui.tui.widgets.rows import Rows


async def test_enter_opens_the_log_and_escape_goes_back_step_by_step(made: MadeRun) -> None:
    made.failed()
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        log = screen.query_one(LogView)
        assert not log.size.width
        await pilot.press("enter")
        await until(pilot, lambda: log.has_focus)
        assert log.size.width > 70
        assert "!E: no package xrdp" in text(pilot.app)
        assert not screen.query_one(Rows).size.width
        await pilot.press("escape")
        await until(pilot, lambda: screen.query_one(Rows).has_focus)
        assert pilot.app.screen is screen
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsArea))


async def test_tab_and_the_mouse_go_through_the_logs(made: MadeRun) -> None:
    made.failed()
    (made.folder / "cloud-init.log").write_text("cloud-init is done\n")
    async with LabApp().run_test(size=WIDE) as pilot:
        screen = await opened_run(pilot, made.id)
        log = screen.query_one(LogView)

        def shown() -> str:
            return text(pilot.app)

        await until(pilot, lambda: "!E: no package xrdp" in shown())
        assert "[Step log]" in shown()
        await pilot.press("tab")
        await until(pilot, lambda: "[Console]" in shown() and " login:" in shown())
        await pilot.press("tab")
        await until(pilot, lambda: "[cloud-init]" in shown() and "cloud-init is done" in shown())
        await pilot.press("tab")
        await until(pilot, lambda: "[Journal]" in shown() and "10 install desktop: FAILED in 1.5s" in shown())
        await pilot.press("tab", "shift+tab")
        await until(pilot, lambda: "[Journal]" in shown())
        await pilot.click("PaneTab")
        await until(pilot, lambda: "[Step log]" in shown() and "!E: no package xrdp" in shown())
        assert screen.query_one(Rows).size.width and log.size.width  # side by side
        await pilot.press("up")
        await until(pilot, lambda: "this step has printed nothing" in shown())


async def test_attempts_are_gone_through_by_key(made: MadeRun) -> None:
    made.steps(1, 9)
    made.begin(10, 1, b"first try\n")
    made.finish(10, "failed", "exit status 1")
    made.begin(10, 2, b"second try\n")
    async with LabApp().run_test(size=WIDE) as pilot:
        screen = await opened_run(pilot, made.id)

        def shown() -> str:
            return text(pilot.app)

        await until(pilot, lambda: "second try" in shown())
        await until(pilot, lambda: "attempt 2 of 2" in shown() and re.search(r"install d.* #2", shown()))
        await pilot.press("comma")
        await until(pilot, lambda: "first try" in shown() and "attempt 1 of 2" in shown())
        await pilot.press("comma", "full_stop")
        await until(pilot, lambda: "second try" in shown() and "attempt 2 of 2" in shown())
        await pilot.press("comma")
        made.finish(10, "failed", "exit status 1", 2)
        made.begin(10, 3, b"third try\n")
        await until(pilot, lambda: "third try" in shown() and "attempt 3 of 3" in shown())
        await pilot.press("up")
        assert "comma" not in bindings(screen)


async def test_the_pager_gets_a_clean_private_copy(made: MadeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "cat -n")
    made.failed()
    handed: list[tuple[list[str], str, int]] = []

    async def note(self: LabApp, argv: Sequence[str]) -> int:
        """A test has no terminal to hand over."""
        path = Path(argv[-1])
        handed.append((list(argv), path.read_text(), stat.S_IMODE(path.stat().st_mode)))
        return 0

    monkeypatch.setattr(LabApp, "hand_over", note)
    async with LabApp().run_test(size=NARROW) as pilot:
        await opened_run(pilot, made.id)
        await pilot.press("o")
        await until(pilot, lambda: bool(handed))
        argv, text, mode = handed[0]
        assert argv[:2] == ["cat", "-n"]
        assert text == "+ apt-get\nE: no package xrdp\n"
        assert mode == 0o600
        await until(pilot, lambda: not Path(argv[-1]).exists())


def test_the_pager_command() -> None:
    plain = (["less", "-R"], ["more"])
    assert pager_words(None, {"PAGER": "less"}) == (["less", "-R"], True)
    assert pager_words(None, {"PAGER": "less -SR"}) == (["less", "-SR"], True)
    assert pager_words(None, {"PAGER": "most -w"}) == (["most", "-w"], False)
    assert pager_words(("bat", "-p"), {"PAGER": "less"}) == (["bat", "-p"], False)
    assert pager_words(None, {"PAGER": "a 'b"})[0] in plain
    assert pager_words(None, {})[0] in plain


async def test_a_log_is_saved_and_nothing_is_overwritten_unasked(made: MadeRun, tmp_path: Path) -> None:
    made.failed()
    target = tmp_path / "out.log"
    target.write_text("mine")

    async def save() -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
        pilot.app.screen.query_one(Input).value = str(target)
        await pilot.press("enter")

    async with LabApp().run_test(size=NARROW, notifications=True) as pilot:
        screen = await opened_run(pilot, made.id)
        await save()
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
        assert pilot.app.screen.query_one(Input).value == str(target)  # what was typed is not lost
        assert target.read_text() == "mine"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: target.read_text() == "+ apt-get\nE: no package xrdp\n")
        await until(pilot, lambda: pilot.app.screen is screen)
        target = tmp_path / "new.log"
        await pilot.press("escape")
        await until(pilot, lambda: screen.query_one(Rows).has_focus)
        await save()
        await until(pilot, target.exists)
        assert stat.S_IMODE(target.stat().st_mode) == 0o600


async def test_where_a_log_is_saved_is_told_in_full(
    made: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    made.failed()
    async with LabApp().run_test(size=(160, 24), notifications=True) as pilot:
        screen = await opened_run(pilot, made.id)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
        path = pilot.app.screen.query_one(Input)
        whole = pilot.app.screen.query_one("#whole", Static)
        assert Path(path.value).parent == home
        assert not str(whole.content)
        path.value = "out.log"
        await until(pilot, lambda: str(whole.content) == f"that is {here}/out.log")
        path.value = "~/out.log"
        await until(pilot, lambda: str(whole.content) == f"that is {home}/out.log")
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.screen is screen and bool(screen.query(Toast)))
        assert f"saved in {home}/out.log" in [note.message for note in pilot.app._notifications]
        assert (home / "out.log").exists()
        assert not list(here.iterdir())


async def test_copying_a_line(made: MadeRun) -> None:
    made.failed()
    async with LabApp().run_test(size=NARROW) as pilot:
        await opened_run(pilot, made.id)
        await pilot.press("enter")
        await until(pilot, lambda: "no package" in text(pilot.app))
        await pilot.press("y")
        await until(pilot, lambda: pilot.app.clipboard == "E: no package xrdp")


async def test_searching_from_the_steps(made: MadeRun) -> None:
    made.failed()
    async with LabApp().run_test(size=NARROW) as pilot:
        screen = await opened_run(pilot, made.id)
        await pilot.press("slash")
        await until(pilot, lambda: screen.query_one(LogView).has_focus)
        await pilot.press(*"xrdp", "enter")
        await until(pilot, lambda: "hit 1 of 1" in text(pilot.app))


@pytest.mark.parametrize("size", [NARROW, (100, 30)])
async def test_the_count_of_hits_stays_in_the_title(made: MadeRun, size: tuple[int, int]) -> None:
    made.steps(1, 9)
    made.begin(10, log=b"".join(b"line %d\n" % n for n in range(300)))
    async with LabApp().run_test(size=size) as pilot:
        screen = await opened_run(pilot, made.id)
        await pilot.press("enter", "home")
        await until(pilot, lambda: screen.query_one(LogView).has_focus)
        await pilot.press("slash", *"line 7", "enter")

        def title() -> str:
            return lines(pilot.app)[screen.query_one(PaneLine).region.y]

        await until(pilot, lambda: "hit 1 of 11" in title())
        await pilot.press("N")
        await until(pilot, lambda: "hit 11 of 11, went on from the end" in title())
        assert "[Step log]" in title()
        made.log(10).write_bytes(made.log(10).read_bytes() + b"more\n" * 1000)
        await until(pilot, lambda: "hit 11 of 11" in title() and "1000 new" in title())
        await pilot.press("n", "n")
        await until(pilot, lambda: "hit 2 of 11" in title())
        await pilot.press("escape")
        await until(pilot, lambda: "hit" not in title() and "Journal" in title())


def test_the_message_stays_when_the_title_must_go() -> None:
    parts = ("10 install desktop", "attempt 2 of 2", "hit 3 of 66, went on from the top", "follows")
    assert told(99, *parts) == "  ".join(parts)
    assert told(70, *parts) == "  ".join(parts[:3])
    assert told(60, *parts) == "  ".join([*parts[1:3], "follows"])
    assert told(45, *parts) == f"{parts[2]}  follows"
    assert told(20, *parts) == "hit 3 of 66, went o…"
    assert told(0, *parts) == ""


async def test_one_resize_keeps_what_was_looked_at(made: MadeRun) -> None:
    made.failed()
    async with LabApp().run_test(size=WIDE) as pilot:
        screen = await opened_run(pilot, made.id)
        await pilot.press("enter")
        await until(pilot, lambda: screen.query_one(LogView).has_focus)
        await pilot.resize_terminal(*NARROW)
        await until(pilot, lambda: screen.query_one(LogView).size.width > 70)
        assert screen.query_one(LogView).has_focus
        await pilot.press("escape")
        await until(pilot, lambda: screen.query_one(Rows).size.width > 70)
        await asyncio.sleep(0)
        assert "FAILED" in end(screen)
