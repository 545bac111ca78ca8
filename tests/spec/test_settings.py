"""The person's own settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab_tui.spec.problems import SpecErrors
from vmlab_tui.spec.settings import Settings, load_settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    return tmp_path / "config.yaml"


def test_without_a_file(config: Path) -> None:
    assert load_settings() == Settings(theme="dark", notify="terminal", pager=None)


def test_all_of_them(config: Path) -> None:
    config.write_text(
        "schema: 1\nuri: qemu:///session\nstore: ~/lab\nprofiles: [/srv/profiles]\ntheme: light\n"
        "notify: desktop\npager: less -R '+/E x'\neditor: [code, --wait]\nviewer: remote-viewer\n"
    )
    assert load_settings() == Settings(
        uri="qemu:///session",
        store=Path.home() / "lab",
        profiles=(Path("/srv/profiles"),),
        theme="light",
        notify="desktop",
        pager=("less", "-R", "+/E x"),
        editor=("code", "--wait"),
        viewer=("remote-viewer",),
    )


def test_every_mistake_with_its_line(config: Path) -> None:
    config.write_text(
        "schema: 1\ntheme: drak\nnotify: loud\npager: less 'x\neditor: []\nviewer: 3\npagr: more\n"
        "uri: here\nstore: lab\n"
    )
    with pytest.raises(SpecErrors) as caught:
        load_settings()
    found = {problem.field: problem for problem in caught.value.problems}
    assert list(found) == ["theme", "notify", "pager", "editor", "viewer", "pagr", "uri", "store"]
    assert [problem.line for problem in found.values()] == list(range(2, 10))
    assert (found["theme"].allowed, found["theme"].nearest) == ("dark, light, ansi", "dark")
    assert "no closing quotation" in found["pager"].allowed
    assert found["pagr"].nearest == "pager"


def test_off_needs_no_quotes(config: Path) -> None:
    for text in ("notify: off", "notify: 'off'"):
        config.write_text(text + "\n")
        assert load_settings().notify == "off"
    config.write_text("notify: on\n")
    with pytest.raises(SpecErrors):
        load_settings()


@given(st.text(max_size=40))
def test_a_command_is_words_or_an_error(text: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from vmlab_tui.spec.settings import Command

    try:
        words: tuple[str, ...] = TypeAdapter(Command).validate_python(text)
    except ValidationError:
        return
    assert words
    assert all(word.isprintable() for word in words)
