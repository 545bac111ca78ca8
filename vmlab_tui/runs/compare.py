"""Two runs side by side: the first step at which they part, and what each step took. Needs no VM."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.keys import differences
from vmlab_tui.runs.plan import PlannedStep
from vmlab_tui.spec.model import RunStep

SLOW_TIMES = 1.5
SLOW_SECONDS = 2.0
"""A step is slow that took more than so many times, and so many seconds more than, the median."""
_DIFF_LINES = 20


@dataclass(frozen=True)
class Divergence:
    """The first step that is not as in the other run. ``plan``: it was told otherwise (or stands on something
    else); ``outcome``: the same, and yet it ended otherwise. ``script``: what changed of it, as a diff."""

    step: PlannedStep
    kind: Literal["plan", "outcome"]
    why: tuple[str, ...]
    script: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timed:
    """One step of the run beside the other run's; seconds, None where it was not done."""

    step: PlannedStep
    state: str
    seconds: float | None
    other_state: str
    other_seconds: float | None
    usual: float | None

    @property
    def slow(self) -> bool:
        return is_slow(self.seconds, self.usual)


def is_slow(seconds: float | None, usual: float | None) -> bool:
    """Whether a step took markedly longer than usual; no when either is not known."""
    if seconds is None or usual is None:
        return False
    return seconds > SLOW_TIMES * usual and seconds > usual + SLOW_SECONDS


def slow_step(view: RunView, number: int) -> bool:
    """Whether a step of the run was slow beside the earlier runs that its plan knew of."""
    return is_slow(_seconds(view, number), view.plan.step(number).usual)


def last_passed(views: Sequence[RunView], view: RunView) -> RunView:
    """The newest other run of the same profile that passed; ``views`` newest first. Raises UsageError."""
    name = view.plan.profile.name
    for other in views:
        if other.run_id != view.run_id and other.plan.profile.name == name and other.status == "passed":
            return other
    raise UsageError(
        f"no other run of profile {name} has passed", hint="name one: vmlab runs list --all shows them"
    )


def divergence(ours: RunView, theirs: RunView) -> Divergence | None:
    """The first step at which ``ours`` is not as ``theirs``; None when there is none as far as both got."""
    boot = ours.plan.phase("clean-boot").number
    more = [one for one in theirs.plan.steps if one.index is not None][_own_steps(ours) :]
    for step in ours.plan.steps:
        if step.kind == "checks" and more:
            return Divergence(step, "plan", (f"step '{clean_line(more[0].name, 60)}' before it is gone",))
        planned = _planned(ours, theirs, max(step.number, boot) if step.index is None else step.number)
        ended = _ended(ours, theirs, step)
        if step.number < boot:
            # what the image or the shape of the VM changes shows where it makes a difference
            if ended:
                return Divergence(step, "plan" if planned else "outcome", (*planned, *ended))
        elif planned:
            return Divergence(step, "plan", (*planned, *ended), _script(ours, theirs, step.number))
        elif ended:
            return Divergence(step, "outcome", ended)
        if not _begun(ours, step) and not ours.state.over:
            break  # it has not got any further yet
    return None


def timed(ours: RunView, theirs: RunView, usual: Mapping[tuple[str, str], float]) -> tuple[Timed, ...]:
    """Every step of ``ours``; those of ``theirs`` go by kind and name. ``usual``: medians, likewise."""
    left = list(theirs.plan.steps)
    rows = []
    for step in ours.plan.steps:
        other = next((one for one in left if (one.kind, one.name) == (step.kind, step.name)), None)
        if other:
            left.remove(other)
        rows.append(
            Timed(
                step,
                _state(ours, step.number),
                _seconds(ours, step.number),
                _state(theirs, other.number) if other else "-",
                _seconds(theirs, other.number) if other else None,
                usual.get((step.kind, step.name)),
            )
        )
    return tuple(rows)


def _own_steps(view: RunView) -> int:
    return sum(step.index is not None for step in view.plan.steps)


def _begun(view: RunView, step: PlannedStep) -> bool:
    return step.number in view.state.steps


def _state(view: RunView, number: int) -> str:
    known = view.state.steps.get(number)
    if known is None:
        return "-"
    return "unknown" if known.state == "running" and not view.live else known.state


def _seconds(view: RunView, number: int) -> float | None:
    known = view.state.steps.get(number)
    return known.seconds if known and known.state in ("ok", "failed") else None


def _planned(ours: RunView, theirs: RunView, number: int) -> tuple[str, ...]:
    """What step ``number`` was told otherwise than in the other run, in words."""
    mine = next((one for one in ours.plan.keys if one.number == number), None)
    if mine is None:
        return ()
    step, other = ours.plan.step(number), next((s for s in theirs.plan.steps if s.number == number), None)
    if other is None or other.kind != step.kind:
        was = f"a step of kind {other.kind} ('{clean_line(other.name, 60)}')" if other else "no such step"
        return (f"it is of kind {step.kind}; in {theirs.run_id} there was {was} at this place",)
    their = next((one for one in theirs.plan.keys if one.number == number), None)
    if their is None or their.key == mine.key:
        return ()
    found = differences(mine.parts, their.parts)
    return tuple(clean_line(one, 200) for one in found) or ("an earlier step changed",)


def _ended(ours: RunView, theirs: RunView, step: PlannedStep) -> tuple[str, ...]:
    """How the step ended otherwise, in words; nothing while one of the two has not done it and may yet."""
    other = next((one for one in theirs.plan.steps if one.number == step.number), None)
    if step.index is None:  # the closing has other numbers when there are other steps
        other = theirs.plan.phase(step.kind)
    if other is None:
        return ()
    if step.kind == "checks" and (found := _checks(ours, theirs)):
        return found
    mine, their = _outcome(ours, step), _outcome(theirs, other)
    told = [f"{mine} here, {their} in {theirs.run_id}"] if mine != their else []
    edited = [view for view, at in ((ours, step), (theirs, other)) if at.number in view.state.amended]
    if len(edited) == 1 or (edited and told):
        told += [f"edited while the run stood still: {one.run_id}" for one in edited]
    if mine == their:
        return tuple(told)
    for view, number in ((ours, step.number), (theirs, other.number)):
        known = view.state.steps.get(number)
        if known and known.state == "failed" and known.detail:
            first = next(iter(clean(known.detail).splitlines()), "")
            told.append(f"{'here' if view is ours else theirs.run_id}: {clean_line(first, 160)}")
    return tuple(told)


def _outcome(view: RunView, step: PlannedStep) -> str:
    state = _state(view, step.number)
    if state == "reused" or (state == "skipped" and step.index is None):
        return "ok"  # a VM that is kept is not cleaned up, and the like
    if state == "-":
        return "not done" if view.state.over or not view.live else "not done yet"
    return state


def _checks(ours: RunView, theirs: RunView) -> tuple[str, ...]:
    was = {one.check: one.state for one in theirs.state.checks}
    found = []
    for one in ours.state.checks:
        if one.state == was.get(one.check, "passed"):
            continue
        there = f"{was[one.check]} in {theirs.run_id}" if one.check in was else "new"
        detail = f": {clean_line(one.detail, 120)}" if one.detail else ""
        found.append(f"check '{clean_line(one.check, 80)}' {one.state} here ({there}){detail}")
    return tuple(found)


def _script(ours: RunView, theirs: RunView, number: int) -> tuple[str, ...]:
    """The change of a script, as a unified diff of some lines."""
    scripts = []
    for view in (theirs, ours):
        index = view.plan.step(number).index if number <= len(view.plan.steps) else None
        what = view.plan.profile.steps[index] if index is not None else None
        if not isinstance(what, RunStep):
            return ()
        scripts.append(clean(what.script).splitlines())
    old, new = scripts
    lines = list(difflib.unified_diff(old, new, theirs.run_id, ours.run_id, n=1, lineterm=""))
    more = [f"... {len(lines) - _DIFF_LINES} more lines"] if len(lines) > _DIFF_LINES else []
    return (*lines[:_DIFF_LINES], *more)
