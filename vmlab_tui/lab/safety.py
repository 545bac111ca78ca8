"""Safety snapshots: what a VM was before it went back; which of its snapshots are such, and which may go."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime

from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts.model import Snapshot

KEPT = 2
"""Safety snapshots of a VM that stay; older ones go when going back has worked without them."""

_NAME = re.compile(r"before-revert-\d{6}(-\d+)?")
_ABOUT = "the present before going back to "


def new_name(taken: Collection[str]) -> str:
    """``before-revert-131415``, after the time; numbered where that is taken."""
    base = datetime.now().strftime("before-revert-%H%M%S")
    numbered = (f"{base}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (base, *numbered) if name not in taken)


def about(target: str) -> str:
    """The description of the one that is taken before going back to ``target``."""
    return f"{_ABOUT}'{clean_line(target, 80)}'"


def is_safety(snapshot: Snapshot) -> bool:
    """Whether vmlab took it before going back; one that a person has described anew is the person's."""
    return bool(_NAME.fullmatch(snapshot.name)) and snapshot.description.startswith(_ABOUT)


def too_many(snapshots: Iterable[Snapshot], target: str, *, coming: int = 0) -> list[str]:
    """Those that go once going back to ``target`` has worked; oldest first.

    ``snapshots``: oldest first. ``coming``: how many more will have been taken by then.
    """
    found = [one.name for one in snapshots if is_safety(one)]
    return [name for name in found[: max(0, len(found) + coming - KEPT)] if name != target]
