"""Figures of a bench: median, unit, goal, and what it was measured beside."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured quantity. ``goal``: the most it may be; None: shown for comparison only."""

    name: str
    values: tuple[float, ...]
    unit: str
    goal: float | None = None
    beside: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        return self.goal is None or self.median <= self.goal


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
                "met": one.met,
                "beside": one.beside,
            }
            for one in figures
        ]
        print(json.dumps({"schema": 1, "bench": bench, "condition": condition, "figures": rows}, indent=1))
    else:
        print(f"{bench}: {condition}")
        for one in figures:
            goal = "" if one.goal is None else f"goal {one.goal:g} {'met' if one.met else 'MISSED'}"
            spread = f"{min(one.values):.2f}..{max(one.values):.2f}, {len(one.values)} runs"
            print(f"  {one.name:<44} {one.median:8.2f} {one.unit:<3} {goal:<14} ({spread}) {one.beside}")
    return 0 if all(one.met for one in figures) else 1
