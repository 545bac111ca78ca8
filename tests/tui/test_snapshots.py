"""Every screen as a picture, at 80x24 and at 120x40."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui import snapshots
from tests.tui.conftest import opened
from tests.tui.run_samples import MadeRun
from tests.tui.scenes import SCENES
from tests.tui.snapshots import COMMAND, GOLDEN, UPDATING, compare, picture
from tests.tui.world import World
from vmlab_tui.base import commands

pytestmark = pytest.mark.skipif(
    not (GOLDEN.exists() or UPDATING), reason=f"no golden pictures are kept yet; this makes them: {COMMAND}"
)

SIZES = {"80x24": (80, 24), "120x40": (120, 40)}


@pytest.fixture
def world(lab_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with snapshots.still(monkeypatch) as root:
        monkeypatch.setenv("VMLAB_STORE", str(root / "store"))
        monkeypatch.setenv("VMLAB_CONFIG", str(root / "config"))
        monkeypatch.delenv("VMLAB_THEME", raising=False)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(commands, "recent", lambda: [])
        made = World(root, monkeypatch)
        made.host()
        yield made


async def shown(world: World, scene: str, size: tuple[int, int], theme: str = "") -> str:
    """The picture of a scene."""
    make, act = SCENES[scene]
    made = make(world)
    try:
        async with opened(size) as (app, pilot):
            if theme:
                app.set_theme(theme)
            await act(world, app, pilot)
            return await picture(app, pilot)
    finally:
        if isinstance(made, MadeRun):
            made.die()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scene", SCENES)
async def test_a_screen(world: World, scene: str, size: str, tmp_path: Path) -> None:
    compare(await shown(world, scene, SIZES[size]), f"{scene}-{size}", tmp_path)


@pytest.mark.parametrize("theme", ["light", "ansi"])  # dark is that of all the others
async def test_a_failed_run_in_a_theme(world: World, theme: str, tmp_path: Path) -> None:
    compare(await shown(world, "run-failed", (120, 40), theme), f"run-failed-{theme}", tmp_path)


async def test_a_failed_run_without_colours(world: World, tmp_path: Path) -> None:
    world.patch.setenv("NO_COLOR", "1")
    compare(await shown(world, "run-failed", (120, 40)), "run-failed-no-color", tmp_path)


async def test_the_screen_of_a_vm_without_colours(world: World, tmp_path: Path) -> None:
    world.patch.setenv("NO_COLOR", "1")
    compare(await shown(world, "display", (120, 40)), "display-no-color", tmp_path)


def test_no_picture_is_left_of_a_scene_that_is_gone() -> None:
    known = {f"{scene}-{size}.svg" for scene in SCENES for size in SIZES}
    known |= {f"run-failed-{kind}.svg" for kind in ("light", "ansi", "no-color")}
    known.add("display-no-color.svg")
    left = [path for path in GOLDEN.iterdir() if path.name not in known]
    if UPDATING:
        for path in left:
            path.unlink()
        left = []
    assert not left, f"these belong to no scene: {left}; this takes them away:\n  {COMMAND}"
