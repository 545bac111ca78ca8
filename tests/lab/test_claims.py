"""The rules about what counts as garbage, each against its words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import product

from vmlab_tui.hosts.model import Power
from vmlab_tui.images.store import Image
from vmlab_tui.lab.claims import (
    GRACE,
    Claim,
    ImageRule,
    Policy,
    RunFact,
    of_images,
    of_runs,
    of_templates,
    of_trash,
    of_vm,
)
from vmlab_tui.lab.leases import Lease
from vmlab_tui.lab.reach import Action
from vmlab_tui.lab.trash import Entry

NOW = 1_900_000_000.0
DAY = 86400.0
SOON, LONG = GRACE / 2, 10 * GRACE


def iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class VmCase:
    """A lease, a power and a run; what the code says of them."""

    lease: Lease
    power: Power | None
    run: RunFact | None
    claim: Claim

    @property
    def expired(self) -> bool:
        return self.lease.expires in (iso(NOW - 60), iso(NOW - 9e5))

    @property
    def lives(self) -> bool:
        """In the words of the rules: its run is live or paused, its lease is alive or keeps it, or nobody can
        say that it is dead: the run cannot be read, or was interrupted or made just now."""
        lease, run = self.lease, self.run
        if lease.expires == iso(NOW + 9e5) or lease.expires == "soon" or (lease.keep and not lease.expires):
            return True
        if run is None:
            return lease.created == iso(NOW - SOON) and not (self.expired and self.power is not None)
        waits = not run.over and (run.paused_until > NOW or run.updated > NOW - GRACE)
        if run.problem and not run.live:  # its lease alone says enough to stop it, not to remove it
            return not (self.expired and self.power not in (None, Power.OFF, Power.CRASHED))
        return run.live or waits


@cache
def vm_cases() -> list[VmCase]:
    """Every kind of lease with every power and every kind of run."""
    ends = (None, "soon", iso(NOW - 60), iso(NOW - 9e5), iso(NOW + 9e5))
    leases = [
        Lease(
            uuid="u",
            name="n",
            run_id="r",
            profile="p",
            image="i",
            owner="o",
            created=iso(NOW - age),
            expires=end,
            keep=keep,
        )
        for age, end, keep in product((SOON, LONG), ends, (False, True))
    ]
    runs = [
        RunFact("r", live, over, 0.0, NOW - age, 0.0 if over else pause, problem=problem)
        for live, over, age, pause, problem in product(
            (False, True), (False, True), (SOON, LONG), (0.0, NOW - 60, NOW + 60), ("", "torn")
        )
    ]
    return [
        VmCase(lease, power, run, of_vm(lease, power, run, NOW))
        for lease, power, run in product(leases, (None, *Power), (None, *runs))
    ]


def test_a_vm_is_claimed_if_and_only_if_nothing_in_the_words_of_the_rules_keeps_it() -> None:
    for case in vm_cases():
        if case.lives:
            assert case.claim.root, case
            assert not case.claim.rule, case
        else:
            assert case.claim.rule, case
            assert case.claim.why, case
            assert not case.claim.root, case


def test_what_runs_past_its_lease_is_stopped_and_nothing_else_is() -> None:
    for case in vm_cases():
        runs = case.power not in (None, Power.OFF, Power.CRASHED)
        stopped = not case.lives and case.expired and runs
        assert (case.claim.action is Action.STOP) == stopped, case
        if stopped:
            assert case.claim.rule == "expired"


def test_the_class_says_what_it_is() -> None:
    for case in vm_cases():
        if case.lives:
            continue
        off = case.power in (Power.OFF, Power.CRASHED)
        dead = case.run is None or not case.run.over
        expected = "dead-run" if dead else "ended-run"
        if case.power is None:
            expected = "no-domain"
        elif case.expired:
            expected = "expired-off" if off else "expired"
        assert case.claim.rule == expected, case


def image(name: str, age: float) -> Image:
    return Image(
        name=name,
        file=f"{name}.qcow2",
        digest="0" * 64,
        format="qcow2",
        virtual_size=1,
        disk_size=1,
        created=iso(NOW - age),
    )


def test_images_go_by_a_rule_only_and_the_newest_of_it_stay() -> None:
    images = [image(f"ci-{day}", day * DAY) for day in range(1, 6)] + [image("gold", 99 * DAY)]
    rules = Policy(images=(ImageRule("ci-", 2, 4 * DAY),))
    assert set(of_images(images, rules, NOW)) == {"ci-4", "ci-5"}
    assert not of_images(images, Policy(), NOW)
    unknown = image("ci-0", 0).model_copy(update={"created": "long ago"})
    assert "ci-0" not in of_images([*images, unknown], rules, NOW)


def test_runs_go_when_they_are_over_old_and_not_among_the_newest() -> None:
    def run(name: str, days: float, **facts: bool) -> RunFact:
        return RunFact(
            name, facts.get("live", False), facts.get("over", True), NOW - days * DAY, NOW - days * DAY
        )

    runs = [run(f"r{day}", day) for day in range(6)]
    policy = Policy(runs_keep=2, runs_older=3 * DAY)
    assert set(of_runs(runs, policy, NOW)) == {"r3", "r4", "r5"}
    others = [run("old", 99, over=False), run("at-work", 99, live=True), RunFact("torn", problem="torn")]
    assert set(of_runs([*runs, *others], policy, NOW)) == {"r3", "r4", "r5"}


def test_templates_go_longest_unused_first_until_the_rest_is_within_the_budget() -> None:
    told = {"a": (1.0, 10), "b": (3.0, 10), "c": (2.0, 10)}
    assert set(of_templates(told, Policy(templates=30))) == set()
    assert set(of_templates(told, Policy(templates=25))) == {"a"}
    assert set(of_templates(told, Policy(templates=19))) == {"a", "c"}


def test_the_trash_goes_by_age_and_the_oldest_beyond_its_size() -> None:
    def entry(number: int, days: float, size: int) -> Entry:
        return Entry(
            id=f"{number}", batch="b", key=("vm", "u"), name="n", when=iso(NOW - days * DAY), size=size
        )

    entries = [entry(1, 9, 10), entry(2, 2, 10), entry(3, 1, 10)]
    by_age = of_trash(entries, Policy(trash_older=7 * DAY, trash_size=99), NOW)
    assert set(by_age) == {"1"}
    by_size = of_trash(entries, Policy(trash_older=99 * DAY, trash_size=15), NOW)
    assert set(by_size) == {"1", "2"}
    assert {claim.action for claim in [*by_age.values(), *by_size.values()]} == {Action.EMPTY}
