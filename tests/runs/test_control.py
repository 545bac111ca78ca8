"""The worker's socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.runs.samples import plan
from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.log import Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.runs.context import RunContext
from vmlab_tui.runs.control import FILE, ControlServer, ask


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder whose path alone is longer than a socket address can be."""
    folder = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6)
    folder.mkdir(parents=True)
    return folder


def context(folder: Path) -> RunContext:
    journal = Journal.append(folder / "journal.jsonl")
    return RunContext(plan(), folder, journal, RunState(), Host("test:///default"), {})


async def test_a_wish_to_end_reaches_the_run_and_the_socket_goes_with_the_worker(deep: Path) -> None:
    run = context(deep)
    server = ControlServer(run)
    await server.start()
    reply = await ask(deep, verb="end", how="keep", by="me", seq=0)
    assert reply["ok"]
    assert run.stop.wanted.is_set()
    assert (run.stop.how, run.stop.by) == ("keep", "me")
    await server.stop()
    assert not (deep / FILE).exists()


@pytest.mark.parametrize(
    "request_",
    [{"verb": "fly"}, {"verb": "end", "how": "explode"}, {"verb": "end", "seq": 99}, {"how": "keep"}],
)
async def test_what_is_not_understood_changes_nothing(deep: Path, request_: dict[str, Any]) -> None:
    run = context(deep)
    server = ControlServer(run)
    await server.start()
    with pytest.raises(LabError):
        await ask(deep, **request_)
    assert not run.stop.wanted.is_set()
    await server.stop()


async def test_rubbish_and_silence_do_not_stop_the_server(deep: Path) -> None:
    run = context(deep)
    server = ControlServer(run)
    await server.start()
    from vmlab_tui.runs.control import _short

    for rubbish in (b"\x00\xff\n", b"[]\n", b"x" * 200_000):
        with _short(deep) as path:
            _reader, writer = await asyncio.open_unix_connection(path)
        writer.write(rubbish)
        writer.close()
    assert (await ask(deep, verb="status"))["ok"]
    await server.stop()


async def test_a_dead_worker_is_an_error_that_names_the_run(deep: Path) -> None:
    with pytest.raises(LabError, match=deep.name):
        await ask(deep, verb="status")
