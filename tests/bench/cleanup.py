"""100 leftover VMs: found, proved and moved to the trash, brought back, emptied; beside a shell loop.

The loop (virsh undefine and rm for each name) is there for information: it proves nothing, and has no way
back. Each VM is off, with an overlay on an image, a seed and an internal snapshot.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure, show
from tests.support.lab import new_store
from tests.support.leftovers import URI
from tests.support.zoo import Zoo, virsh
from vmlab_tui.base.paths import Store

_COUNTED = """
import json, os, sys
count = 0
def counted(real):
    def call(*args):
        global count
        count += 1
        return real(*args)
    return call
os.fsync, os.fdatasync = counted(os.fsync), counted(os.fdatasync)
from vmlab_tui.cli.app import run
try:
    run(sys.argv[1:])
finally:
    print(f"fsyncs {count}", file=sys.stderr)
"""
_LOOP = """
for vm in $(virsh list --all --name | grep '^left-by-the-bench-'); do
    disk=$(virsh domblklist "$vm" --details | awk '$3 == "vda" {print $4}')
    virsh -q undefine "$vm" --snapshots-metadata >/dev/null
    rm -r "$(dirname "$disk")"
done
"""


def vmlab(*words: str) -> tuple[float, int, dict[str, object]]:
    """Wall seconds, fsyncs, the document."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _COUNTED, *words, "--json"], capture_output=True, text=True, check=False
    )
    took = time.monotonic() - started
    if done.returncode:
        sys.exit(f"vmlab {' '.join(words)}: {done.returncode}\n{done.stderr[-2000:]}")
    return took, int(done.stderr.rsplit("fsyncs ", 1)[1]), json.loads(done.stdout)


def leftovers(zoo: Zoo, count: int) -> None:
    image = zoo.store.images / "base-0123456789ab.qcow2"
    if not image.exists():
        image = zoo.image("base")
    for _ in range(count):
        ident = zoo.vm("left-by-the-bench", "never-was", disk=image)
        (zoo.store.vms / ident / "seed.iso").write_bytes(bytes(400_000))
        virsh("snapshot-create-as", ident, "clean-boot")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--vms", type=int, default=100)
    chosen = options.parse_args()
    outside = Path(tempfile.mkdtemp(prefix="vmlab-bench-", dir="/var/tmp"))
    outside.chmod(0o755)
    store: Store = new_store()
    os.environ |= {"VMLAB_STORE": str(store.root), "LIBVIRT_DEFAULT_URI": URI, "VMLAB_CONFIG": str(outside)}
    zoo = Zoo(store, outside)
    times: dict[str, list[float]] = {}
    try:
        for _ in range(chosen.rounds):
            leftovers(zoo, chosen.vms)
            started = time.monotonic()
            subprocess.run(["sh", "-ec", _LOOP], check=True)
            times.setdefault("loop", []).append(time.monotonic() - started)
            leftovers(zoo, chosen.vms)
            for name, words in (
                ("look", ("clean",)),
                ("clean", ("clean", "--yes", "--no-limit")),
                ("undo", ("undo",)),
                ("again", ("clean", "--yes", "--no-limit")),
                ("empty", ("trash", "empty", "--yes", "--no-limit")),
            ):
                took, syncs, _ = vmlab(*words)
                times.setdefault(name, []).append(took)
                times.setdefault(f"{name} fsyncs", []).append(syncs)
    finally:
        zoo.close()
        shutil.rmtree(store.root)
        shutil.rmtree(outside)

    def figure(name: str, key: str, unit: str = "s", by: float = 1.0, beside: str = "") -> Figure:
        return Figure(name, tuple(one / by for one in times[key]), unit, beside=beside)

    count = float(chosen.vms)
    loop = f"shell loop {times['loop'][0]:.2f} s, {1000 * times['loop'][0] / count:.0f} ms each"
    figures = [
        figure("look and prove (dry run)", "look"),
        figure("clean", "clean", beside=loop),
        figure("clean, each VM", "clean", "ms", count / 1000),
        figure("clean, fsyncs for each VM", "clean fsyncs", "", count),
        figure("undo", "undo"),
        figure("undo, each VM", "undo", "ms", count / 1000),
        figure("empty the trash", "empty"),
        figure("empty, each VM", "empty", "ms", count / 1000),
    ]
    load = os.getloadavg()[0]
    return show("cleanup", f"{chosen.vms} VMs, load {load:.1f}", figures, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
