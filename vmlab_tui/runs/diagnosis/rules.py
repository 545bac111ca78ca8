"""The one table of rules, and the judgement made by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmlab_tui.runs.diagnosis import machine, packages, system
from vmlab_tui.runs.diagnosis.evidence import Evidence
from vmlab_tui.runs.diagnosis.finding import Finding, Weight

Rule = Callable[[Evidence], Finding | None]

RULES: tuple[Rule, ...] = (
    # without the machine there is nothing else to say
    machine.qemu_gone,
    machine.paused,
    machine.panic,
    machine.hung,
    machine.key_refused,
    machine.no_ssh,
    # what makes everything else fail
    system.disk_full,
    system.read_only,
    system.out_of_memory,
    # no package without its source, no source without a network and the right time
    system.clock,
    packages.network,
    packages.wrong_mirror,
    packages.dpkg_lock,
    packages.missing_package,
    # a unit fails of something
    system.port_in_use,
    system.cloud_init,
    system.unit_failed,
    # what scripts often live on after
    system.command_not_found,
    system.permission_denied,
)
"""Causes before their consequences: of faults that explain a failure equally well the first one is named."""


@dataclass(frozen=True)
class Judgement:
    """``cause`` None: nothing explains the failure. ``also``: what else is not as it should be."""

    cause: Finding | None
    also: tuple[Finding, ...] = ()


def judge(evidence: Evidence) -> Judgement:
    """What most likely failed. Pure."""
    found = [finding for rule in RULES if (finding := rule(evidence))]
    found.sort(key=lambda finding: finding.weight)  # stable: the table's order among equals
    if found and found[0].weight is not Weight.BESIDE:
        return Judgement(found[0], tuple(found[1:]))
    return Judgement(None, tuple(found))
