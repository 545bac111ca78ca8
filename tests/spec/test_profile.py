"""Profiles: the shape people write, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.spec.profile_samples import BAD, EVERYTHING, SHIPPED, minimal
from vmlab_tui.base.errors import UsageError
from vmlab_tui.checks.registry import KINDS
from vmlab_tui.spec.problems import SpecErrors
from vmlab_tui.spec.profile import (
    CopyStep,
    Profile,
    RebootStep,
    RunStep,
    WaitStep,
    find_profiles,
    load_profile,
)
from vmlab_tui.spec.sets import parse_sets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "profile"
    (inside / "site").mkdir(parents=True)
    (inside / "site" / "a.txt").write_text("a")
    (inside / "x.sh").write_text("echo from a file\n")
    (tmp_path / "secret.txt").write_text("outside")
    return inside


def write(folder: Path, text: str | dict[str, Any]) -> Path:
    path = folder / "profile.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
    return path


def test_a_bad_key_hides_no_other_error_of_its_mapping(tmp_path: Path) -> None:
    path = write(
        tmp_path, "schema: 1\nname: x\nimage: tiny\nvm:\n  on: 1\n  22: x\n  memory: lots\n  cpus: 0\n"
    )
    with pytest.raises(SpecErrors) as caught:
        load_profile(path)
    assert [one.field for one in caught.value.problems] == ["vm.on", "vm.22", "vm.memory", "vm.cpus"]


def complaints(path: Path, **sets: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        load_profile(path, sets)
    assert caught.value.exit == 2
    return [str(problem).replace(f"{path}:", "") for problem in caught.value.problems]


def test_everything_becomes_what_was_meant(folder: Path) -> None:
    loaded = load_profile(write(folder, EVERYTHING))
    profile = loaded.profile
    assert loaded.folder == folder.resolve()
    assert loaded.text == loaded.path.read_bytes()
    assert (profile.vm.memory, profile.vm.disk, profile.vm.firmware) == (2 * 1024**3, 9_000_000_000, "uefi")
    assert profile.env == {"GREETING": "hello", "COUNT": "3", "RATIO": "1.5", "DEBUG": "true"}
    assert (profile.boot_timeout, profile.ttl, profile.max_duration) == (300, 7200, 10800)
    first, second, third, fourth, *rest = profile.steps
    assert isinstance(first, CopyStep)
    assert (first.src, first.to, first.timeout, first.component) == (folder / "site", "/srv", 90, "web")
    assert isinstance(second, CopyStep)
    assert (second.exclude, second.delete, second.owner, second.timeout) == (("*.log",), True, "lab:lab", 600)
    assert isinstance(third, RunStep)
    assert (third.name, third.user, third.env, third.timeout) == ("echo hi", "lab", {"A": "b"}, 150)
    assert isinstance(fourth, RunStep)
    assert (fourth.script, fourth.script_file, fourth.name) == ("echo from a file\n", folder / "x.sh", "x.sh")
    assert isinstance(rest[0], RebootStep)
    waits = [step for step in rest if isinstance(step, WaitStep)]
    assert [(w.seconds, w.port, w.command, w.service) for w in waits] == [
        (5, None, None, None),
        (1.5, None, None, None),
        (3, None, None, None),
        (None, 8080, None, None),
        (None, None, "test -e /x", None),
        (None, None, None, "web"),
    ]
    assert waits[4].timeout == 3600
    assert {check.kind for check in profile.checks} == set(KINDS)
    assert [check.label for check in profile.checks][:3] == [
        "service web",
        "service web.service not running",
        "the port",
    ]
    assert profile.checks[0].within == 30
    assert profile.checks[3].params.model_dump() == {"port": 53, "protocol": "udp"}


def test_defaults(folder: Path) -> None:
    profile = load_profile(write(folder, minimal(steps=[{"run": "true"}, {"wait": "10m"}]))).profile
    assert (profile.vm.cpus, profile.vm.memory, profile.vm.disk) == (2, 1024**3, 8 * 1024**3)
    assert (profile.vm.accel, profile.vm.network, profile.vm.firmware) == ("auto", "isolated", "bios")
    assert (profile.on_pass, profile.on_fail, profile.ttl, profile.max_duration) == (
        "destroy",
        None,
        86400,
        10800,
    )
    assert profile.steps[0].timeout == 1800
    assert profile.steps[1].timeout > 600


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_profiles_are_good(path: Path) -> None:
    profile = load_profile(path).profile
    assert profile.name == path.parent.name
    assert profile.description
    assert profile.checks
    if profile.name == "quickstart":
        assert profile.vm.network == "isolated"
    if profile.name == "vps-provision":
        wanted = {"user", "packages", "desktop", "rdp", "ides"}
        assert {step.component for step in profile.steps} == wanted
        assert {check.component for check in profile.checks} == wanted


@pytest.mark.parametrize(
    "source", [*SHIPPED, EVERYTHING], ids=lambda one: getattr(one, "parent", Path("all")).name
)
def test_a_complete_profile_survives_json(folder: Path, source: Path | dict[str, Any]) -> None:
    profile = load_profile(source if isinstance(source, Path) else write(folder, source)).profile
    assert Profile.model_validate_json(profile.model_dump_json(by_alias=True)) == profile


def test_shipped_profiles_are_found_by_name() -> None:
    found = {ref.name: ref for ref in find_profiles()}
    assert {"quickstart", "vps-provision"} <= set(found)
    assert found["quickstart"].problem is None
    assert load_profile("quickstart").profile.name == "quickstart"


def test_a_wrong_name_names_the_right_one() -> None:
    with pytest.raises(UsageError) as caught:
        load_profile("quikstart")
    assert "quickstart" in caught.value.hint
    with pytest.raises(UsageError, match="No such file"):
        load_profile("./nowhere.yaml")


def test_the_nearest_place_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config" / "profiles").mkdir(parents=True)
    write_to = tmp_path / "config" / "profiles" / "quickstart.yaml"
    write_to.write_text(json.dumps(minimal(description="mine")))
    (tmp_path / "config" / "profiles" / "broken.yaml").write_text("a: on\n")
    found = {ref.name: ref for ref in find_profiles()}
    assert (found["quickstart"].description, found["quickstart"].origin) == ("mine", "config")
    assert found["broken"].problem
    assert found["vps-provision"].origin == "shipped"
    (tmp_path / "profiles" / "quickstart").mkdir(parents=True)
    write(tmp_path / "profiles" / "quickstart", minimal(description="nearer"))
    assert load_profile("quickstart").profile.description == "nearer"
    assert load_profile("./profiles/quickstart").profile.description == "nearer"


def test_all_problems_of_a_file_are_told_at_once(folder: Path) -> None:
    path = write(folder, BAD)
    found = complaints(path)
    expected = [
        ("4:6", "vm.cpu", "did you mean 'cpus'?"),
        ("4:22", "vm.memory", "found '1GX'; allowed: a size"),
        ("4:34", "vm.accel", "found 'kvn'; allowed: auto, kvm, tcg; did you mean 'kvm'?"),
        ("4:45", "vm.cpus", "found 0; allowed: greater than or equal to 1"),
        ("5:9", "ports.ssh", "not ssh"),
        ("6:10", "env.A", "found on; allowed: true or false, or the word in quotes: 'on'"),
        ("6:21", "env.TOKEN", "found the value of a secret"),
        ("8:14", "cloud_init.users", "vmlab does not set itself"),
        ("10:5", "steps[0]", "did you mean 'copy'?"),
        ("11:18", "steps[1].copy.from", "a path inside"),
        ("13:5", "steps[2].timout", "did you mean 'timeout'?"),
        ("14:11", "steps[3].wait", "did you mean 'port'?"),
        ("16:12", "checks[0].port", "found '80'; allowed: a whole number"),
        ("16:26", "checks[0].within", "found 'soon'; allowed: a duration"),
        ("17:34", "checks[1].expect.regex", "a regular expression"),
        ("18:10", "on_fail", "found 'pasue'; allowed: pause, keep, destroy; did you mean 'pause'?"),
        ("19:1", "name", "line 2 has it already"),
        ("20:1", "stepps", "did you mean 'steps'?"),
    ]
    assert len(found) == len(expected), "\n".join(found)
    for text, (where, field, said) in zip(found, expected, strict=True):
        assert text.startswith(f"{where}: {field}: ")
        assert said in text


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "5\n"])
def test_a_file_that_is_no_mapping(folder: Path, text: str) -> None:
    [said] = complaints(write(folder, text))
    assert "a mapping with schema, name" in said


def test_what_is_required(folder: Path) -> None:
    said = complaints(write(folder, "description: x\n"))
    assert [one.split(": ")[1] for one in said] == ["schema", "name", "image"]
    assert all("required" in one for one in said)


def test_a_newer_schema_is_refused(folder: Path) -> None:
    [said] = complaints(write(folder, {**minimal(), "schema": 2}))
    assert "schema: found 2; allowed: 1" in said


@pytest.mark.parametrize(
    "source", ["../secret.txt", "/etc/hostname", "link", "site/../../secret.txt", "loop", ".."]
)
def test_copy_stays_inside_the_folder(folder: Path, source: str) -> None:
    (folder / "link").symlink_to(folder.parent / "secret.txt")
    (folder / "loop").symlink_to(folder / "loop")
    for step in ({"copy": {"from": source, "to": "/x"}}, {"run": {"file": source}}):
        [said] = complaints(write(folder, minimal(steps=[step])))
        assert "a path inside" in said or "looked at" in said or "exists" in said
    allowed = minimal(steps=[{"copy": {"from": "../secret.txt", "to": "/x"}}], allow_outside=True)
    step_made = load_profile(write(folder, allowed)).profile.steps[0]
    assert isinstance(step_made, CopyStep)
    assert step_made.src == (folder.parent / "secret.txt").resolve()


@pytest.mark.parametrize("source", [".", "./site", "site/a.txt", "site/../x.sh"])
def test_what_is_inside_may_be_copied(folder: Path, source: str) -> None:
    profile = load_profile(write(folder, minimal(steps=[{"copy": {"from": source, "to": "/x"}}]))).profile
    assert isinstance(step := profile.steps[0], CopyStep)
    assert step.src.is_absolute()
    assert step.src.exists()


def test_a_missing_file_names_the_one_that_is_there(folder: Path) -> None:
    [said] = complaints(write(folder, minimal(steps=[{"copy": {"from": "sight", "to": "/x"}}])))
    assert "did you mean 'site'?" in said


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe", b"a\0b", b"x" * (2 << 20)])
def test_script_files_must_be_text(folder: Path, content: bytes) -> None:
    (folder / "bad.sh").write_bytes(content)
    [said] = complaints(write(folder, minimal(steps=[{"run": {"file": "bad.sh"}}])))
    assert "steps[0].run.file" in said


def test_one_origin_for_a_variable(folder: Path) -> None:
    said = complaints(
        write(
            folder,
            minimal(
                env={"A": "1"},
                required=["A", "B", "B"],
                secret=["T"],
                steps=[{"run": "x", "env": {"T": "hunter2"}}],
            ),
        )
    )
    assert len(said) == 3
    assert "hunter2" not in "".join(said)


def test_set(folder: Path) -> None:
    path = write(folder, EVERYTHING)
    sets = {
        "vm.memory": "3GiB",
        "env.GREETING": "on",
        "env.NEW": "22:22",
        "steps[0].timeout": "5m",
        "steps.3.name": "renamed",
        "on_fail": "keep",
        "required": "[]",
        "secret": "[]",
    }
    profile = load_profile(path, sets).profile
    assert profile.vm.memory == 3 * 1024**3
    assert (profile.env["GREETING"], profile.env["NEW"]) == ("on", "22:22")
    assert (profile.steps[0].timeout, profile.steps[3].name) == (300, "renamed")
    assert (profile.on_fail, profile.required) == ("keep", ())
    bare = write(folder, minimal())
    assert load_profile(bare, {"vm.cpus": "1"}).profile.vm.cpus == 1


def test_set_says_what_is_wrong_like_a_file_does(folder: Path) -> None:
    path = write(folder, EVERYTHING)
    sets = {"vm.memroy": "1GiB", "vm.cpus": "many", "on_fail": "no", "steps[99].name": "x", "name.x": "y"}
    with pytest.raises(SpecErrors) as caught:
        load_profile(path, sets)
    said = {problem.file: str(problem) for problem in caught.value.problems}
    assert set(said) == {f"--set {key}" for key in sets}
    assert "did you mean 'memory'?" in said["--set vm.memroy"]
    assert "a whole number" in said["--set vm.cpus"]
    assert "0 to 10" in said["--set steps[99].name"]


def test_a_secret_cannot_be_set(folder: Path) -> None:
    path = write(folder, minimal(secret=["TOKEN"]))
    with pytest.raises(SpecErrors) as caught:
        load_profile(path, {"env.TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "--env" in str(caught.value)


def test_parse_sets() -> None:
    assert parse_sets(["a.b=c=d", "e="]) == {"a.b": "c=d", "e": ""}
    for bad in (["a"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            parse_sets(bad)


def test_a_value_set_in_a_wrong_place_is_not_repeated(folder: Path) -> None:
    with pytest.raises(SpecErrors) as caught:
        load_profile(write(folder, minimal()), {"TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
