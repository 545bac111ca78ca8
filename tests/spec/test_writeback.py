"""A script goes back into the profile, and a person's own comments and layout stay."""

from __future__ import annotations

import textwrap

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.base.errors import LabError
from vmlab_tui.spec.writeback import replace_script

PROFILE = """\
# my profile
schema: 1
name: web     # the name
steps:
  - copy: {from: ./site, to: /srv}   # first
  - name: install
    # what it needs
    run: |
      apt-get update
      apt-get install -y xrdp   # the server

      systemctl enable xrdp
    timeout: 2m    # enough

  - run: echo short   # a remark
  - {name: flow, run: "echo {braces}", timeout: 5s}
  -   name: deep
      run: >
          folded
          text
# the end
checks: []
"""
OLD = "apt-get update\napt-get install -y xrdp   # the server\n\nsystemctl enable xrdp\n"


def scripts(text: str) -> list[str | None]:
    return [step.get("run") for step in yaml.safe_load(text)["steps"]]


def changed_lines(text: str) -> list[str]:
    before, after = PROFILE.split("\n"), text.split("\n")
    return [line for line in before if line not in after]


def test_a_block_keeps_its_place_and_all_around_it() -> None:
    new = replace_script(PROFILE, 1, OLD.replace("xrdp   # the server", "tigervnc"), expect=(OLD,))
    assert new == PROFILE.replace("xrdp   # the server", "tigervnc")


@pytest.mark.parametrize(
    "script",
    [
        "one\n",
        "one",
        "  indented first\nthen not\n",
        "\n\nafter nothing\n",
        "a\n\n\nb: 'c'\n",
        "\ttab\n",
        "# only a remark\n",
    ],
)
@pytest.mark.parametrize("index", [1, 2, 3, 4])
def test_any_script_fits_every_form(index: int, script: str) -> None:
    new = replace_script(PROFILE, index, script)
    found = scripts(new)
    assert found[index] in (script, script.rstrip("\n") + "\n")
    assert [one for place, one in enumerate(found) if place != index] == [
        one for place, one in enumerate(scripts(PROFILE)) if place != index
    ]
    for remark in ("# my profile", "# the name", "# first", "# what it needs", "# enough", "# the end"):
        assert remark in new


def test_a_control_character_is_quoted_and_comes_back() -> None:
    script = "printf 'a\x1b[31mb'\n"
    assert scripts(replace_script(PROFILE, 1, script))[1] == script


def test_what_has_changed_meanwhile_or_is_no_script_stays() -> None:
    with pytest.raises(LabError, match="has changed meanwhile"):
        replace_script(PROFILE, 1, "x", expect=("something else",))
    with pytest.raises(LabError, match="no script any more"):
        replace_script(PROFILE, 0, "x")
    with pytest.raises(LabError, match="no script any more"):
        replace_script(PROFILE, 9, "x")
    with pytest.raises(LabError, match="file of its own"):
        replace_script("steps:\n  - run: {file: a.sh}\n", 0, "x")


_LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(_LINES, min_size=1, max_size=6), index=st.integers(1, 4))
def test_whatever_comes_back_is_what_was_written_or_an_error(lines: list[str], index: int) -> None:
    script = "\n".join(lines)
    try:
        new = replace_script(PROFILE, index, script)
    except LabError:
        return
    assert scripts(new)[index] in (script, script.rstrip("\n") + "\n")
    assert len(scripts(new)) == 5


def test_the_rest_of_a_profile_is_untouched_to_the_letter() -> None:
    new = replace_script(PROFILE, 3, "echo other")
    assert new == PROFILE.replace('"echo {braces}"', '"echo other"')
    assert textwrap.dedent(new) == new
