"""Apps on a lab of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from vmlab_tui.tui.app import LabApp


@pytest.fixture
def lab_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store on libvirt's test driver, with settings of its own; also for what the test starts."""
    monkeypatch.setenv("VMLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path / "store"


@asynccontextmanager
async def opened(size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[LabApp, Pilot[None]]]:
    """The app, once it knows its host."""
    app = LabApp()
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.hub.inventory is not None and app.hub.runs is not None)
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[None], true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that the app's other thread has to bring about."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)
    await pilot.pause()


def lines(app: LabApp) -> list[str]:
    """What is on the screen, line by line."""
    found = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strips).rstrip() for strips in found]


def text(app: LabApp) -> str:
    return "\n".join(lines(app))
