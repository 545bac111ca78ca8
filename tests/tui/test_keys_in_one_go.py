"""Keys that come in one go, as a slow line or a macro sends them, do what they do one by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.ptyapp import PtyApp

_RUN = "from vmlab_tui.tui.app import run; run()"
_FORM = """\
from vmlab_tui.tui.app import LabApp
from vmlab_tui.tui.screens.dialogs import FormDialog
from vmlab_tui.verbs.verb import Param

def ask(app):
    params = [Param("name", "What."), Param("place", "Where.")]
    app.push_screen(FormDialog("Fill it in", params), lambda filled: app.exit(message=repr(filled)))

LabApp.key_x = ask
LabApp().run()
"""
PROFILE = "schema: 1\nname: small\nimage: tiny\nvm: {memory: 192MiB}\nsteps: [{name: greet, run: 'true'}]\n"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "VMLAB_STORE": str(tmp_path / "store"),
        "VMLAB_CONFIG": str(tmp_path / "config"),
        "LIBVIRT_DEFAULT_URI": "test:///default",
    }


def burst(app: PtyApp, keys: bytes) -> None:
    os.write(app._master, keys)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (b"xsnap one\r", b"{'name': 'snap one'}"),  # the dialog is opened by the first of them
        (b"xone\ttwo\x13", b"{'name': 'one', 'place': 'two'}"),
        (b"xold\x15new\x7ft\r", b"{'name': 'net'}"),  # the line is emptied, a letter taken back
        (b"\x1b[B" * 30 + b"xone\x1b[B\x1b[B\ttwo\x13", b"{'name': 'one', 'place': 'two'}"),
        (b"\x1b[200~no list\x1b[201~xab\x1b[200~cd\x1b[201~e\x13", b"{'name': 'abcde'}"),  # pasted
    ],
)
def test_a_form_has_all_that_was_typed(env: dict[str, str], keys: bytes, told: bytes) -> None:
    with PtyApp(_FORM, env=env) as app:
        app.until(b" ok")
        app.settle()
        burst(app, keys)
        assert app.status() == 0
        assert told in app.output.rpartition(b"\x1b[?1049l")[2]


def test_the_settings_of_a_run_have_all_that_was_typed(env: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "config/profiles"
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(PROFILE)
    with PtyApp(_RUN, env=env) as app:
        app.until(b" ok")
        app.settle()
        app.press(b"n")
        app.until(b"quickstart")
        app.settle()
        app.press(b"small", b"\r")
        app.until(b"VM name")
        app.settle()
        burst(app, b"\t\x1512q\x13")
        app.until(b"vm.memory")
        app.until(b"12q")


def test_keys_for_a_screen_that_goes_away_hold_nothing_up(env: dict[str, str]) -> None:
    with PtyApp(_FORM, env=env) as app:
        app.until(b" ok")
        app.settle()
        burst(app, b"x\t\x1b[A12@3:2xlast\r" * 3)
        assert app.status() == 0
