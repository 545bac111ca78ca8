"""What is there before the app of a picture starts: a host, images, VMs, runs, garbage."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.disks import qcow2
from tests.runs import samples
from tests.tui import clean_samples, run_samples, snapshots
from tests.tui.run_samples import MadeRun
from tests.tui.test_images import put
from vmlab_tui.base.paths import Store
from vmlab_tui.lab.leases import Lease, PortLease, write_lease
from vmlab_tui.runs.plan import Plan
from vmlab_tui.spec.recipe import load_recipe, recipe_hash

OWN, KEPT, FOREIGN = (f"0b0b0b0b-1111-4222-8333-{number:012}" for number in range(3))
CREATED = "2026-01-02T{}:00+00:00"

PROFILE = """\
schema: 1
name: shop
description: A small shop behind its own web server
image: debian-12
vm: {cpus: 2, memory: 1GiB, disk: 8GiB, accel: tcg}
env: {GREETING: hello}
required: [API_TOKEN, PLACE]
ports: {web: 80}
steps:
  - {name: web server, run: 'echo "$GREETING"'}
checks:
  - {port: 80, component: web}
"""


@dataclass
class World:
    """What a scene is made of."""

    root: Path
    patch: pytest.MonkeyPatch

    @property
    def store(self) -> Store:
        return Store(self.root / "store")

    # -- the lab ---------------------------------------------------------------------------------

    def host(self, *domains: str) -> None:
        """libvirt's test driver with these."""
        path = self.root / "node.xml"
        path.write_text(f"<node><cpu><mhz>1</mhz></cpu>{''.join(domains)}</node>")
        self.patch.setenv("LIBVIRT_DEFAULT_URI", f"test://{path}")

    def images(self) -> None:
        for name in ("images", "vms", "runs", "trash", "keys"):
            (self.store.root / name).mkdir(parents=True, exist_ok=True)
        recipe = load_recipe("debian-12")
        more = {"created": CREATED.format("10:00"), "disk_size": 900 << 20, "virtual_size": 2 << 30}
        put(
            self.store,
            "debian-12",
            recipe="debian-12",
            recipe_hash=recipe_hash(recipe),
            proven=True,
            user="lab",
            **more,
        )
        put(self.store, "stale", recipe="debian-12", recipe_hash="0" * 64, **more)
        put(self.store, "imported", **more)
        (self.store.images / "bad.json").write_text("{")

    def lab(self) -> None:
        """Images, VMs of ours with snapshots, one that is paused, foreign ones."""
        self.images()
        image = next(self.store.images.glob("debian-12*.qcow2"))
        for uuid, name, more in (
            (OWN, "shop-7f3a", {"expires": CREATED.format("18:20")}),
            (KEPT, "warehouse-with-a-long-name-19ac", {"keep": True}),
        ):
            (self.store.vms / uuid).mkdir()
            qcow2(self.store.vms / uuid / "disk.qcow2", str(image))
            lease = {
                "uuid": uuid,
                "name": name,
                "run_id": f"{name}-20260102",
                "profile": "shop",
                "image": "debian-12",
                "owner": "me@here",
                "created": CREATED.format("11:14"),
                "ports": (
                    PortLease(name="ssh", host_port=22022, guest_port=22),
                    PortLease(name="web", host_port=22080, guest_port=80),
                ),
            }
            write_lease(self.store, Lease.model_validate({**lease, **more}))
        disk = self.store.vms / OWN / "disk.qcow2"
        self.host(
            domain(OWN, "shop-7f3a", disk, snapshots=("ready", "before-the-fix")),
            domain(KEPT, "warehouse-with-a-long-name-19ac", self.store.vms / KEPT / "disk.qcow2", state=3),
            domain(FOREIGN, "router"),
            domain(FOREIGN.replace("0b0b", "0c0c"), "データベース", state=5),
        )

    def garbage(self) -> None:
        """A lab that nobody has cleaned up for days."""
        self.images()
        (self.store.images / "bad.json").unlink()
        image = next(self.store.images.glob("debian-12*.qcow2"))
        self.host(*clean_samples.put_garbage(self.store, image))
        clean_samples.alone(self.patch, os.environ["LIBVIRT_DEFAULT_URI"])

    def unprovable(self) -> None:
        """The same, where something cannot be read."""
        self.garbage()
        (self.store.images / "bad.json").write_text("{")

    # -- runs ------------------------------------------------------------------------------------

    def run(self, name: str = "sample-20260102-120000-7f3a", at: str = "12:00", **more: Any) -> MadeRun:
        def plan(store: Path, **fields: Any) -> Plan:
            return samples.plan(store, **fields).model_copy(
                update={"run_id": name, "created": CREATED.format(at)}
            )

        self.patch.setattr(run_samples, "plan", plan)
        return MadeRun(self.store.root, **more)

    def passed(self, *given: str) -> MadeRun:
        run = self.run(*given)
        (run.folder / "console.log").write_bytes(b"boot\r\nlogin:\r\n")
        run.steps(1, 9)
        for number, said in ((10, b"Setting up desktop\n\x1b[32mdone\x1b[0m\n"), (11, b"xrdp is there\n")):
            run.begin(number, log=said)
            run.finish(number)
        run.check("service xrdp")
        run.check("command true")
        run.steps(12, len(run.plan.steps))
        run.end()
        return run

    def failed(self, *given: str) -> MadeRun:
        run = self.run(*given)
        run.failed()
        colours = b"\x1b[1mReading package lists\x1b[0m\n\x1b[33mW: old index\x1b[0m\n"
        run.log(10).write_bytes(colours + b"+ apt-get install xrdp\n\x1b[31mE: no package xrdp\x1b[0m\n")
        return run

    def live(self, *given: str) -> MadeRun:
        run = self.run(*given)
        run.steps(1, 9)
        run.begin(10, log=b"+ apt-get install desktop\nGet:1 desktop 12.1 MB\n")
        return run

    def runs(self) -> MadeRun:
        """One of each kind; the live one."""
        self.passed("sample-20260102-091400-0001", "09:14")
        self.failed("sample-20260102-101400-0002", "10:14")
        broken = self.live("sample-20260102-111400-0003", "11:14")
        broken.die()
        self.passed("a-profile-whose-name-is-very-long-indeed-20260101-101400-0004", "08:14")
        return self.live("sample-20260102-131345-0005", "13:13")

    def profiles(self) -> None:
        work = self.root / "work"
        (work / "profiles").mkdir(parents=True)
        (work / "profiles/shop.yaml").write_text(PROFILE)
        (work / "profiles/bad.yaml").write_text("schema: 1\nname: bad\nimage: tiny\nstepz: []\n")
        for name in ("API_TOKEN", "PLACE", "GREETING", "CI"):
            self.patch.delenv(name, raising=False)
        self.patch.chdir(work)


def domain(uuid: str, name: str, disk: Path | None = None, state: int = 1, snapshots: Any = ()) -> str:
    """``state`` as libvirt counts them: 1 on, 3 paused, 5 off."""
    shots = "".join(
        f"<test:domainsnapshot><name>{shot}</name><description>all well</description><state>running</state>"
        f"<creationTime>{int(snapshots_epoch) + 600 * at}</creationTime>"
        + (f"<parent><name>{snapshots[at - 1]}</name></parent>" if at else "")
        + f"<memory snapshot='internal'/><active>{int(at == len(snapshots) - 1)}</active>"
        "</test:domainsnapshot>"
        for at, shot in enumerate(snapshots)
    )
    device = (
        f"<devices><disk type='file'><driver type='qcow2'/><source file='{disk}'/>"
        "<target dev='vda'/></disk></devices>"
        if disk
        else ""
    )
    mark = (
        f"<metadata><m:mark xmlns:m='urn:vmlab:mark:1' version='0' run='{name}-20260102' "
        f"store='{disk.parents[2]}'/></metadata>"
        if disk
        else ""
    )
    return (
        "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"
        f"<name>{name}</name><uuid>{uuid}</uuid>{mark}<memory unit='MiB'>1024</memory><vcpu>2</vcpu>"
        f"<os><type>hvm</type></os>{device}<test:runstate>{state}</test:runstate>{shots}</domain>"
    )


snapshots_epoch = snapshots.NOW.timestamp() - 7200
