"""The JSON Schema of profiles says what their loader says."""

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

from tests.spec.profile_samples import BAD, EVERYTHING, SHIPPED, minimal
from vmlab_tui.spec.loader import Document, read_document
from vmlab_tui.spec.model import OURS
from vmlab_tui.spec.profile import check_profile, profile_schema
from vmlab_tui.spec.validate import validate
from vmlab_tui.spec.written import ProfileFile

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
