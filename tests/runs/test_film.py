"""The boot filmstrip: only what changed, within its budget, and never at the cost of a run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.picture import Picture, decode
from vmlab_tui.hosts.screen import NoScreen
from vmlab_tui.runs import film
from vmlab_tui.runs.film import Film, frames


def plain(level: int, width: int = 64) -> Picture:
    return Picture(width, 48, bytes([level]) * 3 * width * 48)


def noise() -> Picture:
    return Picture(256, 100, os.urandom(3 * 256 * 100))


async def rolled(folder: Path, script: Iterable[Picture | Exception], monkeypatch: pytest.MonkeyPatch) -> int:
    """Film what the script says, as fast as can be; how many of it were looked at."""
    monkeypatch.setattr(film, "_EVERY", 0.002)  # names are told apart by milliseconds
    monkeypatch.setattr(film, "_SHARE", 0.0)
    left, over, looked = iter(script), asyncio.Event(), 0

    async def take() -> Picture:
        nonlocal looked
        now = next(left, None)
        if now is None:
            over.set()
            await asyncio.Event().wait()
        looked += 1
        if isinstance(now, Exception):
            raise now
        assert now is not None
        return now

    strip = Film(folder, take)
    strip.start()
    strip.start()
    waiting = asyncio.create_task(over.wait())
    assert strip._task
    await asyncio.wait({waiting, strip._task}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await strip.stop()
    return looked


async def test_only_changes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = LabError("busy")
    script: list[Picture | Exception]
    script = [plain(0), plain(0), busy, plain(90), plain(90), plain(90, 32), plain(0)]
    assert await rolled(tmp_path, script, monkeypatch) == 7
    kept = frames(tmp_path)
    assert [decode(one.path.read_bytes()) for one in kept] == [plain(0), plain(90), plain(90, 32), plain(0)]
    assert [one.taken for one in kept] == sorted(one.taken for one in kept)
    assert {one.path.stat().st_mode & 0o777 for one in kept} == {0o600}
    assert {path.name for path in (tmp_path / film.FOLDER).iterdir()} == {one.path.name for one in kept}


async def test_it_stays_within_its_budget_and_keeps_first_and_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "FRAMES", 6)
    await rolled(tmp_path, [plain(10 * number) for number in range(20)], monkeypatch)
    kept = [decode(one.path.read_bytes()) for one in frames(tmp_path)]
    assert len(kept) == 6
    assert kept[0] == plain(0)
    assert kept[-1] == plain(190)
    monkeypatch.setattr(film, "BYTES", 1 << 19)
    (tmp_path / "more").mkdir()
    huge = Picture(400, 400, os.urandom(3 * 400 * 400))
    await rolled(tmp_path / "more", [*(noise() for _ in range(12)), huge], monkeypatch)
    kept_bytes = [one.size for one in frames(tmp_path / "more")]
    assert 1 << 18 < sum(kept_bytes) <= 1 << 19
    assert max(kept_bytes) < 1 << 17, "what would take the room of all the others is not kept"


@pytest.mark.parametrize("end", [NoScreen("no video device"), RuntimeError("anything")])
async def test_without_a_screen_it_ends_quietly(
    end: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await rolled(tmp_path, [plain(0), end, plain(90)], monkeypatch) == 2
    assert len(frames(tmp_path)) == 1


async def test_a_disk_that_takes_nothing_ends_it_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / film.FOLDER).write_text("in the way")
    assert await rolled(tmp_path, [plain(0), plain(90)], monkeypatch) == 1
    assert frames(tmp_path) == ()


async def test_a_wait_that_failed_ends_with_a_last_picture(tmp_path: Path) -> None:
    shows = [plain(0)]

    async def take() -> Picture:
        return shows[0]

    strip = Film(tmp_path, take)
    await strip.stop(last=True)
    assert frames(tmp_path) == (), "it had not begun"
    strip.start()
    while not frames(tmp_path):
        await asyncio.sleep(0.01)
    shows[0] = plain(200)
    await strip.stop(last=True)
    assert len(frames(tmp_path)) == 2
