"""What changed, on a real guest: by forks of its checkpoints, which are gone afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.runs.command import only_run, vmlab
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.host import Host

pytestmark = pytest.mark.guest

HEAD = """\
schema: 1
name: changed
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
on_fail: keep
"""
CHANGES = """\
steps:
  - {name: base, run: "echo a > /root/kept; echo b > /root/gone", checkpoint: true}
  - {copy: {from: ./files, to: /root/files}, name: files}
  - name: changes
    run: |
      echo c >> /root/kept
      chmod 600 /root/kept
      rm /root/gone
      echo 'web:x:900:900::/srv:/bin/false' >> /etc/passwd
      nc -l -p 8080 </dev/null >/dev/null 2>&1 &
      false
checks:
  - {file: /root/kept}
  - {file: /root/gone}
"""
BREAKS = """\
steps:
  - {name: base, run: "echo ok > /root/state", checkpoint: true}
  - {name: more, run: "echo $WORD > /root/more"}
  - name: breaks
    run: |
      test -e /root/more
      cat >/root/text <<END
      echo this is no statement
      END
      for n in 1 2; do
        echo broken $n >/root/state
      done
      echo three
      echo four
env: {WORD: word}
checks:
  - {command: "cat /root/state; cat /root/more >&2; grep -qx ok /root/state"}
"""
STEP = 12


async def nothing_more(store: Store, host: Host) -> None:
    """The run's VM is the only one of the store."""
    uuid = next(store.vms.iterdir()).name
    assert [path.name for path in store.vms.iterdir()] == [uuid]
    ours = [one.uuid for one in await host.domains() if one.mark and one.mark.store == str(store.root)]
    assert ours == [uuid]


async def failed_run(store: Store, folder: Path, text: str, image: str) -> str:
    (folder / "files").mkdir()
    (folder / "files/new").write_text("new\n")
    path = folder / "profile.yaml"
    path.write_text(HEAD.format(image=image) + text)
    said = await vmlab(store, "run", path)
    assert said.status == 1, said.err
    return only_run(store).name


async def test_a_diff_of_the_step_that_failed(
    lab_store: Store, tiny_image: str, tmp_path: Path, host: Host
) -> None:
    run = await failed_run(lab_store, tmp_path, CHANGES, tiny_image)
    try:
        said = await vmlab(lab_store, "diff", run, "--json")
        assert said.status == 0, said.err
        told = said.data
        assert (told["step"], told["before"]["after"], told["after"]["checkpoint"]) == (STEP, 10, None)
        changes = {(one["section"], one["name"]): (one["before"], one["after"]) for one in told["changes"]}
        assert set(changes) == {
            ("ports", "tcp/8080"),
            ("users", "web"),
            ("files", "/root/files"),
            ("files", "/root/files/new"),
            ("files", "/root/gone"),
            ("files", "/root/kept"),
        }
        before, after = changes["files", "/root/kept"]
        assert (before["size"], after["size"], before["mode"], after["mode"]) == ("2", "4", "0644", "0600")
        assert changes["files", "/root/gone"][1] is None
        assert set(told["not_known"]) == {"packages", "units"}
        await nothing_more(lab_store, host)
    finally:
        await vmlab(lab_store, "runs", "end", run, "--yes")


async def test_a_bisect_names_the_statement(
    lab_store: Store, tiny_image: str, tmp_path: Path, host: Host
) -> None:
    run = await failed_run(lab_store, tmp_path, BREAKS, tiny_image)
    try:
        said = await vmlab(lab_store, "bisect", run, "breaks")
        assert said.status == 0, said.err
        assert "the check fails after lines 5-7 of its script" in said.out
        assert "     6    echo broken $n >/root/state" in said.out
        assert "| broken 2" in said.out
        assert "| word" in said.out, "the step between the checkpoint and this one was done, too"
        await nothing_more(lab_store, host)

        silly = await vmlab(lab_store, "bisect", run, "breaks", "--check", "false")
        assert silly.status == 3
        assert "does not hold at checkpoint 'after-10-base'" in silly.err

        # called off while both forks are at work
        command = [sys.executable, "-m", "vmlab_tui", "bisect", run, "breaks", "--check", "sleep 60"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env={**os.environ}
        )
        async with asyncio.timeout(60):
            while len([one for one in await host.domains() if "-look-" in one.name]) < 2:
                await asyncio.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 130
        await nothing_more(lab_store, host)
    finally:
        await vmlab(lab_store, "runs", "end", run, "--yes")
