"""The YAML loader: what it takes, what it refuses, and where it says the trouble is."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmlab_tui.spec.loader import MAX_VALUES, Mark, parse_yaml, plain
from vmlab_tui.spec.problems import Problem, SpecErrors, field_name, nearest, short


def read(text: str) -> Any:
    document = parse_yaml(text.encode(), "f.yaml")
    assert not document.problems
    return document.data


def problems(text: str | bytes) -> tuple[Problem, ...]:
    try:
        return parse_yaml(text.encode() if isinstance(text, str) else text, "f.yaml").problems
    except SpecErrors as error:
        return error.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: b", {"a": "b"}),
        ("a: 'on'", {"a": "on"}),
        ("a: true", {"a": True}),
        ("a: False", {"a": False}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 0", {"a": 0}),
        ("a: -12", {"a": -12}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 1GiB", {"a": "1GiB"}),
        ("a: 2m", {"a": "2m"}),
        ("a: 8080:80", {"a": "8080:80"}),
        ("a: '22:22'", {"a": "22:22"}),
        ('a: "0755"', {"a": "0755"}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("a: |\n  on\n", {"a": "on\n"}),
        ("a: [b, {c: d}]", {"a": ["b", {"c": "d"}]}),
        ("a: &x [b]\nc: *x", {"a": ["b"], "c": ["b"]}),
        ("", None),
        ("# nothing\n", None),
        ("--- \na: b\n...\n", {"a": "b"}),
        ("a: é€", {"a": "é€"}),
    ],
)
def test_what_it_takes(text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "line", "column", "field", "found", "allowed"),
    [
        ("a: on", 1, 4, "a", "on", "'on'"),
        ("x: 1\na: [b, Yes]", 2, 8, "a[1]", "Yes", "true or false"),
        ("a: n", 1, 4, "a", "n", "'n'"),
        ("on: 1", 1, 1, "on", "on", "'on'"),
        ("8080: 1", 1, 1, "8080", "the key 8080", "'8080'"),
        ("a: 22:22", 1, 4, "a", "22:22", "YAML reads it as 1342"),
        ("a: 0755", 1, 4, "a", "0755", "YAML reads it as 493"),
        ("a: 0o755", 1, 4, "a", "0o755", "'0o755'"),
        ("a: 08", 1, 4, "a", "08", "'08'"),
        ("a: 0x1F", 1, 4, "a", "0x1F", "31"),
        ("a: 1_000", 1, 4, "a", "1_000", "1000"),
        ("a: 1e3", 1, 4, "a", "1e3", "'1e3'"),
        ("a: 1.10", 1, 4, "a", "1.10", "YAML reads it as 1.1"),
        ("a: 2.0", 1, 4, "a", "2.0", "'2.0'"),
        ("a: .5", 1, 4, "a", ".5", "'.5'"),
        ("a: +5", 1, 4, "a", "+5", "'+5'"),
        ("a: .inf", 1, 4, "a", ".inf", "'.inf'"),
        ("a: 99999999999999999999", 1, 4, "a", "99999999999999999999", "in quotes"),
        ("a: 2026-11-21", 1, 4, "a", "2026-11-21", "a date"),
        ("a: 1\nb: 2\na: 3", 3, 1, "a", "the key again", "line 1 has it already"),
        ("v: {a: 1, a: on}", 1, 11, "v.a", "the key again", "once"),
        ("a: &x {b: c}\nd: {<<: *x}", 2, 5, "d.<<", "<<", "merge"),
        ("a: !!python/object:os.system x", 1, 4, "a", "the tag", "without a tag"),
        ("a: !!str on", 1, 4, "a", "the tag", "without a tag"),
        ("? [a]\n: b", 1, 3, "", "a key that is not a word", "words"),
        ("a: *x", 1, 4, "a", "*x", "anchor"),
        ("a: &x [*x]", 1, 8, "a[0]", "*x", "anchor"),
        ("a: b\n---\nc: d", 2, 1, "", "a second document", "one document"),
        ('a: "\\0"', 1, 4, "a", "'\\x00'", "text without it"),
        ('a: "\\ud800"', 1, 4, "a", "'\\ud800'", "text without it"),
        ("a: [b", 1, 6, "", "expected ',' or ']'", "YAML"),
        ("a: b: c", 1, 5, "", "mapping values are not allowed", "YAML"),
        ("a: 1\n\tb: 2", 2, 1, "", "'\\t'", "YAML"),
        ("a: b\nc: \x01", 2, 1, "", "", "printable text"),
    ],
)
def test_what_it_refuses(text: str, line: int, column: int, field: str, found: str, allowed: str) -> None:
    [problem] = problems(text)
    assert (problem.line, problem.column, problem.field) == (line, column, field)
    assert found in problem.found
    assert allowed in problem.allowed
    assert str(problem).startswith(f"f.yaml:{line}:{column}: ")


def test_every_problem_of_a_file_is_told_in_its_order() -> None:
    found = problems("a: on\nb: 22:22\na: x\nc: [off, 0755]\n")
    assert [one.line for one in found if one] == [1, 2, 3, 4, 4]
    with pytest.raises(SpecErrors) as caught:
        raise SpecErrors("f.yaml", reversed(found))
    assert [one.line for one in caught.value.problems] == [1, 2, 3, 4, 4]
    assert "5 problems" in str(caught.value)


def test_bytes_that_are_not_text() -> None:
    [problem] = problems(b"a: b\nc: \xff\n")
    assert (problem.line, problem.allowed) == (2, "UTF-8 text")
    [problem] = problems(b"x" * (2 << 20))
    assert "at most" in problem.allowed


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    [problem] = problems("\n".join(lines))
    assert "aliases written out" in problem.allowed
    assert problem.line <= 6
    assert problems(f"a: [{'x, ' * (MAX_VALUES + 5)}x]")[-1].found == "too many values"


def test_deep_nesting_is_refused() -> None:
    for text in ("[" * 500 + "]" * 500, "{a: " * 500 + "x" + "}" * 500):
        assert problems(text)[-1].found == "deep nesting"


def test_places() -> None:
    document = parse_yaml(b"a:\n  - b: 1\n    c: 2\n", "f.yaml")
    assert document.mark(("a", 0, "c")) == Mark(3, 8)
    assert document.mark(("a", 0, "c"), key=True) == Mark(3, 5)
    assert document.mark(("a", 0, "missing")) == Mark(2, 5)
    assert field_name(("a", 0, "b\x1b", "c")) == "a[0].'b\\x1b'.c"


def test_words_for_people() -> None:
    assert nearest("acel", ["accel", "cpus"]) == "accel"
    assert nearest("ACCEL", ["accel"]) == "accel"
    assert nearest("zzz", ["accel"]) == ""
    assert nearest(5, ["accel"]) == ""
    assert "\x1b" not in short("\x1b[31m" + "x" * 1000)
    assert len(short("x" * 1000)) < 70


_SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(max_size=12)
_DATA = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.recursive(
        _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_size=4,
)


@given(data=_DATA)
@settings(max_examples=150, deadline=None)
def test_json_is_read_as_it_is(data: dict[str, Any]) -> None:
    """Every JSON document is YAML; quoted text keeps its meaning, whatever it looks like."""
    if "\\u0000" in (text := json.dumps(data)) or "\\ud" in text:
        return
    assert read(text) == data


@given(text=st.text(max_size=60) | st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
@example(text="? ")
@example(text="%YAML 9.9\n---\na: b")
@example(text="&a")
@example(text="- - -\n -")
def test_no_text_breaks_it(text: str | bytes) -> None:
    """Whatever is given, there is a document or a list of problems, never another exception."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    for problem in problems(raw):
        assert str(problem).isprintable()


@given(word=st.text(st.sampled_from("0123456789abefx_:.+-oO nyNYtrusl~TF"), min_size=1, max_size=8))
@settings(max_examples=500, deadline=None)
def test_an_accepted_word_means_the_same_to_every_reader(word: str) -> None:
    """What is taken without complaint is read alike by YAML 1.1 (PyYAML)."""
    if word.strip() != word or (word[0] in "-:?~" and len(word) == 1):
        return
    value, instead = plain(word)
    if instead:
        return
    try:
        usual = yaml.safe_load(f"[{word}]")
    except yaml.YAMLError:
        return
    if isinstance(usual[0], dict) or len(usual) != 1:
        return
    assert usual == [value]
    assert type(usual[0]) is type(value)
