"""``--set key=value``: single values of a document replaced for one run."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vmlab_tui.base.errors import UsageError
from vmlab_tui.spec.loader import Document, parse_yaml
from vmlab_tui.spec.problems import Place, Problem, short


def parse_sets(pairs: tuple[str, ...] | list[str]) -> dict[str, str]:
    """``["vm.memory=2GiB"]`` to a mapping. Raises UsageError for a word without ``=`` or a key twice."""
    out: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {short(pair)}: it has no '='", hint="write --set vm.memory=2GiB")
        if key in out:
            raise UsageError(f"--set {key} is given twice", hint="give it once")
        out[key] = value
    return out


def apply_sets(document: Document, sets: Mapping[str, str]) -> Document:
    """The document with every ``key: value`` put in; a problem with one names the option, not the file.

    A value is read as YAML, except under an ``env`` mapping, where it is text as it stands. A key
    that leads nowhere is a problem of the document (whether a field exists is for the model to say).
    """
    if not sets:
        return document
    data, given = copy.deepcopy(document.data), dict(document.given)
    suspect, problems = set(document.suspect), list(document.problems)
    if not isinstance(data, dict):
        return document
    for key, value in sets.items():
        label, place = f"--set {key}", _place(key)
        if len(place) > 1 and place[-2] == "env":
            new: Any = value
        else:
            read = parse_yaml(value.encode("utf-8", "surrogateescape"), label)
            new = read.data
            problems += [replace(one, line=0, column=0, field=key) for one in read.problems]
            if read.problems:
                suspect.add(place)
        if trouble := _put(data, place, new):
            problems.append(Problem(label, 0, 0, key, *trouble))
            continue
        given[place] = label
        if place in document.suspect:  # what the file had there no longer counts
            suspect.discard(place)
    return replace(document, data=data, given=given, suspect=frozenset(suspect), problems=tuple(problems))


def _place(key: str) -> Place:
    """``steps[0].timeout`` and ``steps.0.timeout`` alike."""
    words = re.sub(r"\[(\d{1,6})\]", r".\1", key).split(".")
    return tuple(int(word) if re.fullmatch(r"[0-9]{1,6}", word) else word for word in words)


def _put(data: Any, place: Place, value: Any) -> tuple[str, str] | None:
    """Put ``value`` in; what was found and what is allowed when there is no such place."""
    here = data
    for position, part in enumerate(place):
        last = position == len(place) - 1
        if isinstance(here, list):
            if not isinstance(part, int) or part >= len(here):
                return short(
                    part
                ), f"a number from 0 to {len(here) - 1}" if here else "nothing: the list is empty"
        elif isinstance(here, dict):
            part = str(part)  # noqa: PLW2901
            if part not in here and not last:
                here[part] = {}
        else:
            return short(here), "a key inside a mapping or list"
        if last:
            here[part] = value
        else:
            here = here[part]
    return None
