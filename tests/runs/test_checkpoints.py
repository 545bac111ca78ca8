"""When a run takes a checkpoint by itself."""

from __future__ import annotations

import pytest

from vmlab_tui.runs.checkpoints import worth_it


@pytest.mark.parametrize(
    ("cost", "usual", "since", "worth"),
    [
        (1.0, 19.0, 0.0, False),
        (1.0, 21.0, 0.0, True),
        (1.0, None, 19.0, False),
        (1.0, None, 21.0, True),
        (1.0, 5.0, 21.0, True),
        (0.2, None, 0.0, False),
    ],
)
def test_it_costs_less_than_a_twentieth_of_what_it_may_save(
    cost: float, usual: float | None, since: float, worth: bool
) -> None:
    assert worth_it(cost, usual, since) is worth
