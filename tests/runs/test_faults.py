"""What goes wrong while a run is at work: nothing is lost, nothing is done twice, and the run says so."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.runs.command import only_run, show, show_when, vmlab
from tests.runs.test_debug import attempts, say, start, until
from tests.support import lab
from vmlab_tui.base.paths import Store
from vmlab_tui.images.store import open_store

pytestmark = pytest.mark.guest

HEAD = """\
schema: 1
name: faults
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
"""
FIRST = 10


def written(tmp_path: Path, image: str, text: str) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(HEAD.format(image=image) + text)
    return path


async def test_connections_drop_and_the_guest_reboots_in_mid_step(
    lab_store: Store, tiny_image: str, tmp_path: Path
) -> None:
    """By itself: of the step that was at work nobody knows how it ended, and it is not begun again."""
    path = written(
        tmp_path,
        tiny_image,
        """\
on_fail: pause
on_pass: destroy
steps:
  - name: drops
    run: |
      echo x >> /root/count
      for n in 1 2 3 4 5 6; do
        echo line $n
        case $n in 2|4) kill -9 $(pidof dropbear) 2>/dev/null || : ;; esac
        sleep 0.3
      done
      cat /root/count
  - name: reboots
    run: |
      [ ! -e /root/once ] || exit 0
      echo begun
      echo x >> /run/begun
      sleep 1
      reboot -f
      sleep 60
""",
    )
    run = await start(lab_store, path)
    shown = await until(lab_store, run, "paused", at=FIRST + 1)
    folder = lab_store.run(run)
    said = (folder / f"steps/{FIRST}-drops.1.log").read_text()
    assert said == "".join(f"line {n}\n" for n in range(1, 7)) + "x\n"
    (step,) = [one for one in shown["steps"] if one["number"] == FIRST + 1]
    assert (step["state"], step["exit_status"]) == ("unknown", None), step
    assert "its end is not known" in step["detail"]
    assert (folder / f"steps/{FIRST + 1}-reboots.1.log").read_text() == "begun\n"
    looked = await vmlab(lab_store, "ssh", run, "--", "sudo sh -c 'test ! -e /run/begun && : >/root/once'")
    assert looked.status == 0, looked
    assert (await say(lab_store, "retry", run)).status == 0
    ended = await vmlab(lab_store, "runs", "wait", run)
    assert ended.status == 0, ended.err
    assert attempts(lab_store, run)[:3] == [(FIRST, 1), (FIRST + 1, 1), (FIRST + 1, 2)]


@pytest.fixture
def small_store(nothing_left: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store on a file system of its own with 1.6 GiB."""
    store = lab.new_store()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1600m,mode=755", "tmpfs", store.root], check=True)
    open_store(store, *asyncio.run(lab.qemu_user()), system=True)
    monkeypatch.setenv("VMLAB_STORE", str(store.root))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", lab.URI)
    try:
        yield store
    finally:
        asyncio.run(lab.sweep(store))
        subprocess.run(["umount", "-l", store.root], check=True)
        shutil.rmtree(store.root)


def fill(store: Store, left: int) -> Path:
    """Take all of the store's file system but ``left`` bytes; the file that takes it."""
    for template in store.templates.iterdir():  # that could be made room of
        shutil.rmtree(template) if template.is_dir() else template.unlink()
    filler = store.root / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(store.root)
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)
    return filler


@pytest.fixture
def small_image(small_store: Store, tiny_built: tuple[Store, Any]) -> str:
    """The tiny guest's image in that store; its name."""
    source, image = tiny_built
    lab.put_image(small_store, image, source.images / image.file)
    return str(image.name)


async def test_the_disk_is_full_at_a_checkpoint(small_store: Store, small_image: str, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        small_image,
        """\
on_pass: keep
steps:
  - {name: first, run: echo first >> /root/log, checkpoint: true}
  - {name: second, run: echo second >> /root/log; cat /root/log}
""",
    )
    run = await start(small_store, path, "--break", "first", "--break", "second")
    await until(small_store, run, "paused", at=FIRST)
    filler = fill(small_store, 8 << 20)
    assert (await say(small_store, "continue", run)).status == 0
    shown = await until(small_store, run, "paused", at=FIRST + 1)
    assert [one["name"] for one in shown["checkpoints"]] == ["clean-boot"]
    notes = " ".join(note["text"] for note in shown["notes"])
    assert f"no checkpoint after step {FIRST}" in notes
    assert f"free in {small_store.root}" in notes
    assert not [one for one in shown["owns"] if one["what"] == "snapshot" and "after-" in one["id"]], shown[
        "owns"
    ]
    assert [one["state"] for one in shown["steps"] if one["number"] == FIRST] == ["ok"]
    told = await vmlab(small_store, "show", run, "--json")
    assert told.data["power"] == "on", told.data
    filler.unlink()
    names = subprocess.run(
        ["virsh", "-q", "-c", lab.URI, "snapshot-list", "--name", told.data["name"]],
        capture_output=True,
        text=True,
    ).stdout.split()
    assert names == ["clean-boot"]
    assert (await say(small_store, "continue", run)).status == 0
    ended = await vmlab(small_store, "runs", "wait", run)
    assert ended.status == 0, ended.err
    log = (small_store.run(run) / f"steps/{FIRST + 1}-second.1.log").read_text()
    assert log == "first\nsecond\n"
    assert (await vmlab(small_store, "runs", "end", run, "--yes")).status == 0


async def test_the_disk_is_full_under_the_guest(small_store: Store, small_image: str, tmp_path: Path) -> None:
    """QEMU lets the VM stand still; the run says so, and the step goes on once there is room.

    The tiny guest lives in its memory: nothing of its disk is read any more.
    """
    path = written(
        tmp_path,
        small_image,
        """\
checkpoints: none
on_pass: destroy
steps:
  - {name: writes, run: "echo begun; yes | head -c 30000000 >/dev/vda; sync; echo done"}
""",
    )
    run = await start(small_store, path, "--break", "writes")
    await until(small_store, run, "paused", at=FIRST)
    filler = fill(small_store, 4 << 20)
    assert (await say(small_store, "continue", run)).status == 0
    says = "stands still: QEMU could not write its disk"
    await show_when(small_store, run, lambda told: any(says in note["text"] for note in told["notes"]))
    folder = small_store.run(run)
    (folder / "report.json").mkdir()  # as if there were no room later, either: it cannot be written
    filler.unlink()
    unpaused = await vmlab(small_store, "unpause", run)
    assert unpaused.status == 0, unpaused
    ended = await vmlab(small_store, "runs", "wait", run)
    assert ended.status == 0, ended.err
    assert (folder / f"steps/{FIRST}-writes.1.log").read_text() == "begun\ndone\n"
    told = await show(small_store, run)
    assert (told["status"], told["owns"]) == ("passed", []), "a run ends without its reports, too"
    assert any("the reports cannot be written" in note["text"] for note in told["notes"])


async def test_a_secret_is_in_no_file_no_argument_and_no_definition_whatever_one_does(
    lab_store: Store, tiny_image: str, tmp_path: Path
) -> None:
    """Memory in snapshots has it: that lies in the VM's disk, and is said in the README."""
    secret = "s3cr3t-Zq81/+=x&y"
    path = written(
        tmp_path,
        tiny_image,
        """\
on_fail: pause
required: [TOKEN]
secret: [TOKEN]
steps:
  - name: uses
    checkpoint: true
    run: |
      test "$TOKEN" = "$(printf 's3cr3t-%s' 'Zq81/+=x&y')"
      say() {
        echo "plain $TOKEN"
        printf 'coloured \\033[31m%s\\033[0m\\n' "$TOKEN"
        printf 'user:%s@host' "$TOKEN" | base64
        printf 'url %s\\n' "$(echo "$TOKEN" | sed 's,/,%2F,g; s,+,%2B,g; s,=,%3D,g; s,&,%26,g')"
        printf 'split %s' "${TOKEN%%Zq*}"; sleep 0.3; printf '%s\\n' "${TOKEN#*t-}"
      }
      say
      say >/dev/console
  - {name: breaks, run: 'echo "again $TOKEN"; set -x; : "$TOKEN"; cd /usr/bin; ls "/nowhere/$TOKEN"'}
""",
    )
    forms = [
        secret.encode(),
        *(base64.b64encode(pad + secret.encode())[4:-4] for pad in (b"", b"a", b"ab")),
        quote(secret, safe="").encode(),
    ]
    arguments: set[bytes] = set()
    looking = threading.Event()

    def look() -> None:
        while not looking.wait(0.02):
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    arguments.add((folder / "cmdline").read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    said: list[str] = []

    async def do(*words: str | Path, **env: str) -> None:
        done = await vmlab(lab_store, *words, timeout=240, **env)
        assert done.status == 0, done
        said.extend((done.out, done.err))

    edited = tmp_path / "edited.sh"
    edited.write_text('echo "edited $TOKEN"\nexit 4\n')
    try:
        await do("run", path, "--env", "TOKEN", "--detach", "--json", TOKEN=secret)
        run = only_run(lab_store).name
        await until(lab_store, run, "paused", at=FIRST + 1)
        await do("ssh", run, "--here", "--", 'test -n "$TOKEN" && pwd')
        await do("diagnose", run)
        shown = await show(lab_store, run)
        await do("runs", "back", run, "--script", edited, "--yes")
        await until(lab_store, run, "paused", at=FIRST + 1, since=shown["seq"] + 3)
        for words in (
            ("runs", "show", run),
            ("runs", "logs", run),
            ("runs", "logs", run, "console"),
            ("show", run),
        ):
            await do(*words)
        name = (await vmlab(lab_store, "show", run, "--json")).data["name"]
        for xml in (["dumpxml", name], ["snapshot-dumpxml", name, "clean-boot", "--security-info"]):
            asked = ["virsh", "-q", "-c", lab.URI, *xml]
            said.append(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
        await do("runs", "keep", run)
    finally:
        looking.set()
        watcher.join()
    folder = lab_store.run(run)
    log = (folder / f"steps/{FIRST}-uses.1.log").read_text()
    assert log.count("[masked]") >= 5, log
    assert "edited [masked]" in (folder / f"steps/{FIRST + 1}-breaks.2.log").read_text()
    assert "[masked]" in (folder / "console.log").read_text()
    vm = lab_store.vm(json.loads((folder / "plan.json").read_text())["vm"]["uuid"])
    own = {vm / "disk.qcow2", vm / "console.log"}  # QEMU's: what the guest has and says, as it is, 0600
    places = {
        str(file): file.read_bytes()
        for file in lab_store.root.rglob("*")
        if file.is_file() and file not in own
    }
    places |= {f"output {number}": text.encode() for number, text in enumerate(said)}
    places |= {f"arguments {words!r}": words for words in arguments}
    assert any("seed.iso" in place for place in places)
    assert [place for place, raw in places.items() if any(form in raw for form in forms)] == []
    assert (await vmlab(lab_store, "runs", "end", run, "--yes")).status == 0
