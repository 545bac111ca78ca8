"""What happens to runs is told to who looks elsewhere; settings that cannot be read do not keep one out."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Static

from tests.support.hostile import TEXTS
from tests.tui.conftest import opened, text, until
from tests.tui.run_samples import MadeRun
from vmlab_tui.tui.notify import desktop_command, news, osc9, tell_away
from vmlab_tui.tui.screens.dialogs import MessageDialog


@dataclass(frozen=True)
class View:
    """What of a run counts here."""

    run_id: str
    status: str


def views(**states: str) -> list[View]:
    return [View(name, state) for name, state in states.items()]


def test_only_what_ended_or_pauses_now_is_news() -> None:
    before = views(a="running", b="running", c="passed", d="paused", e="running", f="starting")
    now = views(a="passed", b="paused", c="passed", d="running", e="failed", f="running", new="failed")
    assert news(before, now) == [
        ("run a passed", False),
        ("run b pauses and waits for you", True),
        ("run e failed", True),
    ]
    assert news(None, now) == []


@given(st.one_of(st.text(), st.sampled_from(TEXTS)))
def test_a_notification_is_one_sequence(words: str) -> None:
    sequence = osc9(words)
    assert sequence.startswith("\x1b]9;")
    assert sequence.endswith("\x1b\\")
    inner = sequence[4:-2]
    assert ";" not in inner  # OSC 9;4 is a progress bar
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in inner)


async def test_by_which_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    await tell_away("run a passed", "terminal", written.append)
    assert written == ["\x1b]9;run a passed\x1b\\"]
    await tell_away("run a passed", "off", written.append)
    assert len(written) == 1
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\n')
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert desktop_command("x", {"PATH": path}) is None  # no desktop
    assert desktop_command("x", {"PATH": "/nowhere", "DISPLAY": ":0"}) is None
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("DISPLAY", ":0")
    await tell_away("-x \x1b[2J", "desktop", written.append)
    assert (tmp_path / "told").read_text().splitlines()[-3:] == ["--", "vmlab", "-x"]
    assert len(written) == 1
    program.write_text("no program")
    await tell_away("x", "desktop", written.append)


async def test_the_app_tells_by_what_the_settings_say(lab_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = lab_dir.parent / "config" / "config.yaml"
    config.parent.mkdir()
    for how, sequences in (("terminal", ["\x1b]9;run a failed\x1b\\"]), ("off", [])):
        config.write_text(f"notify: {how}\n")
        async with opened() as (app, pilot):
            written: list[str] = []
            monkeypatch.setattr(app, "_write_raw", written.append)
            app.runs_moved(views(a="running"), views(a="failed"))
            await app.workers.wait_for_complete()
            await pilot.pause()
            assert written == sequences
            assert [note.message for note in app._notifications] == ["run a failed"]


async def test_a_real_run_that_fails_is_told_once(lab_dir: Path) -> None:
    made = MadeRun(lab_dir)
    async with opened() as (app, pilot):
        assert not app._notifications
        made.failed()
        await until(pilot, lambda: len(app._notifications) == 1)
        assert [note.message for note in app._notifications] == [f"run {made.id} failed"]


async def test_the_theme_of_the_settings(lab_dir: Path) -> None:
    config = lab_dir.parent / "config" / "config.yaml"
    config.parent.mkdir()
    config.write_text("theme: light\n")
    async with opened() as (app, _):
        assert app.theme == "textual-light"


async def test_bad_settings_are_told_with_their_line_and_the_defaults_hold(lab_dir: Path) -> None:
    config = lab_dir.parent / "config" / "config.yaml"
    config.parent.mkdir()
    config.write_text("schema: 1\ntheme: drak\n")
    async with opened() as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, MessageDialog))
        shown = str(app.screen.query_one("#message", Static).render())
        assert f"{config}:2:8: theme: found 'drak'" in shown
        assert "did you mean 'dark'?" in shown
        assert "until then the defaults hold" in text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert app.theme == "textual-dark"
        assert app.hub.lab and app.hub.lab.uri == "test:///default"


def test_an_unknown_theme_in_the_environment() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from vmlab_tui.tui.app import run; run()"],
        env={**os.environ, "VMLAB_THEME": "pink\x1b[2J"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "VMLAB_THEME=pink is no theme: dark, light, ansi\n"
