"""Apps on a lab of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.app import App
from textual.pilot import Pilot

from tests.tui.run_samples import MadeRun
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.screens.run import RunScreen


@pytest.fixture
def lab_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store on libvirt's test driver, with settings of its own; also for what the test starts."""
    monkeypatch.setenv("VMLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path / "store"


@pytest.fixture
def made(lab_dir: Path) -> Iterator[MadeRun]:
    """A live run in that store."""
    run = MadeRun(lab_dir)
    yield run
    run.die()


@asynccontextmanager
async def opened(size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[LabApp, Pilot[None]]]:
    """The app, once it knows its host."""
    app = LabApp()
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.hub.inventory is not None and app.hub.runs is not None)
        await pilot.pause()
        yield app, pilot


async def opened_run(pilot: Pilot[None], run_id: str) -> RunScreen:
    """Open a run's screen and wait until it shows the run."""
    app = pilot.app
    assert isinstance(app, LabApp)
    await app.open_run(run_id)
    screen = app.screen
    assert isinstance(screen, RunScreen)
    await until(pilot, lambda: screen.view is not None or bool(screen.problem))
    return screen


async def until(pilot: Pilot[None], true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that the app's other thread has to bring about; fails with what is on the screen."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, f"not within {seconds} s\n{text(pilot.app)}"
        await pilot.pause(0.02)
    await pilot.pause()


def lines(app: App[None]) -> list[str]:
    """What is on the screen, line by line."""
    found = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strips).rstrip() for strips in found]


def text(app: App[None]) -> str:
    """The same in one piece."""
    return "\n".join(lines(app))
