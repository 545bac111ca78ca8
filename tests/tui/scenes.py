"""The scenes of the pictures: what is there before the app starts, and what is done in it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot

from tests.tui import clean_samples
from tests.tui.conftest import opened_run, until
from tests.tui.run_samples import MadeRun
from tests.tui.snapshots import sees
from tests.tui.world import CREATED, World
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.picture import Picture, png
from vmlab_tui.hosts.host import Host
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.dispatch import perform
from vmlab_tui.tui.screens.newrun import NewRunScreen
from vmlab_tui.tui.widgets.rows import Rows
from vmlab_tui.verbs.verb import Args, Context, Outcome, Verb

Do = Callable[[World, LabApp, Pilot[None]], Awaitable[None]]


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
