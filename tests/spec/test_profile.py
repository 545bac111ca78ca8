"""Profiles: the shape people write, the JSON Schema of it, and what becomes of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import shipped
from vmlab_tui.checks.registry import KINDS
from vmlab_tui.spec.loader import Document, read_document
from vmlab_tui.spec.model import OURS
from vmlab_tui.spec.problems import SpecErrors
from vmlab_tui.spec.profile import (
    CopyStep,
    Profile,
    RebootStep,
    RunStep,
    WaitStep,
    check_profile,
    find_profiles,
    load_profile,
    profile_schema,
)
from vmlab_tui.spec.sets import parse_sets
from vmlab_tui.spec.validate import validate
from vmlab_tui.spec.written import ProfileFile

SHIPPED = sorted(shipped().glob("*/profile.yaml"))

EVERYTHING: dict[str, Any] = {
    "schema": 1,
    "name": "all-of-it",
    "description": "Every field there is",
    "image": "debian-12",
    "vm": {
        "cpus": 4,
        "memory": "2GiB",
        "disk": 9000000000,
        "accel": "tcg",
        "network": "default",
        "firmware": "uefi",
    },
    "ports": {"web": 8080, "db": 5432},
    "env": {"GREETING": "hello", "COUNT": 3, "RATIO": 1.5, "DEBUG": True},
    "required": ["USER_ID", "TOKEN"],
    "secret": ["TOKEN"],
    "cloud_init": {"packages": ["nginx"], "write_files": [{"path": "/x", "content": "text"}], "locale": None},
    "boot_timeout": "5m",
    "steps": [
        {"copy": {"from": "./site", "to": "/srv"}, "name": "files", "component": "web", "timeout": 90},
        {
            "copy": {
                "from": "site/a.txt",
                "to": "/srv/a",
                "exclude": ["*.log"],
                "delete": True,
                "owner": "lab:lab",
            }
        },
        {"run": "set -e\n# comment\necho hi\n", "user": "lab", "env": {"A": "b"}, "timeout": "2m 30s"},
        {"run": {"file": "x.sh"}, "component": "web"},
        {"reboot": True, "timeout": "5m"},
        {"wait": "5s"},
        {"wait": 1.5},
        {"wait": {"seconds": 3}},
        {"wait": {"port": 8080}},
        {"wait": {"command": "test -e /x"}, "timeout": "1h"},
        {"wait": {"service": "web"}},
    ],
    "checks": [
        {"service": "web", "within": "30s"},
        {"service": {"name": "web.service", "active": False, "enabled": None}},
        {"port": 8080, "name": "the port", "component": "web"},
        {"port": {"port": 53, "protocol": "udp"}},
        {"command": "true"},
        {"command": "echo a", "expect": "a", "user": "lab", "timeout": "10s"},
        {"command": "echo a", "expect": {"regex": "^a", "status": 0, "contains": "a"}},
        {"file": "/etc/passwd"},
        {
            "file": {
                "path": "/etc/passwd",
                "type": "file",
                "contains": "root",
                "mode": "0644",
                "owner": "root",
                "group": "root",
                "absent": False,
            }
        },
        {"package": "curl"},
        {"package": {"name": "curl", "version": "7."}},
        {"user": "lab"},
        {"user": {"name": "lab", "groups": ["sudo"], "shell": "/bin/sh", "home": "/home/lab", "sudo": True}},
    ],
    "artifacts": ["/var/log/*.log"],
    "on_pass": "keep",
    "on_fail": "pause",
    "ttl": "2h",
    "max_duration": "3h",
    "pause_limit": "30m",
    "allow_outside": False,
}


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


def minimal(**more: Any) -> dict[str, Any]:
    return {"schema": 1, "name": "x", "image": "debian-12", **more}


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


BAD = """\
schema: 1
name: x
image: debian-12
vm: {cpu: 2, memory: 1GX, accel: kvn, cpus: 0}
ports: {ssh: 22}
env: {A: on, TOKEN: x}
secret: [TOKEN]
cloud_init: {users: []}
steps:
  - cpoy: {from: ./site, to: /srv/site}
  - copy: {from: ../secret.txt, to: /srv}
  - run: 'true'
    timout: 2m
  - wait: {prot: 80}
checks:
  - {port: '80', within: soon}
  - {command: x, expect: {regex: '('}}
on_fail: pasue
name: y
stepps: []
"""


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


# The JSON Schema says what the loader says

SCHEMA = jsonschema.Draft202012Validator(profile_schema(), format_checker=jsonschema.FormatChecker())


def loader_takes(data: Any) -> bool:
    return validate(Document("x", data), ProfileFile)[0] is not None


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(profile_schema())
    assert json.loads(json.dumps(profile_schema())) == profile_schema()


@pytest.mark.parametrize(
    "source", [*SHIPPED, EVERYTHING], ids=lambda one: getattr(one, "parent", Path("all")).name
)
def test_the_schema_takes_good_profiles(source: Path | dict[str, Any]) -> None:
    data = read_document(source).data if isinstance(source, Path) else source
    SCHEMA.validate(data)
    assert loader_takes(data)


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    data = yaml.safe_load(BAD)
    fields = {".".join(map(str, error.absolute_path)) for error in SCHEMA.iter_errors(data)}
    assert {
        "vm",
        "vm.memory",
        "vm.accel",
        "vm.cpus",
        "ports",
        "cloud_init",
        "steps.0",
        "on_fail",
        "",
    } <= fields


def _places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield (*place, key)
            yield from _places(value, (*place, key))


PLACES = list(_places(EVERYTHING))
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 22, 65535, 65536, 300, 1.5, -0.5, "", " ", "x", "a b", "a\n", "1s\n",
    "0s", "5s", "1h30m", "1h 30m", "1 h", "0GiB", "1GiB", "1 GiB", "0.5G", "10", "..", "a..b", "-x", "/",
    "/x", "/x\n", "x/y", "auto", "Keep", "keep", "pause", "0644", "644", "0888", "ssh", "root", "Root",
    "a:b", "web.service", "(", "[a-z]+", "\x1b[31m", "\u202e", "é", "A_B", "1A", [], {}, ["x"], ["A"],
    [1], [None], {"x": 1}, {"x": "y"}, {"A": None}, {"file": "x"}, {"port": 1},
    {"port": 1, "seconds": 2}, {"seconds": "1s"}, {"regex": "("}, {"status": 3}, {"status": 256},
    {"status": True}, {"name": "web"}, {"path": "/x"}, {"contains": None}, [{"run": "x"}],
    [{"reboot": True, "run": "x"}], [{"reboot": False}], [{"port": 1, "user": "x"}],
    [{"port": 1, "service": "x"}], [{"command": "x", "user": "x"}], [{"user": "x", "command": "x"}],
    [{}], *[{key: []} for key in OURS],
]  # fmt: skip
KEYS = [
    "x",
    "name",
    "from",
    "file",
    "port",
    "copy",
    "command",
    "user",
    "expect",
    "timeout",
    "A",
    "ssh",
    "users",
    "a b",
    "",
]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.sampled_from(["replace", "remove", "add", "rename"]),
        st.sampled_from(ODD),
        st.sampled_from(KEYS),
    ),
    min_size=1,
    max_size=2,
)


def change(data: Any, place: tuple[Any, ...], how: str, value: Any, key: str) -> None:
    for part in place[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
    last = place[-1]
    if not isinstance(data, dict | list) or (
        last not in data if isinstance(data, dict) else last >= len(data)
    ):
        return
    if how == "replace":
        data[last] = copy.deepcopy(value)
    elif how == "remove":
        del data[last]
    elif isinstance(data, dict):
        data[key] = data.pop(last) if how == "rename" else copy.deepcopy(value)
    else:
        data.append(copy.deepcopy(value))


@given(changes=CHANGES)
@settings(max_examples=300, deadline=None)
def test_schema_and_loader_agree(changes: list[tuple[Any, ...]]) -> None:
    data = copy.deepcopy(EVERYTHING)
    for one in changes:
        change(data, *one)
    assert SCHEMA.is_valid(data) == loader_takes(data)


@pytest.mark.parametrize("place", [place for place in PLACES if isinstance(place[-1], str)], ids=str)
def test_schema_and_loader_agree_on_every_value(place: tuple[Any, ...]) -> None:
    top, *inner = place
    part = EVERYTHING[top]
    if top in ("steps", "checks") and inner:  # the one entry is enough
        part, inner = [part[inner[0]]], [0, *inner[1:]]
    for value in ODD:
        data = minimal(**{top: copy.deepcopy(part)})
        change(data, (top, *inner), "replace", value, "")
        assert SCHEMA.is_valid(data) == loader_takes(data), value


@given(changes=CHANGES)
@settings(max_examples=200, deadline=None)
def test_a_bad_profile_is_refused_with_reasons(changes: list[tuple[Any, ...]]) -> None:
    """Whatever is changed, the loader returns a profile or problems that can be shown."""
    data = copy.deepcopy(EVERYTHING)
    for one in changes:
        change(data, *one)
    profile, found = check_profile(Document("x", data), Path("/nonexistent"))
    assert (profile is None) == bool(found)
    assert all(str(problem).isprintable() for problem in found)
    assert all(problem.field for problem in found)


def test_a_value_set_in_a_wrong_place_is_not_repeated(folder: Path) -> None:
    with pytest.raises(SpecErrors) as caught:
        load_profile(write(folder, minimal()), {"TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
