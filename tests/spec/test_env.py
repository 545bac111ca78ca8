"""Variables of a run: where they come from, and that secrets stay secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmlab_tui.base.errors import Exit, Refused, UsageError
from vmlab_tui.spec.env import resolve_env
from vmlab_tui.spec.problems import SpecErrors
from vmlab_tui.spec.profile import Profile


def profile(**more: Any) -> Profile:
    return Profile.model_validate({"schema": 1, "name": "x", "image": "y", **more})


def test_the_profile_alone() -> None:
    env = resolve_env(profile(env={"A": "1"}), environ={"A": "other", "B": "2"})
    assert (dict(env.public), dict(env.secret)) == ({"A": "1"}, {})


def test_required_come_from_the_caller() -> None:
    env = resolve_env(
        profile(required=["A", "TOKEN"], secret=["TOKEN"]), environ={"A": "1", "TOKEN": "t", "B": "2"}
    )
    assert (dict(env.public), dict(env.secret)) == ({"A": "1"}, {"TOKEN": "t"})
    assert "'t'" not in repr(env)


def test_all_missing_are_told_at_once() -> None:
    with pytest.raises(Refused) as caught:
        resolve_env(profile(required=["A", "B", "C", "D"]), ["E"], environ={"B": "1", "C": ""})
    assert caught.value.exit == Exit.REFUSED
    for part in ("A is not set", "C is empty", "D is not set", "E is not set", "4 variables"):
        assert part in str(caught.value)
    assert "B " not in str(caught.value)
    assert "--env-file" in caught.value.hint


def test_a_name_beats_the_file_beats_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nexport A=file\nB='file b'\nC=a=b \"c\"\nR=from file\nE\n")
    env = resolve_env(
        profile(env={"A": "p", "B": "p", "D": "p"}, required=["R"]),
        ["A"],
        file,
        {"A": "caller", "R": "caller", "E": "caller"},
    )
    assert dict(env.public) == {
        "A": "caller",
        "B": "file b",
        "C": 'a=b "c"',
        "D": "p",
        "E": "caller",
        "R": "from file",
    }


@pytest.mark.parametrize("word", ["TOKEN=hunter2", "A B=hunter2", "=hunter2"])
def test_a_value_on_the_command_line_is_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_env(profile(), [word], environ={})
    assert caught.value.exit == Exit.USAGE
    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert "--env-file" in caught.value.hint


def test_no_names() -> None:
    for word in ("", "1A", "a-b", "A\x1b[31m"):
        with pytest.raises(UsageError) as caught:
            resolve_env(profile(), [word], environ={})
        assert str(caught.value).isprintable()


def test_names_that_tell_are_secret() -> None:
    names = ["GITHUB_TOKEN", "DB_PASSWORD", "API_KEY", "APIKEY", "KEYBOARD", "TOKENS_USED_BY", "HOME"]
    env = resolve_env(profile(env={"API_KEY": "in the profile"}), names, environ=dict.fromkeys(names, "v"))
    assert set(env.secret) == {"GITHUB_TOKEN", "DB_PASSWORD", "API_KEY", "APIKEY"}
    assert set(env.public) == {"KEYBOARD", "TOKENS_USED_BY", "HOME"}


def test_a_bad_file_names_its_lines_but_not_its_values(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\nhunter2\nnot a name=hunter2\nA=hunter2\nPTAH\n")
    with pytest.raises(SpecErrors) as caught:
        resolve_env(profile(), env_file=file, environ={"PATH": "x"})
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4, 5]
    assert "not a name" not in str(caught.value)
    assert "=hunter2" not in str(caught.value)
    assert "did you mean 'PATH'?" in str(caught.value)
    for content in (None, b"A=\xff"):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        with pytest.raises(UsageError):
            resolve_env(profile(), env_file=file, environ={})


def test_values_that_no_process_can_have() -> None:
    with pytest.raises(Refused, match="A is not UTF-8"):
        resolve_env(profile(required=["A"]), environ={"A": "\udcff"})
