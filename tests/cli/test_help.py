"""Help texts as they stand in files: a change of one is seen. UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmlab_tui.base.errors import Exit
from vmlab_tui.cli.app import make
from vmlab_tui.cli.commands import EXITS
from vmlab_tui.verbs.registry import GROUPS, VERBS

GOLDEN = Path(__file__).parent / "golden"
PAGES = [(), *((group,) for group in GROUPS), *(verb.words for verb in VERBS)]


def page(words: tuple[str, ...]) -> str:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(make(), [*words, "--help"], terminal_width=80)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("words", PAGES, ids=lambda words: "-".join(words) or "vmlab")
def test_help_is_as_written(words: tuple[str, ...]) -> None:
    path = GOLDEN / f"{'-'.join(words) or 'vmlab'}.txt"
    text = page(words)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
    long = [line for line in text.splitlines() if len(line) > 80]
    assert not long, "lines that do not fit 80 columns"


def test_no_page_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {"-".join(words) or "vmlab" for words in PAGES}


@pytest.mark.parametrize("words", [(), ("run",), ("runs", "wait"), ("runs", "resume")])
def test_exit_codes_are_documented(words: tuple[str, ...]) -> None:
    text = page(words)
    for code in Exit:
        assert f"\n  {int(code):<3}  " in text
    assert [int(code) for code, _ in EXITS] == sorted(int(code) for code in Exit)


def test_every_command_has_both_names_of_help() -> None:
    for words in PAGES:
        assert "-h, --help" in page(words)
