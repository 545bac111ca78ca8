"""What of a guest's console reaches a terminal."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab_tui.base.terminal import RESET, TerminalFilter

GOOD = [
    "plain text, äöü 日本\r\n\tand\bmore\x07",
    "\x1b[2J\x1b[H\x1b[1;31mred\x1b[0m\x1b[10;20H\x1b[K",
    "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[1;24r\x1b[4h\x1b[2 q\x1b[!p",
    "\x1b7\x1b8\x1bM\x1b(B\x1b)0\x0e\x0f\x1b#8\x1b=\x1b>\x1bc",
    "\x1b[38:2::1:2:3mcolour\x1b[38;5;12m",
]
BAD = [
    "\x1b]52;c;aGVsbG8=\x07",  # the clipboard
    "\x1b]0;title\x07",
    "\x1b]2;title\x1b\\",
    "\x1b]8;;http://x\x1b\\",
    "\x1bP+q544e\x1b\\",
    "\x1bPtmux;\x1b\\",
    "\x1b_Gf=24;AAAA\x1b\\",
    "\x1b^private\x1b\\",
    "\x1bXstring\x1b\\",
    "\x1b[6n",  # questions
    "\x1b[c",
    "\x1b[>c",
    "\x1b[?1$p",
    "\x1b[18t",
    "\x1b[21t",
    "\x1b[x",
    "\x1b[>q",
    "\x1b[?u",
    "\x1b[>1u",
    "\x1b[?4m",
    "\x1b[>4;2m",
    "\x1b[?1;1;0S",
    "\x1bZ",
    "\x05",
    "\x1b[5i",  # the printer
    "\x1b[?2026h",
    "\x9b6n",
    "\x9d52;c;aGVsbG8=\x9c",
    '\x1b[1"q',
    "\x1b\x1b[6n",
    "\x00\x7f\x13\x11\x18",
]


def passed(data: bytes, *cuts: int) -> bytes:
    one = TerminalFilter()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(one.feed(data[start:end]) for start, end in itertools.pairwise(edges))


@pytest.mark.parametrize("text", GOOD)
def test_a_console_works(text: str) -> None:
    assert passed(text.encode()).decode() == text


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_console_s_business_stays_out(text: str) -> None:
    shown = passed(f"a{text}b".encode()).decode()
    assert shown[0] + shown[-1] == "ab"
    assert not re.search("[\x00-\x1f\x7f-\x9f]", shown)


def test_only_known_modes_are_set() -> None:
    assert passed(b"\x1b[?25;2031;1049h") == b"\x1b[?25;1049h"


def test_what_is_no_text_is_replaced() -> None:
    assert passed(b"\xff\x9bm\xc2\x9b6n") == "��m6n".encode()


@given(
    st.lists(st.sampled_from([*GOOD, *BAD, "x", "\x1b", "\x1b["])).map("".join), st.lists(st.integers(0, 500))
)
def test_chunks_make_no_difference(text: str, cuts: list[int]) -> None:
    whole = passed(text.encode())
    assert passed(text.encode(), *cuts) == whole
    for bad in ("\x1b]", "\x1bP", "\x1b_", "\x1b[6n", "\x1b[c", "\x1bZ", "\x05"):
        assert bad not in whole.decode()


def test_the_reset_itself_passes() -> None:
    assert passed(RESET.encode()).decode() == RESET
