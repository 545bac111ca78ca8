"""Sizes and durations, both ways."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab_tui.base.units import duration, parse_duration, parse_size, size, span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1GiB", 1 << 30),
        ("512M", 512 << 20),
        ("512 mib", 512 << 20),
        ("20GB", 20_000_000_000),
        ("1.5G", 3 << 29),
        ("2T", 2 << 40),
        ("100", 100),
        ("7B", 7),
        (4096, 4096),
        (" 1k ", 1024),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "1 G B", "1e9", "1X", "1GiB extra", "0x10", True])
def test_bad_sizes_say_what_is_allowed(text: str | int) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2m", 120),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("24h", 86400),
        ("1d 2h", 93600),
        (90, 90),
        (0.5, 0.5),
    ],
)
def test_durations(text: str | float, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "2m30", "-1s", "1w", "1h, 2m", "s1", True])
def test_bad_durations_say_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1000B"),
        (1536, "1.5K"),
        (100 << 10, "100K"),
        (532 << 20, "532M"),
        (1 << 30, "1.0G"),
        (5 << 40, "5.0T"),
    ],
)
def test_size_as_shown(count: int, expected: str) -> None:
    assert size(count) == expected


@given(st.integers(0, 1 << 49))
def test_a_shown_size_is_short_and_close(count: int) -> None:
    text = size(count)
    assert len(text) <= 6
    assert abs(parse_size(text) - count) <= max(60, count * 0.06)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.31, "0.3s"), (41.2, "41.2s"), (134, "2:14"), (3734, "1:02:14"), (60, "1:00")]
)
def test_duration_as_shown(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@given(st.floats(0, 360_000))
def test_a_shown_duration_is_one_of_three_forms(seconds: float) -> None:
    assert re.fullmatch(r"[0-5]?\d\.\ds|[1-5]?\d:[0-5]\d|\d+:[0-5]\d:[0-5]\d", duration(seconds))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (40, "40 s"),
        (90, "2 min"),
        (720, "12 min"),
        (79200, "22 h"),
        (86400, "24 h"),
        (259200, "3 d"),
        (-5, "0 s"),
    ],
)
def test_span_as_shown(seconds: float, expected: str) -> None:
    assert span(seconds) == expected
