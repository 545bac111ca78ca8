"""`vmlab diagnose` on a run, on its VM, on what is left when both are gone, and on a VM that is not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.runs.command import only_run, vmlab
from tests.verbs.test_vm_guest import stranger  # noqa: F401  a fixture
from vmlab_tui.base.paths import Store

pytestmark = pytest.mark.guest

SECRET = "s3cr3t-0f-the-run"
PROFILE = """\
schema: 1
name: diagnosed
image: {image}
vm: {{cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}}
secret: [TOKEN]
on_fail: keep
steps:
  - {{name: says, run: "echo token $TOKEN >/dev/ttyS0; echo working; exit 7"}}
"""


async def test_a_plain_failure_accuses_nobody_and_what_was_seen_is_kept(
    lab_store: Store, tiny_image: str, tmp_path: Path
) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE.format(image=tiny_image))
    failed = await vmlab(lab_store, "run", path, "--env", "TOKEN", TOKEN=SECRET)
    assert failed.status == 1, failed.err
    run = only_run(lab_store)
    console = next(lab_store.vms.iterdir()) / "console.log"
    assert SECRET in console.read_text(), "the guest has said it where nobody masks"

    told = await vmlab(lab_store, "diagnose", "last", TOKEN=SECRET)
    assert told.status == 0, told.err
    assert told.out.startswith("no cause found: step 10 'says' exited with 7")
    assert "looked by SSH" in told.out
    (bundle,) = run.glob("diagnosis-*")
    assert str(bundle) in told.out
    assert bundle.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in bundle.iterdir()} == {0o600}
    kept = {file.name: file.read_bytes() for file in bundle.iterdir()}
    assert {"diagnosis.txt", "diagnosis.json", "console.txt", "step.txt", "df.txt", "dmesg.txt"} <= set(kept)
    assert b"[masked]" in kept["console.txt"]
    assert not [name for name, raw in kept.items() if SECRET.encode() in raw]

    found = (await vmlab(lab_store, "diagnose", run.name, "--json", TOKEN=SECRET)).data
    assert (found["cause"], found["way"], found["run"], found["exit_status"]) == (None, "ssh", run.name, 7)
    assert found["seconds"] < 10

    # its VM is taken away behind its back
    name = found["vm"]
    virsh = ["virsh", "-q", "-c", "qemu:///system"]
    subprocess.run([*virsh, "destroy", name], check=True, capture_output=True)
    off = (await vmlab(lab_store, "diagnose", run.name, "--json")).data
    assert off["cause"] is None, "the step had ended by itself"
    assert [one["fault"] for one in off["also"]] == ["vm-off"]
    assert (await vmlab(lab_store, "runs", "end", run.name)).status == 0
    gone = (await vmlab(lab_store, "diagnose", run.name, "--json")).data
    assert (gone["cause"], gone["also"], gone["power"]) == (None, [], None)
    assert len(list(run.glob("diagnosis-*"))) == 4


async def test_a_foreign_vm_is_looked_at_from_outside(
    lab_store: Store,
    stranger: tuple[str, str],  # noqa: F811
) -> None:
    name, _ = stranger
    found = (await vmlab(lab_store, "diagnose", name, "--json")).data
    assert (found["cause"]["fault"], found["way"], found["folder"]) == ("vm-off", "host", None)
    nobody = await vmlab(lab_store, "diagnose", "nobody")
    assert nobody.status == 2
    assert "no run and no VM of ours is called 'nobody'" in nobody.err
