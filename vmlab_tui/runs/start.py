"""The part of a plan that looks back: keys, where to start, how long steps usually take."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import HostFacts
from vmlab_tui.journal.cache import load_state
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.keys import SecretHash, plan_keys
from vmlab_tui.runs.plan import Plan, PlannedStep, read_plan
from vmlab_tui.runs.reuse import find_start

_LOOK_BACK = 10
"""Runs of the profile that tell how long its steps usually take."""


async def look_back(
    lab: Lab, host: Host, plan: Plan, facts: HostFacts, secrets: Mapping[str, str], *, cold: bool
) -> Plan:
    """The plan with keys, usual durations, and the best place to start from (``cold``: from nothing).

    Makes and changes nothing. Raises LabError when a file that is to be copied cannot be read.
    """
    usual = await asyncio.to_thread(usual_seconds, lab, plan.profile.name)
    plan = plan.model_copy(update={"steps": tuple(_timed(step, usual) for step in plan.steps)})
    if not plan.image.digest:
        return plan  # it cannot run
    if plan.vm.time_travel:
        return plan.model_copy(update={"why": f"no time travel: {plan.vm.time_travel}"})
    plan = await asyncio.to_thread(keyed, lab, plan, facts, secrets)
    if cold:
        return plan.model_copy(update={"why": "asked for: everything from nothing"})
    if plan.vm.network not in ("isolated", "user"):
        why = f"on the network {plan.vm.network} a copy would have its address"
        return plan.model_copy(update={"why": why})
    found = await find_start(lab, host, plan.profile.name, plan.steps, plan.keys)
    vm = plan.vm.model_copy(update={"mac": found.mac}) if found.mac else plan.vm
    return plan.model_copy(update={"start": found.start, "why": found.why, "vm": vm})


def keyed(lab: Lab, plan: Plan, facts: HostFacts, secrets: Mapping[str, str], *, make: bool = False) -> Plan:
    """The plan with its keys. ``make``: let the hash of secrets be one that later runs can compare with."""
    hashed = {}
    if secrets:
        secret_hash = SecretHash(lab.store, make=make)
        hashed = {name: secret_hash(value) for name, value in secrets.items()}
    return plan.model_copy(update={"keys": tuple(plan_keys(plan, facts, hashed))})


def can_compare(lab: Lab) -> bool:
    """Whether secrets are hashed in a way that lasts."""
    return SecretHash(lab.store).lasting


def told(plan: Plan) -> str:
    """Where the run starts, in words, and why not later."""
    start = plan.start
    where = "cold: boots from the image"
    if start and start.kind == "template":
        where = f"warm: from the clean boot that run {start.run_id} left as a template"
    elif start:
        step = plan.step(start.after)
        where = f"warm: run {start.run_id} has done all up to {step.number:02} '{clean_line(step.name, 60)}'"
    return f"{where}; {plan.why}" if plan.why else where


def usual_seconds(lab: Lab, profile: str, but: str = "") -> dict[tuple[str, str], float]:
    """Seconds that steps of the profile took in its latest runs (median), by kind and name.

    The run ``but`` does not count.
    """
    # a run's id begins with its profile's name and the time
    names = sorted(path.name for path in lab.store.runs.glob(f"{profile}-*") if path.name != but)
    times: dict[tuple[str, str], list[float]] = {}
    for name in reversed(names[-_LOOK_BACK:]):
        folder = lab.store.run(name)
        try:
            other, state = read_plan(folder), load_state(folder)
        except LabError:
            continue
        if other.profile.name != profile:
            continue
        for step in other.steps:
            known = state.steps.get(step.number)
            if known and known.state == "ok":
                times.setdefault((step.kind, step.name), []).append(known.seconds)
    return {step: statistics.median(taken) for step, taken in times.items()}


def _timed(step: PlannedStep, usual: Mapping[tuple[str, str], float]) -> PlannedStep:
    seconds = usual.get((step.kind, step.name))
    return step if seconds is None else step.model_copy(update={"usual": round(seconds, 3)})
