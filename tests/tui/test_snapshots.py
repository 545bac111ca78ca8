"""Every screen as a picture, at 80x24 and at 120x40."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.lab.disks import qcow2
from tests.runs import samples
from tests.tui import clean_samples, run_samples, snapshots
from tests.tui.conftest import opened, opened_run, until
from tests.tui.run_samples import MadeRun
from tests.tui.snapshots import COMMAND, GOLDEN, UPDATING, compare, picture, sees
from tests.tui.test_images import put
from vmlab_tui.base import commands
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.base.picture import Picture, png
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.leases import Lease, PortLease, write_lease
from vmlab_tui.runs.plan import Plan
from vmlab_tui.spec.recipe import load_recipe, recipe_hash
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.dispatch import perform
from vmlab_tui.tui.screens.newrun import NewRunScreen
from vmlab_tui.tui.widgets.rows import Rows
from vmlab_tui.verbs.verb import Args, Context, Outcome, Verb

pytestmark = pytest.mark.skipif(
    not (GOLDEN.exists() or UPDATING), reason=f"no golden pictures are kept yet; this makes them: {COMMAND}"
)

SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
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

Do = Callable[["World", LabApp, Pilot[None]], Awaitable[None]]


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


@pytest.fixture
def world(lab_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with snapshots.still(monkeypatch) as root:
        monkeypatch.setenv("VMLAB_STORE", str(root / "store"))
        monkeypatch.setenv("VMLAB_CONFIG", str(root / "config"))
        monkeypatch.delenv("VMLAB_THEME", raising=False)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(commands, "recent", lambda: [])
        made = World(root, monkeypatch)
        made.host()
        yield made


# -- the scenes: what is there before the app starts, and what is done in it -------------------------


async def lab(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await sees(app, pilot, "before-the-fix", "router")
    rows = app.screen.query_one(Rows)
    rows.move_to(next(row.key for row in rows.rows if "shop" in row.cells[0].text))


async def lab_details(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await lab(world, app, pilot)
    await pilot.press("enter")
    await sees(app, pilot, "22080")


async def lab_filter(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await lab(world, app, pilot)
    await pilot.press("slash", *"owner:foreign")
    await until(pilot, lambda: len(app.screen.query_one(Rows).rows) < 5)


async def first_start(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await sees(app, pilot, "There is no image")


async def first_run(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await sees(app, pilot, "There is an image and no run", "stale")


async def runs(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await pilot.press("2")
    await sees(app, pilot, "running", "interrupted", "failed", "passed")


async def the_run(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    assert app.hub.runs
    await opened_run(pilot, app.hub.runs[0].run_id)
    await sees(app, pilot, "install desktop")
    if app.hub.runs[0].status == "failed":
        await sees(app, pilot, "no package xrdp", "login")
    await asyncio.sleep(0.6)  # the log comes from a thread of its own


async def pick(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await pilot.press("n")
    await sees(app, pilot, "shop", "quickstart")
    await pilot.press(*"sho")
    await sees(app, pilot, "API_TOKEN, PLACE")


async def settings(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await pick(world, app, pilot)
    await pilot.press("enter")
    await sees(app, pilot, "[2 settings]")


async def settings_error(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await settings(world, app, pilot)
    await pilot.press("ctrl+s")
    await sees(app, pilot, "is needed")


async def plan(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    """Its findings are told by hand: those of a real host would be this machine's."""
    found = [
        ("ok", "libvirt", "9.0.0 answers", ""),
        ("warn", "acceleration", "this host has no KVM: TCG is 5 to 20 times slower", "turn on KVM"),
        ("refuse", "memory", "needs 1.0G, 412M are free", "end a VM, or --set vm.memory=256MiB"),
    ]
    names = ("level", "what", "detail", "fix")
    data: Any = {"build": None, "findings": [dict(zip(names, one, strict=True)) for one in found]}
    lines = ("Run shop on debian-12", "", "  01  claim      take name and ports", "  02  disk", "preflight")

    async def told(screen: NewRunScreen, args: Args) -> Outcome:
        return Outcome(data, lines, 2)

    world.patch.setattr(NewRunScreen, "_verb", told)
    await settings(world, app, pilot)
    await pilot.press("ctrl+s", *"abc", "ctrl+s", *"here", "ctrl+s")
    await sees(app, pilot, "REFUSED")


async def images(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await pilot.press("3")
    await sees(app, pilot, "as recipe", " changed ", "BROKEN")


async def images_details(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await images(world, app, pilot)
    rows = app.screen.query_one("#images", Rows)
    rows.move_to(next(row.key for row in rows.rows if "debian-12" in row.cells[0].text))
    await pilot.press("enter")
    await sees(app, pilot, "enter goes there")


async def clean(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await pilot.press("4")
    await sees(app, pilot, "half-built", "in trash", "stale")


async def clean_marks(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await clean(world, app, pilot)
    await pilot.press("space", "down", "space", "down")
    await sees(app, pilot, "2 marked")


async def clean_proof(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await clean(world, app, pilot)
    rows = app.screen.query_one("#things", Rows)
    rows.move_to(next(row.key for row in rows.rows if "shop-41ab" in row.cells[0].text))
    await pilot.press("enter")
    await sees(app, pilot, "searched")


async def clean_confirm(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await clean(world, app, pilot)
    await pilot.press("C")
    await sees(app, pilot, "come back once")


async def clean_trash(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await clean(world, app, pilot)
    rows = app.screen.query_one("#things", Rows)
    rows.move_to(next(row.key for row in rows.rows if "builder-77aa" in row.cells[0].text))
    await pilot.press("enter")
    await sees(app, pilot, "once it is emptied")


class Building(Verb):
    """An image build, as far as people see it; it waits until it is cancelled."""

    id = "building"
    words = ("building",)
    help = "Build"
    long = True

    async def run(self, ctx: Context, args: Args) -> Outcome:
        ctx.front.phase("packages", "mmdebstrap, bookworm")
        ctx.front.phase("disk", "ext4 on a disk of 2.0G")
        ctx.front.output("I: installing packages\n\x1b[32mdone\x1b[0m")
        ctx.front.status("build debian-12: disk")
        await asyncio.Event().wait()
        return Outcome()


async def activity(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    class Still:
        @staticmethod
        def monotonic() -> float:
            return 100.0

    world.patch.setattr("vmlab_tui.tui.front.time", Still)
    app.run_worker(perform(app, Building(), (), {}), exit_on_error=False)
    await sees(app, pilot, ">>  disk", "installing packages")
    assert app.last_activity
    app.last_activity.begun = 59.0
    first, second = app.last_activity.phases
    first.begun, first.ended, second.begun = 59.0, 80.0, 80.0
    await sees(app, pilot, "41 s", "21.0s", "20.0s")


async def palette(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await lab(world, app, pilot)
    await pilot.press("colon", *"snap")
    await until(pilot, lambda: app.screen.has_class("-ready"))
    await sees(app, pilot, "snapshot create")
    await asyncio.sleep(1)


def text_mode(rows: int) -> Picture:
    """Something like a console: a bar in blue, lines of light words, a red one."""
    dark, light, red, blue = (bytes(one) for one in ((0, 0, 0), (170, 170, 170), (255, 85, 85), (0, 0, 170)))
    lines = [blue * 720]
    for row in range(1, 25):
        colour = red if row == rows - 1 else light if row < rows else dark
        words = (3 + (row * 7) % 9, 2, 12 + (row * 5) % 30, 2, 6 + row % 11)
        parts = [(colour if at % 2 == 0 else dark) * 9 * wide for at, wide in enumerate(words)]
        lines.append(b"".join(parts)[: 3 * 720].ljust(3 * 720, b"\0"))
    thin = [dark * 720] * 6
    return Picture(720, 400, b"".join(b"".join([line] * 10 + thin) for line in lines))


def with_screen(world: World) -> None:
    world.lab()

    async def screenshot(host: Host, uuid: str, *, timeout: float = 10) -> Picture:
        return text_mode(18)

    world.patch.setattr(Host, "screenshot", screenshot)
    world.patch.setattr("vmlab_tui.tui.screens.display._LATE", 1e9)


def with_film(world: World) -> MadeRun:
    run = world.failed()
    (run.folder / "screens").mkdir()
    for at, rows in enumerate((2, 9, 24)):
        path = run.folder / f"screens/20260102-1313{46 + 5 * at}-250.png"
        path.write_bytes(png(text_mode(rows)))
    return run


async def display(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await lab(world, app, pilot)
    await pilot.press("V")
    await sees(app, pilot, "720x400", "live", "save")


async def display_boot(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await the_run(world, app, pilot)
    await pilot.press("V")
    await sees(app, pilot, "boot picture 3 of 3")
    await pilot.press("left")
    await sees(app, pilot, "boot picture 2 of 3")


async def display_none(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await lab(world, app, pilot)
    rows = app.screen.query_one(Rows)
    rows.move_to(next(row.key for row in rows.rows if "データ" in row.cells[0].text))
    await pilot.press("V")
    await sees(app, pilot, "is off", "vmlab start")


async def keys(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await lab(world, app, pilot)
    await pilot.press("question_mark")
    await sees(app, pilot, "Keys that work here")


async def real_commands(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await pilot.press("at")
    await sees(app, pilot, "qemu-img create", "define")


async def confirm(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    clean_samples.alone(world.patch, os.environ["LIBVIRT_DEFAULT_URI"])
    await lab(world, app, pilot)
    await pilot.press("D")
    await sees(app, pilot, "vmlab undo brings it back")


async def error(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    failed = LabError("image debian-12 is used by 2 VMs: shop-7f3a, router", hint="destroy the VMs first")
    app.show_error(failed.message, failed.hint)
    await sees(app, pilot, "What to do:")


async def form_error(world: World, app: LabApp, pilot: Pilot[None]) -> None:
    await pilot.press("3", "a")
    await sees(app, pilot, "Go on")
    await pilot.press("ctrl+s")
    await sees(app, pilot, "is needed")


def with_commands(world: World) -> None:
    run = world.passed()
    lines = [
        {
            "schema": 1,
            "time": CREATED.format("12:00"),
            "command": command,
            "outcome": outcome,
            "seconds": 0.25,
        }
        for command, outcome in (
            ("qemu-img create -f qcow2 -b /images/debian-12.qcow2 disk.qcow2", "ok"),
            ("virsh -c qemu:///system define domain.xml", "failed"),
        )
    ]
    (run.folder / "commands.log").write_text("".join(json.dumps(line) + "\n" for line in lines))


SCENES: dict[str, tuple[Callable[[World], object], Do]] = {
    "lab": (World.lab, lab),
    "lab-details": (World.lab, lab_details),
    "lab-filter": (World.lab, lab_filter),
    "first-start": (lambda _: None, first_start),
    "first-run": (World.images, first_run),
    "runs": (World.runs, runs),
    "run-failed": (World.failed, the_run),
    "run-passed": (World.passed, the_run),
    "run-live": (World.live, the_run),
    "new-run-pick": (World.profiles, pick),
    "new-run-settings": (World.profiles, settings),
    "new-run-settings-error": (World.profiles, settings_error),
    "new-run-plan": (World.profiles, plan),
    "display": (with_screen, display),
    "display-boot": (with_film, display_boot),
    "display-none": (World.lab, display_none),
    "images": (World.lab, images),
    "images-details": (World.lab, images_details),
    "clean": (World.unprovable, clean),
    "clean-marks": (World.garbage, clean_marks),
    "clean-proof": (World.garbage, clean_proof),
    "clean-confirm": (World.garbage, clean_confirm),
    "clean-trash": (World.garbage, clean_trash),
    "activity": (lambda _: None, activity),
    "palette": (World.lab, palette),
    "keys": (World.lab, keys),
    "commands": (with_commands, real_commands),
    "confirm": (World.lab, confirm),
    "error": (World.lab, error),
    "form-error": (World.images, form_error),
}


async def shown(world: World, scene: str, size: tuple[int, int], theme: str = "") -> str:
    """The picture of a scene."""
    make, act = SCENES[scene]
    made = make(world)
    try:
        async with opened(size) as (app, pilot):
            if theme:
                app.set_theme(theme)
            await act(world, app, pilot)
            return await picture(app, pilot)
    finally:
        if isinstance(made, MadeRun):
            made.die()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scene", SCENES)
async def test_a_screen(world: World, scene: str, size: str, tmp_path: Path) -> None:
    compare(await shown(world, scene, SIZES[size]), f"{scene}-{size}", tmp_path)


@pytest.mark.parametrize("theme", ["light", "ansi"])  # dark is that of all the others
async def test_a_failed_run_in_a_theme(world: World, theme: str, tmp_path: Path) -> None:
    compare(await shown(world, "run-failed", (120, 40), theme), f"run-failed-{theme}", tmp_path)


async def test_a_failed_run_without_colours(world: World, tmp_path: Path) -> None:
    world.patch.setenv("NO_COLOR", "1")
    compare(await shown(world, "run-failed", (120, 40)), "run-failed-no-color", tmp_path)


async def test_the_screen_of_a_vm_without_colours(world: World, tmp_path: Path) -> None:
    world.patch.setenv("NO_COLOR", "1")
    compare(await shown(world, "display", (120, 40)), "display-no-color", tmp_path)


def test_no_picture_is_left_of_a_scene_that_is_gone() -> None:
    known = {f"{scene}-{size}.svg" for scene in SCENES for size in SIZES}
    known |= {f"run-failed-{kind}.svg" for kind in ("light", "ansi", "no-color")}
    known.add("display-no-color.svg")
    left = [path for path in GOLDEN.iterdir() if path.name not in known]
    if UPDATING:
        for path in left:
            path.unlink()
        left = []
    assert not left, f"these belong to no scene: {left}; this takes them away:\n  {COMMAND}"
