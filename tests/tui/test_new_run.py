"""A new run from the screen: finding a profile, settings, the plan, and one real run to its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from tests.tui.conftest import lines, text, until
from vmlab_tui.base.paths import Store
from vmlab_tui.runs.client import get_run
from vmlab_tui.spec.profile import load_profile
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.screens.activity import ActivityScreen
from vmlab_tui.tui.screens.keys import KeysScreen
from vmlab_tui.tui.screens.newrun import NewRunScreen
from vmlab_tui.tui.screens.run import RunScreen
from vmlab_tui.tui.screens.run_fields import FormLine
from vmlab_tui.tui.screens.run_form import make_form, read_form
from vmlab_tui.tui.screens.runs import RunsArea
from vmlab_tui.tui.widgets.rows import Rows
from vmlab_tui.verbs.run import Run
from vmlab_tui.verbs.verb import Args

PROFILE = """\
schema: 1
name: small
description: A small one
image: tiny
vm: {cpus: 1, memory: 192MiB, disk: 64MiB, accel: tcg}
env: {GREETING: hello}
required: [API_TOKEN, PLACE]
secret: [OTHER]
steps:
  - {name: greet, run: 'echo "$GREETING $PLACE"; echo "$API_TOKEN"'}
"""
SMALL = (80, 24)
HUSH = "hush-hush-9f3a"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two profiles, one of them bad."""
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    for name in ("API_TOKEN", "PLACE", "OTHER", "GREETING", "CI"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "work"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles/small.yaml").write_text(PROFILE)
    (folder / "profiles/bad.yaml").write_text("schema: 1\nname: bad\nimage: tiny\nstepz: []\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def made_up(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No store, and a libvirt on which nothing can be run."""
    monkeypatch.setenv("VMLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    return here


async def opened(pilot: Pilot[None], profile: str = "") -> NewRunScreen:
    screen = NewRunScreen(profile)
    await until(pilot, lambda: isinstance(pilot.app, LabApp) and pilot.app.hub.inventory is not None)
    await pilot.app.push_screen(screen)
    await until(pilot, lambda: bool(screen.query_one(Rows).rows) and not screen._busy)
    if profile:
        await until(pilot, lambda: screen.stage == "form")
    return screen


def line(screen: NewRunScreen, name: str) -> FormLine:
    return next(one for one in screen.query(FormLine) if one.field.name == name)


def fill(screen: NewRunScreen, name: str, value: str) -> None:
    control = line(screen, name).control
    assert isinstance(control, Input | Select)
    control.value = value


async def test_profiles_are_found_by_typing_and_described(made_up: Path) -> None:
    async with LabApp().run_test(size=SMALL) as pilot:
        await until(pilot, lambda: isinstance(pilot.app, LabApp) and pilot.app.hub.lab is not None)
        await pilot.press("2", "n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
        await until(pilot, lambda: "quickstart" in text(pilot.app) and "small" in text(pilot.app))
        await pilot.press(*"sml")
        await until(pilot, lambda: ">small" in text(pilot.app) and "quickstart" not in text(pilot.app))
        await until(pilot, lambda: "needs    API_TOKEN, PLACE" in text(pilot.app))
        assert "A small one" in text(pilot.app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsArea))


async def test_a_bad_profile_names_file_and_line_and_cannot_be_chosen(made_up: Path) -> None:
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"bad")
        await until(pilot, lambda: "profiles/bad.yaml:4:1: stepz" in text(pilot.app))
        await pilot.press("enter")
        await until(pilot, lambda: "did you mean 'steps'" in text(pilot.app))
        assert screen.stage == "pick"
        (made_up / "profiles/bad.yaml").write_text(PROFILE)  # mended meanwhile
        await pilot.press("enter")
        await until(pilot, lambda: screen.stage == "form")


async def test_a_path_can_be_typed(made_up: Path) -> None:
    (made_up / "elsewhere.yaml").write_text(PROFILE)
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"./no.yaml", "enter")
        await until(
            pilot, lambda: "no.yaml" in text(pilot.app).split("\n")[-3] + text(pilot.app).split("\n")[-4]
        )
        assert screen.stage == "pick"
        search = screen.query_one("#search", Input)
        search.value = "./elsewhere.yaml"
        await pilot.press("enter")
        await until(pilot, lambda: screen.stage == "form")
        assert search.value == "./elsewhere.yaml"


async def test_what_was_wrong_with_another_file_is_not_said_any_more(made_up: Path) -> None:
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"./no.yaml", "enter")
        await until(pilot, lambda: screen.query_one("#problem").display and not screen._busy)
        await pilot.press("ctrl+u", *"small")
        await until(pilot, lambda: ">small" in text(pilot.app))
        assert not screen.query_one("#problem").display


async def test_the_files_of_a_typed_folder_are_listed(made_up: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("a-long-name-" * 3)
    folder.mkdir()
    for name in ("one.yaml", "two.yml", "three.txt"):
        (folder / name).write_text(PROFILE)
    (folder / "tree").mkdir()
    (folder / "tree/profile.yaml").write_text(PROFILE)
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*f"{folder}/")
        await until(pilot, lambda: "name-/one.yaml" in text(pilot.app) and "name-/two.yml" in text(pilot.app))
        assert "three.txt" not in text(pilot.app)
        await pilot.press("t")
        await until(pilot, lambda: "one.yaml" not in text(pilot.app) and "/two.yml" in text(pilot.app))
        assert "name-/tree/profile.yaml" in text(pilot.app)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: screen.stage == "form")
        assert screen._form is not None
        assert screen._form.loaded.path.name == "two.yml"


async def test_what_is_needed_is_asked_for_and_nothing_typed_is_lost(made_up: Path) -> None:
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "small")
        assert isinstance(line(screen, "on_fail").control, Select)
        assert line(screen, "on_fail").value == "pause"
        await pilot.press("ctrl+s")
        assert "! API_TOKEN is needed" in text(pilot.app)
        assert line(screen, "env.API_TOKEN").control.has_focus
        await pilot.press(*HUSH)
        assert HUSH not in text(pilot.app)
        fill(screen, "env.PLACE", "world")
        fill(screen, "memory", "much")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "vm.memory" in text(pilot.app))
        assert screen.stage == "form"
        fill(screen, "memory", "256MiB")
        await pilot.press("ctrl+s")
        await until(
            pilot, lambda: "test:///default" in text(pilot.app) and not screen._busy
        )  # it can run nothing
        assert screen.stage == "form"
        assert line(screen, "env.API_TOKEN").value == HUSH
        assert line(screen, "env.PLACE").value == "world"
        assert line(screen, "memory").value == "256MiB"
        await pilot.press("escape")
        assert screen.stage == "pick"
        await pilot.press(*"small", "enter")
        await until(pilot, lambda: screen.stage == "form")
        assert line(screen, "env.PLACE").value == "world"
        assert HUSH not in repr(screen._wanted) + repr(screen._args(plan=True))


async def test_where_one_types_the_keys_are_on_f1(made_up: Path) -> None:
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "small")
        assert "? keys" in lines(pilot.app)[-1]  # the first field is a menu
        await pilot.press("f1")
        await until(pilot, lambda: "Keys that work here" in text(pilot.app))
        assert "Show menu" not in text(pilot.app)
        await pilot.press("f1")
        await until(pilot, lambda: pilot.app.screen is screen)
        await pilot.press("tab")
        await pilot.pause()
        assert "f1 keys" in lines(pilot.app)[-1] and "? keys" not in lines(pilot.app)[-1]
        await pilot.press("f1")
        await until(pilot, lambda: "Keys that work here" in text(pilot.app))
        assert isinstance(pilot.app.screen, KeysScreen)
        told = {word for keys, _ in pilot.app.screen._lines for word in keys.split()}
        assert {"f1", "ctrl+s", "esc"} <= told
        assert not told & {"1", "2", "3", "0", "?", ":", "q", "@"}


def test_a_form_gives_only_what_differs(made_up: Path) -> None:
    form = make_form(load_profile("small"), [("tiny", "5M"), ("other", "")], {"PLACE": "x", "OTHER": "y"})
    kinds = {one.name: one for one in form.fields}
    assert kinds["env.API_TOKEN"].secret and kinds["env.API_TOKEN"].needed
    assert kinds["env.OTHER"].secret and not kinds["env.OTHER"].needed
    assert not kinds["env.PLACE"].secret and not kinds["env.PLACE"].needed  # the environment has it
    assert kinds["environment"].value == "OTHER"
    assert [value for _, value in kinds["image"].choices] == ["tiny", "other"]
    values = {one.name: one.value for one in form.fields}
    assert read_form(form, values).missing == "env.API_TOKEN"
    wanted = read_form(form, {**values, "env.API_TOKEN": HUSH, "environment": "LANG, OTHER"})
    assert wanted.arguments == {
        "profile": str(form.loaded.path),
        "on_fail": "pause",
        "env": ("LANG", "OTHER"),
        "set": (),
    }
    assert wanted.typed == {"API_TOKEN": HUSH}
    more = {
        "image": "other",
        "memory": " 1GiB ",
        "cpus": "4",
        "name": "it",
        "env.GREETING": "",
        "on_pass": "keep",
    }
    wanted = read_form(form, {**values, **more})
    assert wanted.arguments["set"] == ("vm.memory=1GiB", "vm.cpus=4")
    assert (wanted.arguments["image"], wanted.arguments["name"]) == ("other", "it")
    assert wanted.arguments["on_pass"] == "keep"
    assert wanted.typed == {"GREETING": ""}


def test_typed_variables_are_named_and_never_shown() -> None:
    args = Args({"profile": "small", "env": ("LANG",)}, {"API_TOKEN": HUSH})
    assert HUSH not in repr(args)
    request = Run.request(args)
    assert request.env_names == ("LANG", "API_TOKEN")
    assert HUSH not in repr(request)


async def test_a_missing_image_is_offered_to_be_built(
    lab_store: Store, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "profiles/small.yaml").write_text(PROFILE.replace("image: tiny", "image: debian-12"))
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "small")
        assert "debian-12  (not in the store yet)" in text(pilot.app)
        fill(screen, "env.API_TOKEN", HUSH)
        fill(screen, "env.PLACE", "world")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Build it now?" in text(pilot.app), 30)
        await pilot.press("n")
        await until(pilot, lambda: "! " in text(pilot.app) and not screen._busy)
        assert screen.stage == "form"
        assert line(screen, "env.PLACE").value == "world"


async def test_with_more_than_the_image_missing_the_plan_tells_all(
    lab_store: Store, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "profiles/small.yaml").write_text(PROFILE.replace("image: tiny", "image: debian-12"))
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "small")
        fill(screen, "env.API_TOKEN", HUSH)
        fill(screen, "env.PLACE", "world")
        fill(screen, "memory", "900000GiB")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: screen.stage == "plan", 30)
        assert "REFUSED  image: there is no image 'debian-12'" in text(pilot.app)
        assert "REFUSED  space: " in text(pilot.app)
        assert "REFUSED  memory: " in text(pilot.app)
        assert pilot.app.screen is screen  # nobody is asked to build what would not help yet


async def test_a_build_that_fails_leaves_the_form_as_it_was(lab_store: Store, here: Path) -> None:
    (here / "images").mkdir()
    (here / "images/made.yaml").write_text("schema: 1\nname: made\nsuite: no-such-suite\ntimeout: 30s\n")
    (here / "profiles/small.yaml").write_text(PROFILE.replace("image: tiny", "image: made"))
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "small")
        fill(screen, "env.API_TOKEN", HUSH)
        fill(screen, "env.PLACE", "world")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Build it now?" in text(pilot.app), 30)
        await pilot.press("y")
        await until(pilot, lambda: isinstance(pilot.app.screen, ActivityScreen), 20)
        await until(pilot, lambda: "failed" in text(pilot.app).splitlines()[0], 60)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen and not screen._busy)
        assert screen.stage == "form"
        assert "! there is no image 'made'" in text(pilot.app)
        assert line(screen, "env.API_TOKEN").value == HUSH


async def test_hostile_profiles_keep_the_screen_in_shape(made_up: Path) -> None:
    evil = "a\x1b]0;evil\x07[@click=app.quit]go[bold red]\u202e"
    (made_up / f"profiles/{evil}.yaml").write_text(f"schema: 1\nname: '[/x]'\nfoo[/y]: '{evil}'\n")
    (made_up / "profiles/fair.yaml").write_text(
        PROFILE.replace("A small one", "'[@click=app.quit]go[/] [/red]'").replace("greet", "'[/greet]'")
    )
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        assert "a[@click=app.quit]go[" in text(pilot.app)
        for _ in range(4):
            await pilot.press("down")
            await pilot.pause(0.3)
            assert not {
                sign for sign in text(pilot.app) if sign != "\n" and (ord(sign) < 32 or sign == "\u202e")
            }
        assert "[@click=app.quit]go[/]" in text(pilot.app)
        for y in range(3, 22):
            await pilot.click(offset=(30, y))
        assert pilot.app.screen is screen
        screen.query_one("#search", Input).value = evil
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert not {sign for sign in text(pilot.app) if sign != "\n" and (ord(sign) < 32 or sign == "\u202e")}


async def test_preflight_refuses_with_what_to_do(lab_store: Store, tiny_image: str, here: Path) -> None:
    (here / "profiles/small.yaml").write_text(PROFILE.replace("image: tiny", f"image: {tiny_image}"))
    async with LabApp().run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "small")
        fill(screen, "env.API_TOKEN", HUSH)
        fill(screen, "env.PLACE", "world")
        fill(screen, "memory", "9000GiB")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: screen.stage == "plan", 60)
        assert "REFUSED" in text(pilot.app)
        assert "-> lower the VM's memory" in text(pilot.app)
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert screen.stage == "plan"
        assert "nothing was touched; esc goes back" in text(pilot.app)
        assert not list(lab_store.runs.iterdir()) if lab_store.runs.is_dir() else True
        await pilot.press("escape")
        assert screen.stage == "form"
        assert line(screen, "memory").value == "9000GiB"


@pytest.mark.guest
async def test_a_run_from_the_list_to_its_end(lab_store: Store, tiny_image: str, here: Path) -> None:
    (here / "profiles/small.yaml").write_text(PROFILE.replace("image: tiny", f"image: {tiny_image}"))
    async with LabApp().run_test(size=(120, 40)) as pilot:
        app = pilot.app
        assert isinstance(app, LabApp)
        await until(pilot, lambda: app.hub.inventory is not None)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        screen = app.screen
        assert isinstance(screen, NewRunScreen)
        await until(pilot, lambda: "small" in text(pilot.app))
        await pilot.press(*"small", "enter")
        await until(pilot, lambda: screen.stage == "form")
        fill(screen, "env.API_TOKEN", HUSH)
        fill(screen, "env.PLACE", "world")
        fill(screen, "env.GREETING", "good day")
        fill(screen, "name", f"vmlab-test-{os.getpid()}")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: screen.stage == "plan", 60)
        assert "preflight" in text(pilot.app)
        assert "greet" in text(pilot.app)
        assert HUSH not in text(pilot.app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen), 60)
        run = app.screen
        assert isinstance(run, RunScreen)
        await until(pilot, lambda: run.view is not None and run.view.state.over, 240)
        await until(pilot, lambda: "PASSED" in text(pilot.app))
        await until(pilot, lambda: "good day world" in text(pilot.app))
        assert app.hub.lab is not None
        view = get_run(app.hub.lab, run.run_id)
        assert view.status == "passed"
        assert view.plan.secret_names == ("API_TOKEN",)
        assert view.plan.on_fail == "pause"
        assert view.plan.env == {"GREETING": "good day", "PLACE": "world"}
        for path in view.folder.rglob("*"):
            assert path.is_dir() or HUSH.encode() not in path.read_bytes(), path
        assert HUSH not in text(pilot.app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsArea))
        await pilot.press("1")
        await pilot.pause(0.2)
        assert len(app.screen_stack) == 1  # the form is not there any more
