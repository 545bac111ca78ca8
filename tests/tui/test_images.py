"""The Images area: what there is, who stands on it, adding, removing, going to a user."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from textual.widgets import Input, Static

from tests.lab.disks import qcow2
from tests.lab.test_inventory import node
from tests.support.hostile import TEXTS
from tests.tui.conftest import lines, opened, text, until
from vmlab_tui.base.paths import Store
from vmlab_tui.images.store import Image, publish
from vmlab_tui.spec.recipe import load_recipe, recipe_hash
from vmlab_tui.tui.screens.dialogs import ConfirmDialog, FormDialog, MessageDialog
from vmlab_tui.tui.screens.images import ImagesArea
from vmlab_tui.tui.screens.lab import LabArea
from vmlab_tui.tui.widgets.rows import Rows

FOLDERS = ("images", "vms", "runs", "trash", "keys")


@pytest.fixture
def store(lab_dir: Path) -> Store:
    store = Store(lab_dir)
    for name in FOLDERS:
        (lab_dir / name).mkdir(parents=True, exist_ok=True)
    return store


def put(store: Store, name: str, **more: object) -> Path:
    """An image of the store made of a blank disk."""
    staged = qcow2(store.images / f".{name}")
    given = {"digest": name[0] * 64, "virtual_size": 1 << 30, "disk_size": 4096, "created": "2026-01-01"}
    image = Image.model_validate({"name": name, "file": "", "format": "qcow2", **given, **more})
    return store.images / publish(store, staged, image).file


@pytest.fixture
def used(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images; three foreign VMs stand on the first, one of them with a name that wants to be markup."""
    base = put(store, "base", proven=True)
    put(store, "alone")
    names = ["web", "[@click=app.quit]q", "db\u202e"]
    disks = {name: [qcow2(tmp_path / f"{at}.qcow2", str(base))] for at, name in enumerate(names)}
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", node(tmp_path / "node.xml", disks))
    return base


async def test_the_list_tells_size_recipe_proof_and_users(used: Path, store: Store) -> None:
    recipe = load_recipe("debian-12")
    put(store, "fresh", recipe="debian-12", recipe_hash=recipe_hash(recipe), proven=True)
    put(store, "stale", recipe="debian-12", recipe_hash="0" * 64)
    put(store, "lost", recipe="nowhere", recipe_hash="0" * 64)
    (store.images / "bad.json").write_text("{")
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: " changed " in text(app))
        rows = {line.split()[0].lstrip(">"): line for line in lines(app)[2:8]}
        assert "imported" in rows["base"] and "3 VMs" in rows["base"] and "yes" in rows["base"]
        assert "unused" in rows["alone"] and "no" in rows["alone"].split()
        assert "as recipe" in rows["fresh"]
        assert " changed " in rows["stale"]
        assert "not found" in rows["lost"]
        assert "BROKEN" in rows["bad"]
        await pilot.press("slash", *"state:changed", "enter")
        shown = [row.cells[0].text for row in app.screen.query_one("#images", Rows).rows]
        assert shown == ["stale"]


async def test_a_recipe_that_is_edited_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(str(store.root.parent / "config" / "images"))
    folder.mkdir(parents=True)
    path = folder / "mine.yaml"
    path.write_text("schema: 1\nname: mine\nsuite: bookworm\n")
    put(store, "mine", recipe="mine", recipe_hash=recipe_hash(load_recipe(path)))
    async with opened() as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "as recipe" in text(app))
        path.write_text("schema: 1\nname: mine\nsuite: trixie\n")
        assert isinstance(app.screen, ImagesArea)
        app.screen._compare()
        await until(pilot, lambda: " changed " in text(app))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_from_an_image_to_a_vm_that_stands_on_it(used: Path, size: tuple[int, int]) -> None:
    async with opened(size) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "base" in text(app))
        narrow = size[0] < 100
        assert ("used by" in "\n".join(lines(app)[2:])) is not narrow
        await pilot.press("down", "up", "end", "enter")  # base comes after alone
        await pilot.pause()
        assert "used by 3, enter goes there" in text(app)
        assert "[@click=app.quit]q" in text(app)
        assert "\u202e" not in text(app)
        assert ("proven" in lines(app)[1]) is not narrow
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query_one("#images", Rows).has_focus
        await pilot.press("enter", "slash", "escape")
        users = app.screen.query_one("#users", Rows)
        users.focus()
        users.move_to(next(row.key for row in users.rows if "q" in row.cells[0].text))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LabArea))
        await pilot.pause()
        cursor = app.screen.query_one(Rows).cursor
        assert cursor and cursor.cells[0].text == "[@click=app.quit]q"


async def test_going_to_a_vm_that_is_folded_and_filtered_away(used: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("home", "down", "left", "slash", *"nothing", "enter")
        rows = app.screen.query_one(Rows)
        assert rows.rows == ()
        assert app.hub.inventory
        (vm,) = app.hub.inventory.find("web")
        await app.go_to("vm", vm.uuid)
        await pilot.pause()
        assert rows.cursor and rows.cursor.cells[0].text == "web"


async def test_removing_is_refused_with_the_users_named(used: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("3", "end", "D")
        await until(pilot, lambda: isinstance(app.screen, MessageDialog))
        assert "image base stays" in text(app)
        assert "web" in text(app)
        assert used.exists()


async def test_removing_asks_and_removes(used: Path, store: Store) -> None:
    async with opened() as (app, pilot):
        await pilot.press("3", "home", "D")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        assert "vmlab undo brings it back" in text(app)
        assert "alone-" in text(app)
        await pilot.press("y")
        await until(pilot, lambda: not list(store.images.glob("alone*")))
        await until(pilot, lambda: "alone" not in "".join(lines(app)[2:10]))
        assert used.exists()


async def test_adding_keeps_what_was_typed_until_it_is_right(lab_store: Store, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    async with opened() as (app, pilot):
        await pilot.press("3", "a")
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        app.screen.query_one("#f-file", Input).value = str(disk)
        app.screen.query_one("#f-name", Input).value = "golden"
        app.screen.query_one("#f-sha256", Input).value = "0" * 64
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, FormDialog) and "SHA-256" in text(app))
        assert app.screen.query_one("#f-file", Input).value == str(disk)
        app.screen.query_one("#f-sha256", Input).value = ""
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, ImagesArea) and "golden" in text(app))
        await until(pilot, lambda: "imported" in text(app))


async def test_adding_is_not_about_the_row_under_the_cursor(used: Path) -> None:
    async with opened() as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "alone" in text(app))
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, FormDialog))
        assert str(app.screen.query_one("#question", Static).render()) == "image add"


async def test_hostile_text_in_a_sidecar(store: Store) -> None:
    odd = {"user": "[/x]", "kernel": "\x1b]0;PAYLOAD\x07", "recipe": "[@click=app.quit]x"}
    put(store, "odd", source="\n".join(TEXTS), **odd)
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "odd" in text(app))
        shown = text(app)
        assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in shown)
        assert "[@click=app.quit]x" in shown
        for at in range(40):
            await pilot.click(offset=(90, at))
        assert app.is_running
