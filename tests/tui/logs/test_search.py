"""What is found in a log, and what looks like an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.tui.logs.search import ErrorMatcher, Finder, Matcher, TextMatcher, looks_like_error
from vmlab_tui.tui.logs.source import FileSource, LinesSource


@pytest.mark.parametrize(
    "line",
    [
        "E: Unable to locate package xrdp",
        "error: linker `cc` not found",
        "make: *** [all] Error 2",
        "npm ERR! code ELIFECYCLE",
        "Traceback (most recent call last):",
        "ValueError: invalid literal for int()",
        "java.lang.NullPointerException: x",
        "fatal: not a git repository",
        "Kernel panic - not syncing: VFS",
        "[FAILED] Failed to start nginx.service.",
        "2026-01-02 13:14:15 CRITICAL disk is full",
        "Job for nginx.service failed because the control process exited with error code.",
        "cp: cannot stat 'x': No such file or directory",
        "bash: foo: command not found",
        "a.out[12]: segfault at 0 ip 00",
        "Permission denied (publickey).",
        "Build failed",
        "tests: 3 failed, 10 passed",
        "2 errors generated.",
        "ok=3 changed=1 unreachable=0 failed=1",
        "Tests run: 12, errors: 2",
        "mount failed: error: 5.1 is too old",
        "error: 404 not found",
    ],
)
def test_looks_like_an_error(line: str) -> None:
    assert looks_like_error(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0 errors, 0 warnings",
        "error=0",
        "error=1",
        "[    0.41] pcieport 0000:00:01.0: AER: enabled, error=1",
        "cfg debug=0 error=1",
        "errors: 3",
        "errors: 0, tests: 4",
        "total 7, error=0",
        "errors: 0",
        "error: none",
        "tests: 0 failed, 10 passed",
        "failed=0",
        "changed=3 unreachable=0 failed=0",
        "no errors found",
        "Setting up libgpg-error0:amd64 (1.46-1) ...",
        "Unpacking libc-error-pages ...",
        "Selecting package terror-game",
        "Setting up fail2ban (1.0.2-2) ...",
        "mirror.example.org",
        "completed without errors",
        "installing /usr/share/error.html",
    ],
)
def test_does_not_look_like_an_error(line: str) -> None:
    assert not looks_like_error(line)


lines = st.lists(
    st.sampled_from(["", "abc", "ABC", "xabcabc", "a b c", "straße", "error: x", "é"]), max_size=20
)


@settings(max_examples=200, deadline=None)
@given(lines, st.sampled_from(["abc", "ABC", "a", "ss", "É", "é", " ", "zzz"]))
def test_lines_in_a_block_are_those_with_spans(block: list[str], text: str) -> None:
    matchers: list[Matcher] = [TextMatcher(text), ErrorMatcher()]
    for matcher in matchers:
        found = list(matcher.lines("\n".join(block)))
        assert found == [number for number, line in enumerate(block or [""]) if matcher.spans(line)]


def test_capitals_count_only_if_there_are_some() -> None:
    assert TextMatcher("abc").spans("xABCabc") == [(1, 4), (4, 7)]
    assert TextMatcher("Abc").spans("abc Abc") == [(4, 7)]
    assert TextMatcher("a.c[").spans("abc a.c[") == [(4, 8)]


async def until(true: Callable[[], bool], seconds: float = 10) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        await asyncio.sleep(0.01)


def log(path: Path, count: int) -> FileSource:
    path.write_text("".join(f"line {number}\n" for number in range(count)))
    source = FileSource(path)
    while source.poll():
        pass
    return source


async def test_hits_in_order_from_anywhere(tmp_path: Path) -> None:
    source = log(tmp_path / "log", 20_000)
    finder = Finder(source, TextMatcher("77"), 10_000, lambda _: None)
    try:
        await until(lambda: finder.done)
        hits = [number for number in range(20_000) if "77" in str(number)]
        assert finder.hits == len(hits)
        assert [finder.rank(hit) for hit in hits] == list(range(1, len(hits) + 1))
        assert finder.rank(1) == 0
        for line in (-1, 0, 77, 78, 9_999, 10_000, 12_345, 19_999):
            assert finder.next(line) == next((hit for hit in hits if hit > line), None), line
            assert finder.previous(line) == next((hit for hit in reversed(hits) if hit < line), None), line
    finally:
        finder.cancel()


async def test_lines_that_come_later_are_found_too(tmp_path: Path) -> None:
    source = log(tmp_path / "log", 10)
    finder = Finder(source, TextMatcher("late"), 0, lambda _: None)
    try:
        await until(lambda: finder.done)
        assert finder.hits == 0
        with (tmp_path / "log").open("a") as file:
            file.write("x\nit is la")
        source.poll()
        await asyncio.sleep(0.3)
        with (tmp_path / "log").open("a") as file:
            file.write("te\nlate")
        source.poll()
        await until(lambda: finder.hits == 2)
        assert finder.next(0) == 11
        assert finder.next(11) == 12
    finally:
        finder.cancel()


async def test_colours_do_not_hide_a_word(tmp_path: Path) -> None:
    source = LinesSource()
    source.append("\x1b[31mer\x1b[1mror\x1b[0m: x")
    finder = Finder(source, TextMatcher("error"), 0, lambda _: None)
    try:
        await until(lambda: finder.done)
        assert finder.hits == 1
    finally:
        finder.cancel()


async def test_a_cancelled_search_tells_nothing_more(tmp_path: Path) -> None:
    source = log(tmp_path / "log", 200_000)
    told: list[Finder] = []
    finder = Finder(source, TextMatcher("line"), 0, told.append)
    finder.cancel()
    await asyncio.sleep(0.3)
    assert not finder.done or finder.hits < 200_000
    assert len(told) <= 1
