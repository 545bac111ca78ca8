"""The registry is the one source of commands, keys and help: nothing in it may clash or be missing."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import click
import pytest

from vmlab_tui.cli.app import make
from vmlab_tui.hosts.model import Power
from vmlab_tui.verbs.registry import GROUPS, VERBS, by_id
from vmlab_tui.verbs.verb import AREAS, Kind, Verb

every = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.id)


def twice(values: list[object]) -> list[object]:
    return [value for value, count in Counter(values).items() if count > 1]


def test_ids_and_words_are_unique() -> None:
    assert not twice([verb.id for verb in VERBS])
    assert not twice([verb.words for verb in VERBS])
    assert all(by_id(verb.id) is verb for verb in VERBS)


def test_a_key_means_one_thing_in_an_area() -> None:
    keys: list[object] = [
        (area, verb.key, kind, power)
        for verb in VERBS
        for area in verb.areas
        if verb.key
        for kind in acts_on(verb)
        for power in Power
        if verb.applies(power)
    ]
    assert not twice(keys)


def acts_on(verb: Verb) -> tuple[str, ...]:
    """What the selection must be for its key: a snapshot that is named anew is made of a VM."""
    named = [param for param in verb.params if param.positional and param.names]
    snapshots = [param for param in named if param.names == "snapshot"]
    if not (snapshots or named):
        return ("vm", "run", "snapshot", "image")
    subject = (snapshots or named)[0]
    if verb.at_snapshots:
        return (subject.names, "snapshot")
    return ("vm",) if subject.names == "snapshot" and not subject.required else (subject.names,)


@every
def test_a_verb_says_what_it_is(verb: Verb) -> None:
    assert 10 < len(verb.help) <= 72
    assert not verb.help.endswith(".")
    assert verb.examples
    assert set(verb.areas) <= set(AREAS)
    assert verb.id in (".".join(verb.words), f"vm.{verb.words[0]}")
    assert len(verb.words) == 1 or verb.words[0] in GROUPS
    assert verb.key == "" or verb.areas


@every
def test_a_capital_key_is_one_that_loses_something(verb: Verb) -> None:
    single = len(verb.key) == 1
    if verb.id == "vm.screenshot":
        assert verb.key == "V"  # beside v, which shows the same elsewhere
        return
    assert (single and verb.key.isupper()) == verb.loses, "capitals lose something, others do not"


@every
def test_what_confirms_has_a_preview(verb: Verb) -> None:
    assert (verb.loses or verb.confirms) == (type(verb).preview is not Verb.preview)


@every
def test_parameters_are_described_and_do_not_clash(verb: Verb) -> None:
    assert not twice([param.name for param in verb.params])
    assert not twice([param.short for param in verb.params if param.short])
    for param in verb.params:
        assert param.help.endswith("."), param.name
        assert bool(param.choices) == (param.kind is Kind.CHOICE)
        assert param.name not in ("json", "yes", "as_json"), "made by the command line itself"
    positional = [param for param in verb.params if param.positional]
    assert all(param.required for param in positional[:-1]), "only the last one may be left out"


@every
def test_examples_parse(verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("disk.qcow2", "web.yaml", "my-recipe.yaml"):
        (tmp_path / name).touch()
    for command, _ in verb.examples:
        words = shlex.split(command.partition(" > ")[0])
        assert words[0] == "vmlab"
        at: click.Command = make()
        assert words[1 : 1 + len(verb.words)] == list(verb.words)
        for word in verb.words:
            assert isinstance(at, click.Group)
            at = at.commands[word]
        assert at.make_context("vmlab", words[1 + len(verb.words) :])


@every
def test_commands_that_texts_name_exist(verb: Verb) -> None:
    """A help text that tells to run `vmlab something` names a command there is."""
    known = {" ".join(other.words) for other in VERBS}
    for text in (verb.long_help, *(command for command, _ in verb.examples)):
        for first, second in re.findall(r"\bvmlab\s+(?!--)([a-z]+)(?:\s+([a-z]+))?", text):
            assert first in known or f"{first} {second}" in known, f"vmlab {first} {second}"
