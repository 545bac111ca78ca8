"""The search for a statement, and where statements end by the word of real shells."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

import pytest

from vmlab_tui.runs.bisect import candidates, first_bad, parser

SCRIPT = """\
# a comment
echo one

if true; then
  echo two
fi
cat >/tmp/x <<E
echo not a statement
E
echo a \\
  b
echo 'over
two lines' | cat
f() {
  echo f
}
true &&
  f
"""


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_a_statement_ends_where_the_shell_says_so(shell: str) -> None:
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"no {shell} here")
    done = subprocess.run(
        ["sh", "-c", parser(SCRIPT, shell)], input=f"{SCRIPT}\n", text=True, capture_output=True, check=True
    )
    assert done.stdout.split() == ["2", "6", "9", "11", "13", "16", "18", "end"]


def test_lines_at_which_nothing_can_end() -> None:
    assert candidates("a\n\n# b\nc \\\nd\ne \\\\\n") == [1, 5, 6]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 30, 100])
async def test_the_first_bad_one_is_found(count: int) -> None:
    for bad in range(1, count + 1):
        rounds = 0

        async def holds(points: Sequence[int], bad: int = bad) -> list[bool]:
            nonlocal rounds
            rounds += 1
            assert 1 <= len(points) <= 2
            assert all(0 < point < count for point in points), "both ends are known already"
            return [point < bad for point in points]

        assert await first_bad(count, holds) == bad
        assert rounds <= 5
