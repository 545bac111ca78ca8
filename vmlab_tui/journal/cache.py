"""The state of a run without folding its whole journal each time."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.paths import write_durably
from vmlab_tui.journal.log import FILE, Follower
from vmlab_tui.journal.state import RunState, fold

CACHE = "state.json"
SCHEMA = 4
"""Raised whenever the fold or the state changes: caches of another number are ignored."""


class _Cache(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)

    schema_: int = Field(default=SCHEMA, alias="schema")
    seq: int
    offset: int
    tail: str
    """The last bytes of the journal up to ``offset``: they hold a checksum, so they identify it."""
    state: RunState


def load_state(run_dir: Path, *, write: bool = False) -> RunState:
    """The folded state of the run in ``run_dir``, from its cache where that still fits the journal.

    With ``write`` a stale cache is renewed (only the run's worker and ``runs`` should; a reader may lack
    the right to). A missing journal gives the empty state. Raises JournalError when it is damaged.
    """
    state, follower, start = _open(run_dir)
    if write and follower.offset > start:
        tail = _tail(run_dir / FILE, follower.offset)
        fresh = _Cache(seq=follower.seq, offset=follower.offset, tail=tail, state=state)
        write_durably(run_dir / CACHE, fresh.model_dump_json(by_alias=True))
    return state


def follow_state(run_dir: Path) -> tuple[RunState, Follower]:
    """The state as :func:`load_state` gives it, and what reads the journal on from there."""
    return _open(run_dir)[:2]


def _open(run_dir: Path) -> tuple[RunState, Follower, int]:
    """The state, the journal read so far, and the offset at which the cache ended."""
    journal = run_dir / FILE
    cached = _read(run_dir / CACHE, journal)
    if cached is None:
        follower, state = Follower(journal), RunState()
    else:
        follower, state = Follower(journal, offset=cached.offset, seq=cached.seq), cached.state
    start = follower.offset
    return fold(follower.new(), state), follower, start


def _read(path: Path, journal: Path) -> _Cache | None:
    """The cache, or None unless it was made from the beginning of this very journal."""
    try:
        cached = _Cache.model_validate_json(path.read_bytes())
        fits = (
            cached.schema_ == SCHEMA
            and cached.seq == cached.state.seq
            and cached.offset > 0
            and cached.tail == _tail(journal, cached.offset)
        )
    except (OSError, ValidationError):
        return None
    return cached if fits else None


def _tail(journal: Path, offset: int) -> str:
    handle = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
    try:
        start = max(0, offset - 32)
        return os.pread(handle, offset - start, start).decode("latin-1")
    finally:
        os.close(handle)
