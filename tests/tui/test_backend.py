"""The other thread's loop, from its start to after its end."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from vmlab_tui.tui.backend import Backend


async def test_what_is_submitted_after_the_end_is_cancelled_and_warns_of_nothing() -> None:
    async def work() -> int:
        return 7

    backend = Backend()
    backend.start()
    assert await backend.call(work()) == 7
    await backend.stop()
    async with asyncio.timeout(10):
        while backend._thread.is_alive():
            await asyncio.sleep(0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend.submit(work()).cancelled()
        with pytest.raises(asyncio.CancelledError):
            await backend.call(work())
        gc.collect()
