"""Figures of a bench: median, unit, goal, and what it was measured beside."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

LOOP = 10_000_000


@dataclass(frozen=True)
class Figure:
    """One measured quantity. ``goal``: the most it may be, or with ``at_least`` the least.

    None: shown for comparison only.
    """

    name: str
    values: tuple[float, ...]
    unit: str
    goal: float | None = None
    beside: str = ""
    at_least: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        if self.goal is None:
            return True
        return self.median >= self.goal if self.at_least else self.median <= self.goal


def condition() -> str:
    """The machine: processors, how fast one is now, and who reaps the QEMU that libvirt waits for.

    A virtual machine's processor may be twice as fast on another day, or in another hour: figures in seconds
    compare only where the loop takes the same. A slow reaper is half of a revert.
    """
    init = Path("/run/systemd/system").is_dir() or not shutil.which("tini")
    began = time.perf_counter()
    for _ in range(LOOP):
        pass
    loop = time.perf_counter() - began
    return (
        f"{os.cpu_count()} CPUs, one counts to ten million in {loop:.2f} s of Python, "
        f"libvirtd under {'init' if init else 'a sub-reaper'}"
    )


def show(bench: str, condition: str, figures: list[Figure], *, as_json: bool) -> int:
    """Print the figures; 0 when every goal is met, else 1."""
    if as_json:
        rows = [
            {
                "name": one.name,
                "median": round(one.median, 3),
                "min": round(min(one.values), 3),
                "max": round(max(one.values), 3),
                "runs": len(one.values),
                "unit": one.unit,
                "goal": one.goal,
                "at_least": one.at_least,
                "met": one.met,
                "beside": one.beside,
            }
            for one in figures
        ]
        print(json.dumps({"schema": 1, "bench": bench, "condition": condition, "figures": rows}, indent=1))
    else:
        print(f"{bench}: {condition}")
        for one in figures:
            way = ">= " if one.at_least else ""
            goal = "" if one.goal is None else f"goal {way}{one.goal:g} {'met' if one.met else 'MISSED'}"
            spread = f"{min(one.values):.2f}..{max(one.values):.2f}, {len(one.values)} runs"
            print(f"  {one.name:<44} {one.median:8.2f} {one.unit:<3} {goal:<18} ({spread}) {one.beside}")
    return 0 if all(one.met for one in figures) else 1
