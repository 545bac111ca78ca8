"""Foreign text: whatever goes in, only harmless characters come out."""

from __future__ import annotations

import itertools
import re
import resource
import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmlab_tui.base.text import LINE_LIMIT, Cleaner, clean, clean_line

SGR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
PIECES = [
    *(b"\x1b", b"\x1b[", b"\x1b]", b"\x1bP", b"\x1b\\", b"\x9b", b"\xc2\x9b", b"\xc2\x9d", b"\xc2\x9c"),
    *(b"\xc2\x85", b"\x07", b"31", b";", b"m", b"H", b"?25l", b"\r", b"\n", b"\t", b"\x7f", b"\x00", b"\xff"),
    *("\u202e".encode(), "\u2028".encode(), "\u200b".encode(), "é".encode(), "漢".encode(), b"\xe6\xbc"),
    *(b"text", b"\xed\xa0\x80", b"\x1b[1;31m", b"\x1b[0m", b"\x1b]0;title\x07", b"\x1b(B", b" ", b"[/red]"),
    *(b"\x18", b"0;evil", b"\xf0\x9f"),
]
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=30).map(b"".join)


def harmless(text: str, *, sgr: bool = False) -> None:
    if sgr:
        text = SGR.sub("", text)
    for char in text:
        assert char in "\n\t" or unicodedata.category(char)[0] not in "CZ" or char == " ", repr(char)
    assert not set(text) & set(BIDI)
    assert max(map(len, text.split("\n"))) <= LINE_LIMIT


def in_chunks(raw: bytes, cuts: list[int], *, sgr: bool, limit: int = LINE_LIMIT) -> str:
    cleaner = Cleaner(sgr=sgr, line_limit=limit)
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    fed = [cleaner.feed(raw[a:b]) for a, b in itertools.pairwise(edges)]
    return "".join([*fed, cleaner.finish()])


@settings(max_examples=400, deadline=None)
@given(hostile, st.booleans())
@example("".join(map(chr, range(0x3000))).encode("utf-8", "surrogatepass"), False)
@example(bytes(range(256)) * 3, True)
def test_only_harmless_characters_come_out(raw: bytes, sgr: bool) -> None:
    text = clean(raw, sgr=sgr)
    harmless(text, sgr=sgr)
    assert clean(text, sgr=sgr) == text


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_text_of_any_characters(raw: str) -> None:
    harmless(clean(raw))
    line = clean_line(raw, 40)
    harmless(line)
    assert "\n" not in line and "\t" not in line and len(line) <= 40


@settings(max_examples=400, deadline=None)
@given(hostile, st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_chunks_make_no_difference(raw: bytes, cuts: list[int], sgr: bool) -> None:
    assert in_chunks(raw, cuts, sgr=sgr) == clean(raw, sgr=sgr)


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("sgr", [False, True])
def test_every_single_cut(piece: bytes, sgr: bool) -> None:
    raw = b"a" + piece + b"b\x1b[3" + piece + b"1mc\r\r\nd" + piece + b"\x1b\\e"
    whole = clean(raw, sgr=sgr)
    for cut in range(len(raw) + 1):
        assert in_chunks(raw, [cut], sgr=sgr) == whole, cut
    assert in_chunks(raw, list(range(len(raw))), sgr=sgr) == whole


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["x" * 127, "y" * 128, "z" * 129, "\x1b[1;31m", "\n", "é" * 70, "\t"]), max_size=12
    ),
    st.lists(st.integers(0, 10_000), max_size=12),
)
@example(["x" * 127, "\x1b[1;31m", "y" * 128, "\x1b[1;31m"], [])
def test_lines_are_split_the_same_in_any_chunks(words: list[str], cuts: list[int]) -> None:
    raw = "".join(words).encode()
    text = in_chunks(raw, cuts, sgr=True, limit=128)
    assert text == in_chunks(raw, [], sgr=True, limit=128)
    assert max(map(len, text.removesuffix("\x1b[0m").split("\n"))) <= 128
    assert "\x1b" not in SGR.sub("", text)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\xc2\x9b31mred", "red"),
        (b"a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c", "abc"),
        (b"a\xc2\x9d0;title\xc2\x9cb", "ab"),
        (b"\x1bPq#0;2\x1b\\x\x1b^pm\x1b\\y\x1b_apc\x1b\\z", "xyz"),
        (b"one\r\ntwo\r\r\nthree\rfour", "one\ntwo\nthree\nfour"),
        (b"\x1b[2J\x1b[1;1Hfake prompt", "fake prompt"),
        (b"\x1b(0\x0elqk\x0f\x1bc", "lqk"),
        (b"caf\xe9 \xff", "caf\ufffd \ufffd"),
        ("abc\u202etxt.exe\u2066".encode(), "abctxt.exe"),
        ("a\u00a0b\u2028c".encode(), "a b\nc"),
        (b"\x1b]0;never ends", ""),
        (b"\x1b]0;cut\noff", "0;cut\noff"),
        (b"[red]\\[@click=app.quit]", "[red]\\[@click=app.quit]"),
        (b"back\x08space\x7f", "backspace"),
    ],
)
def test_examples(raw: bytes, expected: str) -> None:
    assert clean(raw) == expected


def test_colours_are_kept_when_asked_and_end() -> None:
    assert clean(b"\x1b[1;31mred\x1b[0m ok", sgr=True) == "\x1b[1;31mred\x1b[0m ok"
    assert clean(b"\xc2\x9b38:5:1mred", sgr=True) == "\x1b[38:5:1mred\x1b[0m"
    assert clean(b"\x1b[>4;1m\x1b[?1m\x1b[31 m\x1b[" + b"1;" * 100 + b"m", sgr=True).count("\x1b") == 0


def test_one_line_for_labels() -> None:
    assert clean_line(b"  web\n\t\x1b[31mserver\r\n") == "web server"
    assert clean_line("x" * 300, 10) == "x" * 9 + "…"
    assert clean_line(b"\x1b[31m" * 100_000 + b"x", 20).endswith("…")


SHAPES = {
    "one line": b"a" * 65536,
    "two bytes a character": "é".encode() * 32768,
    "escapes": b"\x1b" * 65536,
    "title that never ends": b"\x1b]0;" + b"x" * 65532,
    "string starts": b"\xc2\x9d" * 32768,
    "long parameters": (b"\x1b[" + b"1;" * 40) * 800,
    "invalid": b"\xff\xc2" * 32768,
}
PROGRAM = """
import resource, sys
from vmlab_tui.base.text import Cleaner
chunk = sys.stdin.buffer.read()
cleaner, longest = Cleaner(sgr=True), 0
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(50_000_000 // len(chunk)):
    longest = max(longest, *map(len, cleaner.feed(chunk).split("\\n")), 0)
cleaner.finish()
assert longest <= 4096, longest
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_50_mb_line_takes_bounded_memory_and_time(shape: str) -> None:
    """Limits are wide (about 10 times what it takes): they catch growth, not noise."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=SHAPES[shape], capture_output=True, timeout=300, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) < 16_000, "kilobytes more than at the start"
    assert after.ru_utime - before.ru_utime < 60


def test_byte_by_byte_is_not_quadratic() -> None:
    cleaner = Cleaner()
    start = time.process_time()
    for byte in b"\x1b]0;" + b"x" * 20_000:
        cleaner.feed(bytes((byte,)))
    assert time.process_time() - start < 5
