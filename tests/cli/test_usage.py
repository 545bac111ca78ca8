"""Wrong command lines: exit code 2, one plain message, the way on. Nothing here reaches libvirt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vmlab_tui.cli.app import make
from vmlab_tui.cli.commands import command_of
from vmlab_tui.verbs.registry import by_id

PROFILE = """\
schema: 1
name: guarded
image: no-such-image
required: [API_TOKEN, PLAIN]
secret: [API_TOKEN, HARMLESS]
"""


def vmlab(*words: str, **env: str) -> Result:
    return CliRunner(env={**env, "LIBVIRT_DEFAULT_URI": "qemu+unix:///system?socket=/nonexistent"}).invoke(
        make(), words
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VMLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    (tmp_path / "guarded.yaml").write_text(PROFILE)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rnu"], "did you mean run?"),
        (["runs", "lst"], "did you mean list?"),
        (["image", "bild"], "did you mean build?"),
        (["run", "--plann", "x"], "did you mean --plan?"),
        (["run"], "missing argument 'PROFILE'"),
        (["run", "quickstart", "extra"], "unexpected extra argument"),
        (["run", "quickstart", "--accel", "vmx"], "'vmx' is not one of 'auto', 'kvm', 'tcg'"),
        (["run", "quickstart", "--ttl", "soon"], "a duration such as 30s"),
        (["run", "quickstart", "--set", "vm.memory"], "key=value"),
        (["run", "quickstart", "--set", "a=1", "--set", "a=2"], "given twice"),
        (["run", "quickstart", "--set", "vm.memry=1GiB"], "did you mean 'memory'?"),
        (["run", "quickstart", "--keep", "--on-fail", "destroy"], "contradict"),
        (["run", "quickstart", "--detach", "--junit", "x.xml"], "runs wait RUN --junit"),
        (["run", "quickstart", "--junit", "no/such/x.xml"], "mkdir -p no/such"),
        (["run", "quickstart", "--env-file", "missing"], "does not exist"),
        (["run", "quickstrt"], "did you mean 'quickstart'?"),
        (["runs", "show", "nothing"], "vmlab runs list"),
        (["runs", "logs", "nothing"], "vmlab runs list"),
        (["runs", "end", "nothing"], "vmlab runs list"),
        (["ssh", "nothing"], "no run and no VM of ours is called 'nothing'"),
        (["profile", "check", "missing.yaml"], "missing.yaml"),
        (["image", "build", "debian-21"], "did you mean"),
        (["image", "add", "guarded.yaml", "--sha256", "12"], "not 64 hexadecimal digits"),
        (["image", "add", "guarded.yaml", "--name", "../up"], "cannot name an image"),
    ],
)
def test_wrong_usage(here: Path, words: list[str], told: str) -> None:
    result = vmlab(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("vmlab: ")
    assert told in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["run", "guarded.yaml", "--env", "API_TOKEN=hunter2"],
        ["run", "guarded.yaml", "--env", "PLAIN=hunter2"],
        ["run", "guarded.yaml", "--set", "env.API_TOKEN=hunter2"],
        ["run", "guarded.yaml", "--set", "env.HARMLESS=hunter2"],
        ["run", "guarded.yaml", "--set", "env.DB_PASSWORD=hunter2"],
        ["run", "guarded.yaml", "--set", "steps.0.env.API_TOKEN=hunter2"],
        ["profile", "show", "guarded.yaml", "--set", "env.API_TOKEN=hunter2"],
        ["runs", "resume", "last", "--env", "API_TOKEN=hunter2"],
    ],
)
def test_a_secret_on_the_command_line_is_refused_with_the_reason(here: Path, words: list[str]) -> None:
    result = vmlab(*words)
    assert result.exit_code == 2
    assert "is refused" in result.stderr
    assert "every user of this machine can read a command line" in result.stderr
    assert "--env-file" in result.stderr
    assert "hunter2" not in result.output


def test_a_plain_value_may_be_set(here: Path) -> None:
    result = vmlab("profile", "show", "guarded.yaml", "--set", "env.COLOUR=blue")
    assert result.exit_code == 0, result.output
    assert "COLOUR" in result.stdout


def test_all_errors_of_a_profile_at_once(here: Path) -> None:
    Path("bad.yaml").write_text(
        "schema: 1\nname: bad\nimage: x\nvm: {cpu: 2}\nstepps: []\non_fail: explode\n"
    )
    result = vmlab("profile", "check", "bad.yaml")
    assert result.exit_code == 2
    for told in ("bad.yaml:4", "'cpus'", "bad.yaml:5", "'steps'", "bad.yaml:6", "explode"):
        assert told in result.stderr
    result = vmlab("profile", "check", "bad.yaml", "--json")
    assert result.exit_code == 2
    assert '"nearest": "steps"' in result.stdout


def test_json_of_the_lists_is_one_document(here: Path) -> None:
    import json

    for words in (["profile", "list"], ["runs", "list"], ["image", "list"], ["profile", "schema"]):
        result = vmlab(*words, "--json")
        assert result.exit_code == 0, result.output
        assert isinstance(json.loads(result.stdout), dict)


def test_groups_and_root_show_their_help(here: Path) -> None:
    for words in ([], ["runs"], ["image"], ["profile"]):
        result = vmlab(*words)
        assert result.exit_code == 2
        assert "Commands:" in result.output


def test_help_says_that_no_value_is_taken(here: Path) -> None:
    assert "Only the name" in vmlab("run", "--help").stdout
    assert os.environ["VMLAB_STORE"] not in vmlab("run", "--help").stdout


@pytest.mark.parametrize(
    "words", [["last", "--here", "--", "ls", "-l"], ["--here", "last", "--", "ls", "-l"], ["last", "--here"]]
)
def test_a_flag_may_stand_between_the_vm_and_a_command_for_it(words: list[str]) -> None:
    parsed = command_of(by_id("ssh")).make_context("ssh", words).params
    assert (parsed["target"], parsed["here"]) == ("last", True)
    assert tuple(parsed["command"]) == (("--", "ls", "-l") if "ls" in words else ())


def test_a_command_for_the_guest_keeps_its_own_options() -> None:
    parsed = command_of(by_id("ssh")).make_context("ssh", ["last", "ls", "--here"]).params
    assert (parsed["here"], tuple(parsed["command"])) == (False, ("ls", "--here"))
