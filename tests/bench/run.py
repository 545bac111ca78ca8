"""A cold run of the quickstart profile against the same pipeline as a plain shell script.

vmlab's own seconds are the wall time of ``vmlab run quickstart``, interpreter start included, less the waits
that its journal records: libvirt, qemu-img, boot, SSH, cloud-init, transfer, commands.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure, condition, show
from tests.support import lab as support
from tests.support.bench import debian_store
from vmlab_tui.base.paths import shipped
from vmlab_tui.images.store import get_image, image_file
from vmlab_tui.lab.context import open_lab
from vmlab_tui.lab.ports import release, reserve
from vmlab_tui.spec.profile import RunStep, load_profile

HERE = Path(__file__).parent


def vmlab_run() -> tuple[float, dict[str, float]]:
    """Wall seconds of one run, and its journaled waits in seconds by what was waited for."""
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "vmlab_tui", "run", "quickstart", "--cold", "--on-fail", "destroy", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    wall = time.monotonic() - started
    if ended.returncode:
        sys.exit(f"the run failed with {ended.returncode}:\n{ended.stderr[-2000:]}")
    waited: dict[str, float] = {}
    for line in ended.stdout.splitlines():
        event = json.loads(line)
        if event["kind"] == "waited":
            data = event["data"]
            waited[data["on"]] = waited.get(data["on"], 0.0) + data["seconds"]
    return wall, waited


def script_run() -> float:
    """Wall seconds of one round of the shell script."""
    lab = open_lab()
    image = get_image(lab.store, "debian-12")
    step = next(one for one in load_profile("quickstart").profile.steps if isinstance(one, RunStep))
    port = reserve(lab.store, "bench", {"ssh": 22})[0].host_port
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vmlab-bench-") as folder:
        Path(folder).chmod(0o755)
        script = Path(folder, "step.sh")
        script.write_text(f"export GREETING=hello\n{step.script}")
        words = [
            HERE / "pipeline.sh",
            image_file(lab.store, image),
            image.format,
            shipped() / "quickstart/site",
        ]
        started = time.monotonic()
        try:
            subprocess.run([*words, script, Path(folder, "work"), str(port)], check=True, timeout=900)
        finally:
            release(lab.store, "bench")
        return time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench run", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (default 3)")
    options = parser.parse_args()
    own, walls, scripts = [], [], []
    waits: dict[str, list[float]] = {}
    with debian_store() as store:
        os.environ["VMLAB_STORE"], os.environ["LIBVIRT_DEFAULT_URI"] = str(store.root), support.URI
        for _ in range(options.rounds):
            wall, waited = vmlab_run()
            walls.append(wall)
            own.append(wall - sum(waited.values()))
            for on, seconds in waited.items():
                waits.setdefault(on, []).append(seconds)
            scripts.append(script_run())
    figures = [
        Figure("vmlab's own seconds (wall less waits)", tuple(own), "s", goal=1.0),
        Figure("vmlab run quickstart, wall", tuple(walls), "s"),
        Figure(
            "the same as a shell script, wall", tuple(scripts), "s", beside="alternating with vmlab's rounds"
        ),
        *(Figure(f"  vmlab waited for {on}", tuple(values), "s") for on, values in sorted(waits.items())),
    ]
    return show("run", condition(), figures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
