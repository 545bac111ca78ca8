"""What the README says is so: its profile loads, its commands parse, its exit codes are the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from vmlab_tui.cli.app import make
from vmlab_tui.cli.commands import EXITS
from vmlab_tui.spec.profile import load_profile
from vmlab_tui.spec.settings import CleanRules, load_settings
from vmlab_tui.verbs.registry import VERBS

TEXT = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def commands() -> list[str]:
    lines = "\n".join(blocks("console")).splitlines()
    shown = [line.removeprefix("$ ").partition("   #")[0] for line in lines if line.startswith("$ vmlab")]
    inline = re.findall(r"`(vmlab (?!run/)[a-z][^`]*)`", TEXT)
    return sorted({line.partition(" > ")[0].strip() for line in (*shown, *inline)})


def test_its_profile_is_right(tmp_path: Path) -> None:
    profile = blocks("yaml")[0]
    (tmp_path / "site").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "more.sh").write_text("true\n")
    (tmp_path / "web.yaml").write_text(profile)
    loaded = load_profile(tmp_path / "web.yaml").profile
    assert [step.kind for step in loaded.steps] == ["copy", "run", "run", "reboot", "wait"]
    assert len({check.kind for check in loaded.checks}) == 6


def test_its_settings_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, settings = blocks("yaml")
    (tmp_path / "config.yaml").write_text(settings)
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    assert load_settings().uri == "qemu:///system"


def test_its_rules_for_a_clean_up_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rules, _ = blocks("yaml")
    (tmp_path / "config.yaml").write_text(f"schema: 1\n{rules}")
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    told = load_settings().clean
    assert told.images
    assert told.model_copy(update={"watch": (), "hosts": (), "images": ()}) == CleanRules()


def test_its_keys_are_those_of_the_verbs() -> None:
    told = re.search(r"\| key \| on a VM.*?\n\n", TEXT, re.S)
    assert told
    keys = set(re.findall(r"`([a-zA-Z])`", "\n".join(line.split("| |")[0] for line in told[0].splitlines())))
    assert keys - {"y"} == {verb.key for verb in VERBS if "lab" in verb.areas and verb.key} - {"n"}


@pytest.mark.parametrize("command", commands())
def test_its_commands_parse(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk.qcow2").touch()
    at: click.Command = make()
    words = shlex.split(command)[1:]
    while isinstance(at, click.Group):
        assert words[0] in at.commands, command
        at = at.commands[words.pop(0)]
    assert at.make_context("vmlab", words)


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 15


def test_its_exit_codes_are_the_real_ones() -> None:
    assert re.findall(r"^\| (\d+) \| (.+) \|$", TEXT, re.M) == list(EXITS)


def test_its_files_exist() -> None:
    root = Path(__file__).parents[2]
    for name in set(re.findall(r"script/[a-z]+", TEXT)):
        assert (root / name).is_file(), name


def test_its_pictures_exist() -> None:
    root = Path(__file__).parents[2]
    named = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", TEXT)
    assert len(named) >= 3
    for _, name in named:
        assert (root / name).read_text().lstrip().startswith("<svg"), name


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("screenshots/*.svg")), ids=lambda path: path.stem
)
def test_a_picture_fetches_nothing(path: Path) -> None:
    addresses = re.findall(r"""(?:url\(|href=|src=)["']?([^"')]+)""", path.read_text())
    assert [one for one in addresses if not one.startswith("#")] == []
