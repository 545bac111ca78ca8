"""The pictures of the README: presses the keys a person would press. Run by script/screenshots, see there."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from textual.geometry import Size
from textual.pilot import Pilot

from tests.support.lab import put_image
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.host import Host
from vmlab_tui.images.store import Image, open_store
from vmlab_tui.tui.app import LabApp

URI = "qemu:///system"
WIDE, NARROW = (120, 40), (80, 24)

PROFILE = """\
schema: 1
name: shop
description: A small shop behind its own web server
image: debian-12
vm: {cpus: 2, memory: 1GiB, disk: 8GiB, accel: tcg}
ports: {web: 80}
steps:
  - copy: {from: ./shop, to: /srv/shop}
  - name: products
    component: data
    run: python3 /srv/shop/load.py
  - name: web server
    component: web
    run: |
      install -m 644 /srv/shop/shop.service /etc/systemd/system/
      systemctl daemon-reload
      systemctl enable --now shop
      curl -fsS --retry 2 --retry-connrefused --retry-delay 1 http://localhost/ || {
        journalctl -u shop --no-pager -o cat -n 12
        exit 1
      }
    timeout: 2m
checks:
  - {service: shop, component: web}
  - {port: 80, component: web, within: 30s}
on_fail: pause
"""
SERVICE = """\
[Unit]
Description=The shop

[Service]
User=lab
ExecStart=/usr/bin/python3 -m http.server 80 --directory /srv/shop/pages

[Install]
WantedBy=multi-user.target
"""
LOAD = """\
import sqlite3
shop = sqlite3.connect("/srv/shop/shop.db")
shop.execute("create table if not exists products (name, price)")
for name, price in [("tea", 4), ("coffee", 7), ("cocoa", 5)]:
    shop.execute("insert into products values (?, ?)", (name, price))
    print(f"loaded {name}")
shop.commit()
print("3 products")
"""
FOREIGN = """\
<domain type='qemu'><name>router</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os></domain>
"""
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.S)


class Shooting:
    """One session of the program, from its first start on; pictures go to ``folder``."""

    def __init__(self, app: LabApp, pilot: Pilot[None], folder: Path) -> None:
        self.app, self.pilot, self.folder = app, pilot, folder
        self.begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"screenshots: {time.monotonic() - self.begun:5.1f} s  {text}", file=sys.stderr, flush=True)

    def text(self) -> str:
        """What is on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def until(self, there: Callable[[], object], told: str, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not there():
            if time.monotonic() > limit:
                raise TimeoutError(f"no {told} within {seconds:.0f} s; on the screen:\n{self.text()}")
            await asyncio.sleep(0.05)
        await self.pilot.pause()

    async def sees(self, wanted: str, seconds: float = 20) -> None:
        await self.until(lambda: wanted in self.text(), repr(wanted), seconds)

    async def press(self, *keys: str, sees: str = "", seconds: float = 20) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()
        if sees:
            await self.sees(sees, seconds)

    async def type(self, text: str, *, sees: str = "") -> None:
        await self.press(*text, sees=sees)

    async def size(self, size: tuple[int, int]) -> None:
        await self.pilot.resize_terminal(*size)
        await self.until(lambda: self.app.size == Size(*size), f"size {size}", 10)
        await asyncio.sleep(0.5)

    async def shoot(self, name: str) -> None:
        """Save what is on the screen, without the fonts that a viewer would fetch."""
        await asyncio.sleep(0.4)  # what comes from another thread, such as the end of a log
        await self.pilot.pause()
        svg = _FONTS.sub("", self.app.export_screenshot(title="vmlab"))
        if "url(http" in svg or 'url("' in svg:
            raise RuntimeError(f"{name}.svg fetches something")
        (self.folder / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")
        self.say(f"{name}.svg")


async def first_start(shooting: Shooting, store: Store, image: Path) -> None:
    """The empty lab; then the image is there, as after the build that it offers."""
    await shooting.sees("There is no image")
    await shooting.sees(f"{URI} ok")
    await shooting.shoot("first-start")
    async with Host.open(URI) as host:
        facts = await host.facts()
    await asyncio.to_thread(publish, store, image, facts.qemu_uid, facts.qemu_gid)
    shooting.app.hub.refresh_soon()
    await shooting.until(
        lambda: shooting.app.hub.inventory and shooting.app.hub.inventory.image("debian-12"), "image", 20
    )


def publish(store: Store, image: Path, uid: int, gid: int) -> None:
    """Put the image whose file and sidecar are in the folder ``image`` into the store."""
    open_store(store, uid, gid, system=True)
    built = Image.model_validate_json((image / "debian-12.json").read_bytes())
    put_image(store, built, image / built.file)


async def new_run(shooting: Shooting, name: str) -> None:
    """From anywhere to the plan of a run of the profile ``name``."""
    await shooting.press("n", sees="New run")
    await shooting.type(name, sees=name)
    await asyncio.sleep(0.5)
    await shooting.press("ctrl+s", sees="[2 settings]")
    await shooting.press("ctrl+s", sees="enter starts it", seconds=60)


async def passed(shooting: Shooting) -> None:
    """The quickstart, from the plan to its end."""
    await new_run(shooting, "quickstart")
    await shooting.press("enter", sees="Run quickstart-", seconds=30)
    await shooting.press("tab", sees="systemd[1]", seconds=120)  # the console: the guest is starting
    await asyncio.sleep(2)
    await shooting.shoot("run-live")
    await shooting.press("shift+tab")
    await shooting.sees("PASSED", 200)
    await shooting.shoot("run-passed")
    await shooting.press("escape", sees="[2 Runs]")


async def failed(shooting: Shooting) -> None:
    """A shop whose server may not have the port that it wants."""
    await new_run(shooting, "shop")
    await shooting.shoot("new-run")
    await shooting.press("enter", sees="Run shop-", seconds=30)
    await shooting.sees("PAUSED", 200)
    await shooting.shoot("run-paused")
    await shooting.size(NARROW)
    await shooting.shoot("run-paused-80x24")
    await shooting.size(WIDE)
    await shooting.press("k", sees="FAILED", seconds=60)
    await shooting.shoot("run-failed")
    await shooting.press("question_mark")
    await shooting.shoot("keys")
    await shooting.press("escape")
    await shooting.size(NARROW)
    await shooting.shoot("run-failed-80x24")
    await shooting.size(WIDE)
    await shooting.press("escape", sees="[2 Runs]")
    await shooting.shoot("runs")


async def lab(shooting: Shooting) -> None:
    """The VM that was kept, one that somebody else made, a snapshot more."""
    virsh = ["virsh", "-q", "-c", URI]
    Path("router.xml").write_text(FOREIGN)
    await asyncio.to_thread(subprocess.run, [*virsh, "define", "router.xml"], check=True, capture_output=True)
    await shooting.press("1", sees="router")
    await shooting.press("home", "down", "down", sees="shop-")  # below the image's template
    await shooting.press("m", sees="snapshot create")
    await shooting.type("before-the-fix")
    await shooting.press("ctrl+s")
    await shooting.press(sees="before-the-fix (current)", seconds=60)
    await shooting.shoot("lab")
    await shooting.press("at")
    await shooting.shoot("commands")
    await shooting.press("escape", "colon")
    await shooting.type("snap", sees="snapshot")
    await asyncio.sleep(1)
    await shooting.shoot("palette")
    await shooting.press("escape", "3", sees="debian-12")
    await shooting.shoot("images")
    await shooting.press("4", sees="[4 Clean-up]")
    await asyncio.sleep(3)
    await shooting.shoot("clean-up")
    await shooting.press("1")
    await shooting.size(NARROW)
    await shooting.shoot("lab-80x24")
    await shooting.size(WIDE)
    shooting.app.set_theme("light")
    await shooting.shoot("lab-light")


async def main(image: Path, folder: Path) -> None:
    os.chdir(Path.home())
    shop = Path("profiles/shop")
    (shop / "pages").mkdir(parents=True)
    Path("profiles/shop.yaml").write_text(PROFILE)
    for name, text in (("shop.service", SERVICE), ("load.py", LOAD), ("pages/index.html", "hello\n")):
        (shop / name).write_text(text)
    store = Store(Path("/var/lib/vmlab"))
    app = LabApp()
    async with app.run_test(size=WIDE) as pilot:
        shooting = Shooting(app, pilot, folder)
        await first_start(shooting, store, image)
        await passed(shooting)
        await failed(shooting)
        await lab(shooting)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, help="the folder with the image's file and sidecar")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    words = parser.parse_args()
    asyncio.run(main(words.image.absolute(), words.folder.absolute()))
