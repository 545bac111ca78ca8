"""What cloud-init says of itself, read from its files in a guest that has nothing but BusyBox."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.guests.beds import Bed, until
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError
from vmlab_tui.guests.cloudinit import CloudInitState, wait_cloud_init
from vmlab_tui.guests.ssh import Guest


@pytest.fixture
async def box(busybox: Bed) -> AsyncIterator[Guest]:
    async with Guest(busybox.endpoint) as guest:
        yield guest


@pytest.fixture
def run(busybox: Bed) -> Iterator[Path]:
    folder = busybox.at("/run/cloud-init")
    folder.mkdir()
    busybox.at("/var/log").mkdir(exist_ok=True)
    busybox.at("/var/log/cloud-init-output.log").write_bytes(b"Cloud-init v. 22\n\x1b[31mred\n")
    yield folder
    shutil.rmtree(folder)


def put(path: Path, v1: object) -> None:
    path.with_suffix(".new").write_text(json.dumps({"v1": v1}, indent=1))
    path.with_suffix(".new").rename(path)


async def test_not_there(box: Guest) -> None:
    assert (await wait_cloud_init(box, Deadline(5), print)).state is CloudInitState.ABSENT


async def test_switched_off(box: Guest, run: Path) -> None:
    (run / "disabled").touch()
    found = await wait_cloud_init(box, Deadline(5), print)
    assert (found.state, found.stage) == (CloudInitState.ABSENT, "disabled")


async def test_stages_then_done(box: Guest, run: Path) -> None:
    heard: list[str] = []
    put(run / "status.json", {"stage": "init", "init": {"errors": []}})
    task = asyncio.create_task(wait_cloud_init(box, Deadline(20), heard.append))
    await until(lambda: heard == ["init"])
    put(run / "status.json", {"stage": "modules-final"})
    await until(lambda: heard == ["init", "modules-final"])
    put(run / "status.json", {"stage": None, "init": {"errors": []}})
    put(run / "result.json", {"datasource": "DataSourceNoCloud", "errors": []})
    found = await task
    assert (found.state, found.errors) == (CloudInitState.DONE, ())
    assert found.output == ("Cloud-init v. 22", "red")


async def test_its_errors(box: Guest, run: Path) -> None:
    put(run / "status.json", {"stage": None, "modules-final": {"errors": ["('runcmd', boom\x1b[31m)"]}})
    put(run / "result.json", {"errors": ["('runcmd', boom\x1b[31m)"]})
    found = await wait_cloud_init(box, Deadline(5), print)
    assert (found.state, found.errors) == (CloudInitState.ERROR, ("('runcmd', boom)",))


async def test_a_damaged_result_is_no_pass(box: Guest, run: Path) -> None:
    (run / "result.json").write_text("")
    assert (await wait_cloud_init(box, Deadline(5), print)).state is CloudInitState.ERROR


async def test_a_drop_and_a_time_limit(box: Guest, busybox: Bed, run: Path) -> None:
    heard: list[str] = []
    put(run / "status.json", {"stage": "modules-config"})
    task = asyncio.create_task(wait_cloud_init(box, Deadline(3), heard.append))
    await until(lambda: heard)
    busybox.cut()
    with pytest.raises(DeadlineError, match="modules-config"):
        await task
    assert len(heard) == 2, "it went on after the drop"
