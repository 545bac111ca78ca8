"""An empty lab offers the way to a first run, and goes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.lab.test_inventory import node
from tests.tui.conftest import lines, opened, text, until
from tests.tui.run_samples import MadeRun
from tests.tui.test_images import put
from vmlab_tui.base.paths import Store
from vmlab_tui.images.build.disk import Built
from vmlab_tui.spec.recipe import Recipe
from vmlab_tui.tui.screens.activity import ActivityScreen
from vmlab_tui.tui.screens.firststart import Offer
from vmlab_tui.tui.screens.lab import LabArea
from vmlab_tui.tui.screens.newrun import NewRunScreen
from vmlab_tui.tui.screens.run import RunScreen
from vmlab_tui.tui.widgets.rows import Rows


@pytest.fixture
def bare(lab_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and a host without VMs."""
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", node(tmp_path / "node.xml", {}))
    return lab_dir


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_nothing_at_all_is_an_offer(bare: Path, size: tuple[int, int]) -> None:
    async with opened(size) as (app, pilot):
        shown = text(app)
        assert "There is no image and no run in this lab yet." in shown
        assert "f      build the image debian-12 (about 2 minutes), run quickstart on it" in shown
        assert "nothing here yet" not in shown
        assert isinstance(app.focused, Offer)
        assert not app.screen.query_one(Rows).region.height
        if os.geteuid() == 0:
            assert "needs root" not in shown
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LabArea))
        await pilot.press("3", "1")
        assert isinstance(app.focused, Offer)


async def test_who_is_not_root_is_told(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as (app, pilot):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert isinstance(app.screen, LabArea)
        app.screen._offer()
        await pilot.pause()
        assert "building needs root: start vmlab with sudo for that" in text(app)


async def test_beside_foreign_vms_the_list_keeps_the_focus(lab_dir: Path) -> None:
    async with opened() as (app, pilot):
        assert "f      build the image debian-12" in text(app)
        assert "f first run" in lines(app)[-1]
        assert any(" test " in line and "foreign" in line for line in lines(app))
        rows = app.screen.query_one(Rows)
        assert rows.has_focus
        await pilot.press("end")
        assert rows.cursor and rows.cursor.cells[0].text == "test"


@pytest.mark.parametrize(
    "keys", [["slash", "escape"], ["slash", "x", "escape"], ["slash", "x", "enter", "escape"]]
)
async def test_a_filter_that_was_taken_away_leaves_the_keys(
    bare: Path, keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/debian-12.yaml").write_text("schema: 1\nname: debian-12\nsuite: Bookworm!\n")
    async with opened() as (app, pilot):
        for key in ("f", "enter"):
            await pilot.press(*keys)
            await pilot.pause()
            assert "There is no image and no run in this lab yet." in text(app)
            assert "f first run" in lines(app)[-1]
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, ActivityScreen) and app.screen.activity.over, 5)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, LabArea))


@pytest.mark.parametrize(
    ("name", "way"),
    [("golden", "build the image debian-12 (about 2 minutes)"), ("debian-12", "run quickstart: a small VM")],
)
async def test_with_an_image_and_no_run_a_run_is_offered(bare: Path, name: str, way: str) -> None:
    async with opened((80, 24)) as (app, pilot):
        (bare / "images").mkdir(parents=True, exist_ok=True)
        put(Store(bare), name)
        await until(pilot, lambda: "There is an image and no run in this lab yet." in text(app))
        assert f"f      {way}" in text(app)
        assert "n      run a profile of your own" in text(app)
        assert "Snapshots on the way" not in text(app)
        assert any(name in line and "image" in line for line in lines(app)[8:])
        assert app.screen.query_one(Rows).has_focus
        assert "f first run" in lines(app)[-1]
        await pilot.press("2")
        await until(pilot, lambda: f"f      {way}" in text(app))
        assert isinstance(app.focused, Offer)
        assert "f first run" in lines(app)[-1]
        MadeRun(bare).failed()
        await until(pilot, lambda: "There is an image" not in text(app))
        await until(pilot, lambda: app.screen.query_one(Rows).has_focus)
        assert "first run" not in lines(app)[-1]
        await pilot.press("1")
        await until(pilot, lambda: name in text(app))
        assert "There is an image" not in text(app)


async def test_a_run_is_something(bare: Path) -> None:
    made = MadeRun(bare)
    made.failed()
    async with opened() as (app, _):
        assert "There is no image" not in text(app)


async def test_a_build_that_fails_is_told_and_the_offer_stays(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "debian-12.yaml").write_text("schema: 1\nname: debian-12\nsuite: Bookworm!\n")
    async with opened() as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ActivityScreen) and app.screen.activity.over)
        await until(pilot, lambda: "found 'Bookworm!'" in text(app))
        assert "failed" in lines(app)[0]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LabArea))
        assert "There is no image" in text(app)
        assert isinstance(app.focused, Offer)


@pytest.mark.guest
@pytest.mark.skipif(os.geteuid() != 0, reason="building an image needs root")
async def test_from_nothing_to_a_run_that_passed(
    lab_store: Store, tiny_built: tuple[Store, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it but the packages: the disk is the tiny guest's instead of one made by mmdebstrap."""
    from vmlab_tui.runs import imagebuild

    disk = next(tiny_built[0].images.glob("tiny-*.qcow2"))

    async def instead(recipe: Recipe, staging: Path, on_line: object, on_stage: object) -> Built:
        file = staging / "disk.qcow2"
        shutil.copy(disk, file)
        return Built(file, "qcow2", 40 << 20, file.stat().st_size, "k", "a test", {"packages": 1.0})

    monkeypatch.setattr(imagebuild, "build_disk", instead)
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.yaml").write_text(
        "schema: 1\nname: quickstart\nimage: debian-12\nvm: {memory: 192MiB, disk: 64MiB, cpus: 1}\n"
        "steps:\n  - {name: greet, run: echo hello}\n"
    )
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, ActivityScreen))
        await until(pilot, lambda: ">>  boot" in text(app), 60)
        await pilot.press("escape")
        await until(pilot, lambda: "0 shows it" in text(app))
        await until(pilot, lambda: isinstance(app.screen, RunScreen), 120)
        run = app.screen
        assert isinstance(run, RunScreen)
        await until(pilot, lambda: run.view is not None and run.view.state.over, 240)
        assert run.view and run.view.status == "passed"
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, LabArea))
        await until(pilot, lambda: "debian-12" in lines(app)[2])
        assert "There is no image" not in text(app)
