"""Names and ids."""

from __future__ import annotations

import re

import pytest

from vmlab_tui.base.ids import is_name, new_mac, new_run_id, new_uuid


@pytest.mark.parametrize("name", ["a", "debian-12", "Web_2.local", "x" * 63, "0"])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a..b", "a/b", "a b", "x" * 64, "é", "a\n", "a\x1b", "a\u202e", "$(id)", "[red]"]
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_ids_are_different_and_safe() -> None:
    assert len({new_uuid() for _ in range(50)}) == 50
    assert len({new_run_id("p") for _ in range(20)}) > 15
    assert is_name(new_run_id("x" * 60))
    assert all(re.fullmatch("52:54:00(:[0-9a-f]{2}){3}", new_mac()) for _ in range(20))
