"""The worker's socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.runs.samples import UUID, plan
from vmlab_tui.base.commands import record
from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.paths import short_path
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Power
from vmlab_tui.journal.log import Journal
from vmlab_tui.journal.state import RunState
from vmlab_tui.lab.vmverbs import Result
from vmlab_tui.runs.asking import FILE, RunIsOver, ask
from vmlab_tui.runs.commandlog import as_text, keep_commands
from vmlab_tui.runs.context import RunContext
from vmlab_tui.runs.control import ControlServer


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
    for rubbish in (b"\x00\xff\n", b"[]\n", b"x" * 200_000):
        with short_path(deep, FILE) as path:
            _reader, writer = await asyncio.open_unix_connection(path)
        writer.write(rubbish)
        writer.close()
    assert (await ask(deep, verb="status"))["ok"]
    await server.stop()


async def test_a_dead_worker_is_an_error_that_names_the_run(deep: Path) -> None:
    with pytest.raises(LabError, match=deep.name):
        await ask(deep, verb="status")


DOMAIN = f"""<domain type='test'><name>sample-7f3a</name><uuid>{UUID}</uuid><memory>8192</memory>
<os><type>hvm</type></os></domain>"""
STEP = {"number": 10, "attempt": 1}


@pytest.fixture
async def live(deep: Path) -> AsyncIterator[RunContext]:
    """A run at work on a VM of libvirt's own test driver, with its socket."""
    node = deep / "node.xml"
    node.write_text("<node></node>")
    async with Host.open(f"test://{node}") as host:
        await host.define_xml(DOMAIN, "sample")
        await host.start(UUID)
        journal = Journal.append(deep / "journal.jsonl")
        run = RunContext(plan(), deep, journal, RunState(), host, {})
        run.write("run_created", run_id=run.plan.run_id, profile="sample", plan_sha="0")
        run.write("worker_started", pid=1, boot_id="b", start_ticks=1, resumed=False)
        server = ControlServer(run)
        await server.start()
        yield run
        await server.stop()
        journal.close()


async def change(run: RunContext, do: str, seq: int | None = None, name: str = "") -> dict[str, object]:
    seen = run.state.seq if seq is None else seq
    return await ask(run.folder, verb="vm", do=do, name=name, by="me@here", seq=seen)


async def test_a_change_of_the_vm_is_done_by_the_worker_and_noted(live: RunContext) -> None:
    live.write("step_started", **STEP)
    await change(live, "pause")
    assert await live.host.power(UUID) is Power.PAUSED
    await change(live, "unpause")
    assert await live.host.power(UUID) is Power.ON
    await change(live, "snapshot", name="now")
    assert [one.name for one in await live.host.snapshots(UUID)] == ["now"]
    await change(live, "off")
    assert await live.host.power(UUID) is Power.OFF
    assert [note.text for note in live.state.notes] == [
        "pause, asked by me@here",
        "unpause, asked by me@here",
        "snapshot 'now', asked by me@here",
        "off, asked by me@here",
    ]


async def test_a_clock_that_stays_behind_is_said(live: RunContext, deep: Path) -> None:
    live.endpoint = Endpoint("127.0.0.1", 1, "lab", deep / "key", "ssh-ed25519 AAAA")
    await change(live, "pause")
    result = (await change(live, "unpause"))["result"]
    assert isinstance(result, dict)
    assert await live.host.power(UUID) is Power.ON
    assert "neither an agent nor SSH answers" in result["data"]["clock"]
    assert live.state.notes[-1].text == f"unpause: ! its clock is behind: {result['data']['clock']}"


async def test_what_fails_says_so_in_the_journal_and_to_who_asked(live: RunContext) -> None:
    await change(live, "off")
    with pytest.raises(LabError, match="sample-7f3a"):
        await change(live, "reset")
    note = live.state.notes[-1]
    assert note.level == "warn"
    assert note.text.startswith("reset failed: ")


@pytest.mark.parametrize("do", ["revert", "delete-snapshot"])
async def test_nothing_is_taken_away_from_under_a_step(live: RunContext, do: str) -> None:
    await change(live, "snapshot", name="now")
    live.write("step_started", **STEP)
    with pytest.raises(Refused, match="at step 10 'install desktop'") as refused:
        await change(live, do, name="now")
    assert "runs end" in refused.value.hint
    live.write("step_finished", **STEP, state="failed", seconds=1.0, detail="", exit_status=1)
    live.write("paused", reason="", until="2026-01-02T13:14:15+00:00")
    await change(live, "off")
    await change(live, do, name="now")
    assert (await live.host.power(UUID) is Power.ON) == (do == "revert")
    assert bool(await live.host.snapshots(UUID)) == (do == "revert")


async def test_what_came_of_going_back_reaches_who_asked_and_the_journal(live: RunContext) -> None:
    await change(live, "snapshot", name="now")
    live.write("paused", reason="", until="2026-01-02T13:14:15+00:00")
    await change(live, "off")
    wish: dict[str, Any] = {"do": "revert", "name": "now", "then": "paused", "safety": True, "by": "me@here"}
    reply = await ask(live.folder, verb="vm", seq=live.state.seq, **wish)
    result = Result.model_validate(reply["result"])
    assert await live.host.power(UUID) is Power.PAUSED
    safety = str(result.data["safety"])
    assert safety in [one.name for one in await live.host.snapshots(UUID)]
    assert any(safety in line for line in result.lines)
    assert live.state.notes[-1].text == f"revert to 'now': {'; '.join(result.lines)}"
    await change(live, "off")
    without = await ask(live.folder, verb="vm", seq=live.state.seq, **{**wish, "safety": False})
    assert Result.model_validate(without["result"]).data["safety"] is None


@pytest.mark.parametrize("do", ["off", "reset", "reboot"])
async def test_who_looked_at_an_older_state_loses_nothing(live: RunContext, do: str) -> None:
    seen = live.state.seq
    live.write("step_started", **STEP)
    with pytest.raises(Refused, match="moved on since you looked"):
        await change(live, do, seen)
    assert await live.host.power(UUID) is Power.ON
    assert live.state.notes == ()
    await change(live, "pause", seen)  # harmless: no matter what was seen
    with pytest.raises(Refused, match="moved on"):
        await change(live, do, live.state.seq - 1)  # somebody else has changed it
    seen = live.state.seq
    live.write("waited", number=10, on="boot", seconds=1.0)
    await change(live, "off", seen)  # nothing that matters has happened
    assert await live.host.power(UUID) is Power.OFF


async def test_a_run_that_is_over_changes_no_vm_any_more(live: RunContext) -> None:
    live.write("step_started", number=live.plan.phase("cleanup").number, attempt=1)
    with pytest.raises(Refused, match="being removed"):
        await change(live, "pause")
    live.stop.close()
    with pytest.raises(RunIsOver):
        await change(live, "pause")
    assert await live.host.power(UUID) is Power.ON


async def test_a_change_that_is_none_changes_nothing(live: RunContext) -> None:
    with pytest.raises(Refused):
        await change(live, "explode")
    assert live.state.notes == ()


def test_the_worker_keeps_its_commands(tmp_path: Path) -> None:
    with keep_commands(tmp_path, lambda text: text.replace("secret", "[masked]")):
        record("virsh start web", seconds=0.25)
        record("qemu-img create secret", ok=False)
    record("not ours")
    path = tmp_path / "commands.log"
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    assert (first["schema"], first["command"], first["outcome"]) == (1, "virsh start web", "ok")
    assert [as_text(line)[9:] for line in lines] == [
        "ok        0.2 s  virsh start web",
        "failed    0.0 s  qemu-img create [masked]",
    ]
    assert as_text('{"torn\x1b') == '{"torn'
