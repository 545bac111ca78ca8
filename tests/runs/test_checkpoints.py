"""When a run takes a checkpoint by itself."""

from __future__ import annotations

import pytest

from tests.runs.samples import plan
from vmlab_tui.hosts.model import HostFacts
from vmlab_tui.runs.checkpoints import told, worth_it
from vmlab_tui.runs.prepare import Prepared
from vmlab_tui.spec.env import RunEnv
from vmlab_tui.spec.profile import LoadedProfile
from vmlab_tui.verbs.run import plan_lines


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


def steps(*marked: bool) -> list[dict[str, object]]:
    return [
        {"kind": "run", "name": f"step {at}", "script": "true", "timeout": 60, "checkpoint": one}
        for at, one in enumerate(marked)
    ]


@pytest.mark.parametrize(
    ("policy", "marked", "words"),
    [
        ("auto", 0, "auto: after the clean boot and at the end, after no marked steps, and before a step"),
        ("auto", 1, "after 1 marked step, and"),
        ("named", 2, "named: after the clean boot and at the end, after 2 marked steps"),
        ("none", 0, "none: only after the clean boot and at the end"),
        ("none", 2, "none: only after the clean boot and at the end, not after 2 marked steps"),
    ],
)
def test_the_plan_says_which_there_will_be_and_after_which_steps(
    policy: str, marked: int, words: str
) -> None:
    made = plan(steps=steps(*[True] * marked, False)).model_copy(update={"checkpoints": policy})
    assert words in told(made)
    assert told(made).endswith(words) or policy == "auto"
    facts = HostFacts("test:///default", (9, 0, 0), (7, 2, 0), 0, 0, 2, 1 << 34, 1 << 33)
    loaded = LoadedProfile(made.profile, made.profile_file, made.profile_file.parent, b"")
    lines = plan_lines(Prepared(made, loaded, RunEnv({}, {}, ()), facts, ()))
    assert sum(line.endswith("then a checkpoint") for line in lines) == (0 if policy == "none" else marked)
