"""`ssh --here` on a real guest: a live run that is paused, then its VM alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.command import vmlab
from tests.verbs.test_vm_guest import ok, until
from vmlab_tui.base.paths import Store

pytestmark = pytest.mark.guest

PROFILE = """\
schema: 1
name: here
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
env: {{GREETING: hello}}
required: [TOKEN]
secret: [TOKEN]
on_fail: pause
steps:
  - name: breaks
    user: lab
    run: |
      cd /usr/bin
      export FOO="it's $GREETING"
      ls /nowhere
"""
ASK = 'pwd; id -un; echo "$FOO [$TOKEN]"'


async def test_a_shell_where_the_step_failed(lab_store: Store, tiny_image: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE.format(image=tiny_image))
    secret = "s3'cret-value"
    started = await vmlab(lab_store, "run", path, "--env", "TOKEN", "--detach", "--json", TOKEN=secret)
    run = str(started.data["run"])
    await until(lab_store, run, '"kind":"paused"')
    said = await ok(lab_store, "ssh", run, "--here", "--", ASK)
    assert said.out == f"/usr/bin\nlab\nit's hello [{secret}]\n"
    assert (await vmlab(lab_store, "ssh", "--here", run, "--", "exit", "5")).status != 0
    left = await ok(lab_store, "ssh", run, "--", "sudo", "ls", "-A", "/run/vmlab")
    assert left.out == ""
    notes = [note["text"] for note in (await ok(lab_store, "runs", "show", run, "--json")).data["notes"]]
    assert sum("lent to a shell" in note for note in notes) == 2
    for file in lab_store.run(run).rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file

    await ok(lab_store, "runs", "end", run, "--keep")
    await until(lab_store, run, '"kind":"ended"')
    said = await ok(lab_store, "ssh", run, "--here", "--", ASK)
    assert said.out == "/usr/bin\nlab\nit's hello []\n"
    assert said.err.splitlines()[-1] == "missing: TOKEN (secrets, which are stored nowhere)"
    await ok(lab_store, "runs", "end", run)
