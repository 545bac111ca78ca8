"""A verb that takes long: live, left behind, brought back, cancelled, failed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import ClassVar

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.tui.conftest import until
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.dispatch import perform
from vmlab_tui.tui.screens.activity import ActivityScreen
from vmlab_tui.tui.screens.dialogs import ConfirmDialog, FormDialog
from vmlab_tui.tui.screens.pick import Choice, PickDialog
from vmlab_tui.tui.screens.run_export import SaveDialog
from vmlab_tui.tui.widgets.logview import LogView
from vmlab_tui.tui.widgets.rows import Rows
from vmlab_tui.verbs.registry import by_id
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb


def text_of(app: LabApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


class Dig(Verb):
    """Tells phases until it is let go, or cancelled; then it clears away, which takes a moment."""

    id = "dig"
    words = ("dig",)
    help = "Dig"
    long = True
    going: ClassVar[asyncio.Event]
    clear: ClassVar[asyncio.Event]
    cleared: ClassVar[bool] = False

    async def run(self, ctx: Context, args: Args) -> Outcome:
        Dig.going, Dig.clear, Dig.cleared = asyncio.Event(), asyncio.Event(), False
        ctx.front.phase("loosen", "the upper layer")
        ctx.front.phase("dig", "[@click=app.quit]x[/] \x1b]8;;http://x\x07")
        ctx.front.output("a stone \x1b[31mred\x1b[0m [/x]")
        ctx.front.status("dig: 1 m")
        try:
            await Dig.going.wait()
        except asyncio.CancelledError:
            await asyncio.wait_for(Dig.clear.wait(), 20)
            Dig.cleared = True
            raise
        if args.flag("fail"):
            raise LabError("rock at 1 m", hint="use a bigger [/spade]")
        return Outcome(None, ("a hole",))


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabApp:
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    return LabApp("test:///default", tmp_path / "store")


def may_clear(app: LabApp) -> None:
    app.backend._loop.call_soon_threadsafe(lambda: Dig.clear.set())


def let_go(app: LabApp) -> None:
    app.backend._loop.call_soon_threadsafe(Dig.going.set)


async def dug(app: LabApp, pilot: Pilot[None], **given: object) -> ActivityScreen:
    app.run_worker(perform(app, Dig(), (), given), exit_on_error=False)
    await until(
        pilot, lambda: isinstance(app.screen, ActivityScreen) and len(app.screen.activity.phases) == 2
    )
    assert isinstance(app.screen, ActivityScreen)
    return app.screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_live_left_and_brought_back(app: LabApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        screen = await dug(app, pilot)
        await until(pilot, lambda: ">>  dig" in text_of(app, "#phases"))
        assert "ok  loosen" in text_of(app, "#phases")
        await until(pilot, lambda: "[@click=app.quit]x[/]" in text_of(app, "#phases"))
        assert "\x1b" not in text_of(app, "#phases")
        assert "at work" in text_of(app, "#head")
        await pilot.press("escape")
        assert app.screen is not screen
        assert app.busy_with() == ["dig: 1 m"]
        await pilot.press("0")
        assert isinstance(app.screen, ActivityScreen)
        assert app.screen.activity is screen.activity
        let_go(app)
        await until(pilot, lambda: "done" in text_of(app, "#head"))
        assert app.busy_with() == []
        await pilot.press("ctrl+x")  # nothing to cancel any more
        assert isinstance(app.screen, ActivityScreen)


async def test_nothing_yet_is_said(app: LabApp) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("0")
        await until(pilot, lambda: any(one.message.startswith("nothing yet") for one in app._notifications))


async def test_cancelling_asks_and_waits_for_the_clearing_away(app: LabApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await dug(app, pilot)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("n")
        assert isinstance(app.screen, ActivityScreen)
        assert app.screen.activity.state == "at work"
        await pilot.press("ctrl+x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: "cancelling" in text_of(app, "#head"))
        assert not Dig.cleared
        may_clear(app)
        await until(pilot, lambda: "cancelled" in text_of(app, "#head"))
        assert Dig.cleared
        assert "--  dig" in text_of(app, "#phases")


async def test_the_output_can_be_saved(app: LabApp, tmp_path: Path) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await dug(app, pilot)
        await until(pilot, lambda: app.screen.query_one(LogView).status.lines)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, SaveDialog))
        app.screen.query_one(Input).value = str(tmp_path / "saved.log")
        await pilot.press("enter")
        await until(pilot, lambda: (tmp_path / "saved.log").exists())
        assert (tmp_path / "saved.log").read_text() == "a stone red [/x]\n"


async def test_a_failure_stands_where_one_looks(app: LabApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await dug(app, pilot, fail=True)
        let_go(app)
        await until(pilot, lambda: "failed" in text_of(app, "#head"))
        assert "rock at 1 m" in text_of(app, "#problem")
        assert "use a bigger [/spade]" in text_of(app, "#problem")
        assert app.screen.query_one("#problem").display
        await pilot.press("escape")
        screen = await dug(app, pilot, fail=True)
        await pilot.press("escape")
        let_go(app)
        await until(pilot, lambda: screen.activity.over)
        await pilot.pause()
        assert text_of(app, "#message") == "rock at 1 m"


class Sow(Verb):
    """Refuses the first answer."""

    id = "sow"
    words = ("sow",)
    help = "Sow"
    asks = ("what", "where")
    params = (Param("what", "Seeds."), Param("where", "A field.", required=True))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        if args.text("where") == "rock":
            raise LabError("nothing grows on rock", hint="take earth")
        return Outcome({"what": args.optional("what"), "where": args.text("where")}, ("sown",))


async def test_what_was_typed_is_not_lost(app: LabApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        worker = app.run_worker(perform(app, Sow()), exit_on_error=False)
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        await pilot.press(*"rye", "tab", *"rock", "enter")
        await until(pilot, lambda: isinstance(app.screen, FormDialog) and text_of(app, "#problem"))
        assert "nothing grows on rock" in text_of(app, "#problem")
        assert "take earth" in text_of(app, "#problem")
        app.screen.query_one("#f-where", Input).value = "earth"
        await pilot.press("ctrl+s")
        outcome = await worker.wait()
        assert outcome and outcome.data == {"what": "rye", "where": "earth"}


async def test_picking_a_recipe(app: LabApp, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "images"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("schema: 1\n")
    async with app.run_test(size=(80, 24)) as pilot:
        app.run_worker(perform(app, by_id("image.build")), exit_on_error=False)
        await until(pilot, lambda: isinstance(app.screen, PickDialog))
        await pilot.press(*"broken", "enter")
        assert isinstance(app.screen, PickDialog)
        assert "1 problem" in text_of(app, "#about") or "problems" in text_of(app, "#about")
        await pilot.press("escape")
        await pilot.pause()
        assert not app.busy_with()


async def test_picking_from_the_files_of_a_folder(app: LabApp, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name in ("one.yaml", "two.yml", "three.txt"):
        (folder / name).write_text("schema: 1\n")
    async with app.run_test(size=(80, 24)) as pilot:
        picked: list[str | None] = []
        app.push_screen(PickDialog("which?", [Choice("a", "a")], paths=True), picked.append)
        await pilot.press(*f"{folder}/")
        rows = app.screen.query_one(Rows)
        await until(
            pilot, lambda: [row.key.rpartition("/")[2] for row in rows.rows] == ["one.yaml", "two.yml"]
        )
        await pilot.press("down", "enter")
        await until(pilot, lambda: picked)
        assert picked == [f"{folder}/two.yml"]
        app.push_screen(PickDialog("which?", [Choice("a", "a")], paths=True), picked.append)
        await pilot.press(*"~/no.yaml", "enter")
        await until(pilot, lambda: picked[1:] == ["~/no.yaml"])


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="building an image needs root")


@needs_root
@pytest.mark.guest
async def test_a_cancelled_build_leaves_nothing(lab_store: Store, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("schema: 1\nname: small\nsuite: bookworm\nsize: 2GiB\n")
    app = LabApp(None, lab_store.root)
    async with app.run_test(size=(80, 24)) as pilot:
        app.run_worker(perform(app, by_id("image.build"), (), {"recipe": str(recipe)}), exit_on_error=False)
        await until(pilot, lambda: isinstance(app.screen, ActivityScreen) and app.screen.activity.phases, 30)
        assert isinstance(app.screen, ActivityScreen)
        activity = app.screen.activity
        await until(pilot, lambda: activity.log.count, 30)
        folders = [path for path in (lab_store.images / ".staging").iterdir() if path.is_dir()]
        assert len(folders) == 1
        await pilot.press("ctrl+x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: activity.over, 30)
        assert activity.state == "cancelled"
        assert not folders[0].exists()


@needs_root
async def test_a_recipe_with_errors_is_told_at_once(lab_store: Store, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("schema: 1\nname: bad\nsuite: bookworm\nsiez: 2GiB\n")
    app = LabApp(None, lab_store.root)
    async with app.run_test(size=(80, 24)) as pilot:
        app.run_worker(perform(app, by_id("image.build"), (), {"recipe": str(recipe)}), exit_on_error=False)
        await until(pilot, lambda: isinstance(app.screen, ActivityScreen) and app.screen.activity.over)
        await until(pilot, lambda: "bad.yaml:4" in text_of(app, "#problem"))
        assert "did you mean 'size'?" in text_of(app, "#problem")
