"""What diagnoses left: folders in the directory of a run or a VM, of which only the newest are of use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vmlab_tui.lab.census import Graph
from vmlab_tui.lab.claims import ago
from vmlab_tui.lab.parts import stamp_of
from vmlab_tui.lab.reach import Thing

PREFIX, NOTE = "diagnosis-", "diagnosis.json"
"""The beginning of a bundle's name, and what tells that it is one and complete."""
KEEP, AGE = 3, 86400.0
"""How many of one run or VM stay whatever their age, and for how many seconds all others do."""


def in_bundles(folder: Path, files: Mapping[str, os.stat_result]) -> dict[str, dict[str, os.stat_result]]:
    """Those of ``files`` below ``folder`` that lie in bundles, by the bundle's name."""
    found: dict[str, dict[str, os.stat_result]] = {}
    for path, facts in files.items():
        name, _, rest = path.removeprefix(f"{folder}/").partition("/")
        if rest and name.startswith(PREFIX):
            found.setdefault(name, {})[path] = facts
    return found


def add_bundles(
    graph: Graph, folder: Path, files: Mapping[str, os.stat_result], run: str, now: float
) -> None:
    """All but the newest in the directory of a run or a VM that itself stays. ``run``: whose lock they need.

    What is no garbage is no thing of its own: it goes with the directory.
    """
    found = in_bundles(folder, files)
    notes = {name: those.get(f"{folder}/{name}/{NOTE}") for name, those in found.items()}
    made = {name: note.st_mtime for name, note in notes.items() if note}
    newest = sorted(made, key=lambda name: (made[name], name), reverse=True)
    for name in newest[KEEP:]:
        if now - made[name] < AGE:
            continue
        place, those = folder / name, found[name]
        graph.add(
            Thing(
                ("diagnosis", str(place)),
                f"{name.removeprefix(PREFIX)} of {folder.name}",
                "diagnosis",
                f"it was made {ago(made[name], now)}, and {KEEP} newer ones are there",
                ours=True,
                since=made[name],
                paths=(str(place),),
                stamp=stamp_of(place, place / NOTE),
                run=run,
            ),
            those,
            folders=[place],
            plain=[path.rpartition("/")[2] for path in those],
        )
