"""What journals add up to, and the cache of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.journal.cache import CACHE, SCHEMA, load_state
from vmlab_tui.journal.events import Event, JournalError, make
from vmlab_tui.journal.log import FILE, Journal
from vmlab_tui.journal.state import RunState, fold

Line = tuple[str, dict[str, Any]]


def events(*lines: Line, step: int = 1) -> list[Event]:
    """Events one after the other, ``step`` seconds apart."""
    return [
        make(seq, kind, data, time=f"2026-01-01T00:{seq * step // 60:02}:{seq * step % 60:02}.000Z")[0]
        for seq, (kind, data) in enumerate(lines, 1)
    ]


CREATED: Line = ("run_created", {"run_id": "r1", "profile": "quickstart", "plan_sha": "abc"})
WORKER: Line = ("worker_started", {"pid": 10, "boot_id": "b", "start_ticks": 99})
RESUMED: Line = ("worker_started", {"pid": 11, "boot_id": "b", "start_ticks": 100, "resumed": True})


def test_a_run_that_passes() -> None:
    run = fold(
        events(
            CREATED,
            WORKER,
            ("step_started", {"number": 1}),
            ("stage", {"number": 1, "stage": "banner", "detail": "SSH-2.0"}),
            ("waited", {"number": 1, "on": "ssh", "seconds": 1.5}),
            ("waited", {"number": 1, "on": "ssh", "seconds": 0.5}),
            ("progress", {"number": 1, "done": 3, "total": 9, "unit": "files"}),
            ("step_finished", {"number": 1, "state": "ok", "seconds": 2.5, "exit_status": 0}),
            ("note", {"text": "image is 40 days old", "level": "warn"}),
            ("check_result", {"number": 2, "check": "service web", "state": "passed", "component": "web"}),
            ("ended", {"state": "passed", "exit": 0, "disposition": "destroyed", "seconds": 12.0}),
        )
    )
    assert (run.run_id, run.profile, run.state, run.seq, run.pid) == ("r1", "quickstart", "passed", 11, 10)
    step = run.steps[1]
    assert (step.state, step.stage, step.stage_detail, step.seconds) == ("ok", "banner", "SSH-2.0", 2.5)
    assert step.progress is not None and (step.progress.done, step.progress.total) == (3, 9)
    assert step.started == "2026-01-01T00:00:03.000Z"
    assert run.waited == {"ssh": 2.0}
    assert [(check.check, check.state) for check in run.checks] == [("service web", "passed")]
    assert [(note.text, note.level) for note in run.notes] == [("image is 40 days old", "warn")]
    assert run.over and run.ended is not None and run.ended.exit == 0
    assert (run.started, run.finished) == ("2026-01-01T00:00:01.000Z", "2026-01-01T00:00:11.000Z")
    assert run.current is None


def test_states_on_the_way() -> None:
    lines = events(
        CREATED,
        WORKER,
        ("step_started", {"number": 7}),
        ("paused", {"reason": "step 7 failed", "until": "2026-01-01T01:00:00.000Z"}),
        ("continued", {"reason": "retry"}),
        ("end_requested", {"by": "ctrl-c", "how": "keep"}),
        ("ended", {"state": "failed", "exit": 1, "disposition": "kept", "seconds": 1, "until": "x"}),
    )
    states = [fold(lines[:count]) for count in range(len(lines) + 1)]
    assert [run.state for run in states] == [
        "starting", "starting", "running", "running", "paused", "running", "running", "failed",
    ]  # fmt: skip
    paused = states[4]
    assert (paused.pause_reason, paused.until) == ("step 7 failed", "2026-01-01T01:00:00.000Z")
    assert paused.current is not None and paused.current.number == 7
    assert (states[5].pause_reason, states[5].until) == ("", None)
    assert states[6].end_requested is not None and states[6].end_requested.how == "keep"
    assert states[7].until == "x"


def test_what_a_run_owns() -> None:
    lines = events(
        ("intent", {"what": "vm-dir", "id": "u"}),
        ("intent", {"what": "domain", "id": "u"}),
        ("done", {"what": "vm-dir", "id": "u"}),
        ("done", {"what": "domain", "id": "u"}),
        ("intent", {"what": "snapshot", "id": "u/clean-boot"}),
        ("removed", {"what": "domain", "id": "u"}),
        ("intent", {"what": "domain", "id": "u"}),
    )
    assert [(fold(lines[:n]).owns, fold(lines[:n]).pending) for n in (2, 4, 5, 6, 7)] == [
        ((("vm-dir", "u"), ("domain", "u")), (("vm-dir", "u"), ("domain", "u"))),
        ((("vm-dir", "u"), ("domain", "u")), ()),
        ((("vm-dir", "u"), ("domain", "u"), ("snapshot", "u/clean-boot")), (("snapshot", "u/clean-boot"),)),
        ((("vm-dir", "u"), ("snapshot", "u/clean-boot")), (("snapshot", "u/clean-boot"),)),
        (
            (("vm-dir", "u"), ("snapshot", "u/clean-boot"), ("domain", "u")),
            (("snapshot", "u/clean-boot"), ("domain", "u")),
        ),
    ]


def test_a_new_worker_finds_the_step_in_flight_unknown_and_takes_it_up() -> None:
    lines = events(
        CREATED,
        WORKER,
        ("step_started", {"number": 1}),
        ("step_finished", {"number": 1, "state": "ok", "seconds": 1}),
        ("step_started", {"number": 2}),
        RESUMED,
        ("step_started", {"number": 2}),
    )
    resumed = fold(lines[:6])
    assert {number: step.state for number, step in resumed.steps.items()} == {1: "ok", 2: "unknown"}
    assert resumed.current is not None and resumed.current.number == 2
    assert (resumed.pid, resumed.workers) == (11, 2)
    again = fold(lines)
    assert again.steps[2].state == "running"
    assert again.steps[2].started == "2026-01-01T00:00:05.000Z", "the same attempt began when it began"


def test_a_pause_ends_with_its_worker_and_the_next_says_when_it_takes_answers() -> None:
    paused = ("paused", {"reason": "x", "why": "failed", "number": 3, "until": "2026-01-02T00:00:00+00:00"})
    run = fold(events(CREATED, WORKER, paused, RESUMED))
    assert (run.state, run.pause_why, run.pause_at, run.until) == ("running", None, None, None)
    assert fold(events(CREATED, WORKER, paused, RESUMED, paused)).state == "paused"


def test_a_second_attempt_starts_afresh_but_keeps_its_amendment() -> None:
    lines = events(
        ("step_started", {"number": 3}),
        ("check_result", {"number": 3, "check": "port 80", "state": "failed"}),
        ("check_result", {"number": 4, "check": "other", "state": "passed"}),
        ("step_finished", {"number": 3, "state": "failed", "seconds": 9, "detail": "boo", "exit_status": 2}),
        ("step_amended", {"number": 3, "attempt": 2, "sha": "fff"}),
        ("step_started", {"number": 3, "attempt": 2}),
    )
    assert fold(lines[:4]).steps[3].exit_status == 2
    run = fold(lines)
    step = run.steps[3]
    assert (step.attempt, step.state, step.seconds, step.detail, step.exit_status, step.amended) == (
        2, "running", 0.0, "", None, "fff",
    )  # fmt: skip
    assert step.started == "2026-01-01T00:00:06.000Z"
    assert [check.check for check in run.checks] == ["other"]


def test_active_time_leaves_out_pauses_and_the_time_without_a_worker() -> None:
    lines = events(
        CREATED,  # at 10 s, each 10 s later
        WORKER,
        ("step_started", {"number": 1}),  # 10
        ("paused", {"reason": "x"}),  # 20
        ("note", {"text": "still"}),
        ("continued", {}),
        ("note", {"text": "on"}),  # 30
        RESUMED,
        ("note", {"text": "on"}),  # 40
        step=10,
    )
    assert fold(lines).active == 40
    backwards = [
        *lines,
        make(10, "note", {"text": "the clock went back"}, time="2025-01-01T00:00:00.000Z")[0],
    ]
    assert fold(backwards).active == 40


def test_unknown_kinds_count_and_change_nothing_else() -> None:
    event = Event(seq=1, time="2026-01-01T00:00:01.000Z", kind="teleported", data={"to": "moon"})
    run = RunState().apply(event)
    assert run == RunState(seq=1, started=event.time, updated=event.time)


def test_events_out_of_sequence_are_refused() -> None:
    lines = events(CREATED, WORKER)
    with pytest.raises(JournalError):
        RunState().apply(lines[1])
    with pytest.raises(JournalError):
        fold(lines).apply(lines[1])


number = st.integers(0, 3)
attempt = st.integers(1, 2)
thing = st.fixed_dictionaries({"what": st.sampled_from(["domain", "vm-dir"]), "id": st.sampled_from("ab")})
words = st.text(max_size=5)
any_line = st.one_of(
    st.just(CREATED),
    st.just(WORKER),
    st.just(RESUMED),
    st.tuples(st.sampled_from(["intent", "done", "removed"]), thing),
    st.tuples(st.just("step_started"), st.fixed_dictionaries({"number": number, "attempt": attempt})),
    st.tuples(st.just("stage"), st.fixed_dictionaries({"number": number, "stage": words, "detail": words})),
    st.tuples(st.just("progress"), st.fixed_dictionaries({"number": number, "done": st.integers(0, 9)})),
    st.tuples(st.just("waited"), st.fixed_dictionaries({"on": words, "seconds": st.floats(0, 100)})),
    st.tuples(
        st.just("step_finished"),
        st.fixed_dictionaries(
            {
                "number": number,
                "attempt": attempt,
                "state": st.sampled_from(["ok", "failed", "skipped", "unknown"]),
                "seconds": st.floats(0, 1e6),
            }
        ),
    ),
    st.tuples(
        st.just("check_result"),
        st.fixed_dictionaries(
            {"number": number, "check": words, "state": st.sampled_from(["passed", "error"])}
        ),
    ),
    st.tuples(st.just("paused"), st.fixed_dictionaries({"reason": words})),
    st.just(("continued", {})),
    st.tuples(st.just("note"), st.fixed_dictionaries({"text": words})),
    st.just(("end_requested", {"by": "x", "how": "destroy"})),
    st.just(("ended", {"state": "error", "exit": 4, "disposition": "none", "seconds": 3})),
)
any_run = st.lists(any_line, max_size=25)


@settings(max_examples=200, deadline=None)
@given(any_run, st.integers(0, 25))
def test_the_fold_is_the_same_in_any_parts_and_through_json(lines: list[Line], cut: int) -> None:
    all_events = events(*lines)
    whole = fold(all_events)
    assert fold(all_events) == whole
    first = fold(all_events[:cut])
    before = first.model_dump_json()
    assert fold(all_events[cut:], first) == whole
    assert first.model_dump_json() == before, "applying changes no earlier state"
    assert RunState.model_validate_json(whole.model_dump_json()) == whole
    assert set(whole.pending) <= set(whole.owns)
    assert whole.seq == len(lines)


@settings(max_examples=60, deadline=None)
@given(any_run, any_run)
def test_the_cache_never_changes_the_answer(
    tmp_path_factory: pytest.TempPathFactory, first: list[Line], second: list[Line]
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    journal = run_dir / FILE
    lines = [make(seq, kind, data) for seq, (kind, data) in enumerate(first + second, 1)]
    journal.write_bytes(b"".join(raw for _, raw in lines[: len(first)]))
    assert load_state(run_dir, write=True) == fold(event for event, _ in lines[: len(first)])
    journal.write_bytes(b"".join(raw for _, raw in lines))
    expected = fold(event for event, _ in lines)
    assert load_state(run_dir) == expected
    assert load_state(run_dir, write=True) == expected
    assert load_state(run_dir) == expected


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    with Journal.append(tmp_path / FILE) as journal:
        journal.write(CREATED[0], **CREATED[1])
        journal.write(WORKER[0], **WORKER[1])
    return tmp_path


def test_the_cache_is_only_written_when_told_and_really_used(run_dir: Path) -> None:
    load_state(run_dir)
    assert not (run_dir / CACHE).exists()
    load_state(run_dir, write=True)
    cache = json.loads((run_dir / CACHE).read_text())
    assert (run_dir / CACHE).stat().st_mode & 0o777 == 0o600
    assert (cache["schema"], cache["seq"]) == (SCHEMA, 2)
    cache["state"]["profile"] = "from the cache"
    (run_dir / CACHE).write_text(json.dumps(cache))
    assert load_state(run_dir).profile == "from the cache"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 99},
        {"seq": 1},
        {"offset": 10},
        {"offset": 10_000_000},
        {"offset": -1},
        {"tail": "x"},
        {"state": None},
        {"state": {"seq": 7}},
    ],
)
def test_a_cache_that_does_not_fit_is_ignored(run_dir: Path, change: dict[str, Any]) -> None:
    load_state(run_dir, write=True)
    cache = json.loads((run_dir / CACHE).read_text())
    cache["state"]["profile"] = "wrong"
    (run_dir / CACHE).write_text(json.dumps(cache | change))
    assert load_state(run_dir).profile == "quickstart"


def test_a_cache_of_another_journal_or_garbage_is_ignored(run_dir: Path) -> None:
    load_state(run_dir, write=True)
    (run_dir / FILE).write_bytes(
        b"".join(make(seq, "note", {"text": "x"}, time="2026-01-01T00:00:00.000Z")[1] for seq in range(1, 9))
    )
    assert load_state(run_dir).profile == ""
    (run_dir / CACHE).write_bytes(b"\xff{")
    assert load_state(run_dir).seq == 8
    (run_dir / FILE).unlink()
    assert load_state(run_dir) == RunState()


def checkpoint(name: str, after: int) -> Line:
    return ("checkpoint", {"name": name, "after": after, "key": f"k{after}", "size": 10})


def tried(number: int, state: str = "ok", again: int = 1) -> list[Line]:
    return [
        ("step_started", {"number": number, "attempt": again}),
        ("step_finished", {"number": number, "attempt": again, "state": state, "seconds": 1}),
    ]


def test_going_back_abandons_what_was_done_since_and_counts_its_attempts() -> None:
    lines = [
        CREATED,
        WORKER,
        *tried(1),
        checkpoint("boot", 1),
        *tried(2),
        checkpoint("two", 2),
        *tried(3, "failed"),
        ("paused", {"reason": "step 3 failed", "number": 3, "why": "failed"}),
    ]
    paused = fold(events(*lines))
    assert (paused.state, paused.pause_at, paused.pause_why) == ("paused", 3, "failed")
    assert [one.name for one in paused.line] == ["boot", "two"]
    lines += [("continued", {"reason": "back"}), ("going_back", {"name": "boot"})]
    going = fold(events(*lines))
    assert (going.going_back, going.pause_at, sorted(going.steps)) == ("boot", None, [1, 2, 3])
    lines += [("went_back", {"name": "boot", "after": 1})]
    back = fold(events(*lines))
    assert (back.going_back, sorted(back.steps), back.lost) == ("", [1], ("two",))
    assert [one.name for one in back.line] == ["boot"]
    assert [one.name for one in back.checkpoints] == ["boot", "two"], "it exists, of another future"
    assert back.attempts == {1: 1, 2: 1, 3: 1}
    (future,) = back.futures
    assert (future.back_to, future.after, future.steps) == ("boot", 1, {2: 1, 3: 1})
    lines += [
        *tried(2, again=2),
        checkpoint("two-2", 2),
        ("step_amended", {"number": 3, "attempt": 2, "sha": "x"}),
    ]
    lines += tried(3, again=2)
    on = fold(events(*lines))
    touched = fold(events(*lines, ("altered", {"reason": "by ssh"}), ("altered", {"reason": "skipped"})))
    keyless = ("checkpoint", {"name": "later", "after": 3, "key": ""})
    there = [*lines, ("altered", {"reason": "by ssh"}), keyless]
    returned = [fold(events(*there, ("went_back", {"name": name, "after": 3}))) for name in ("later", "boot")]
    assert [touched.altered, *(one.altered for one in returned)] == ["by ssh", "by ssh", ""]
    assert [one.name for one in on.line] == ["boot", "two-2"]
    assert (on.amended, on.steps[3].attempt, on.steps[3].state) == ({3: 2}, 2, "ok")
    # and into the future that was left: what it had done counts again, and the one since does not
    assert on.way_back("", 3) == on.checkpoints[2]
    assert on.way_back("nowhere", 3) is None
    goal = on.way_back("two", 3)
    assert goal is not None
    assert goal == on.checkpoints[1]
    lines += [("going_back", {"name": "two"}), ("went_back", {"name": "two", "after": goal.after})]
    again = fold(events(*lines))
    assert [one.name for one in again.line] == ["boot", "two"]
    assert again.lost == ("two-2",)
    assert {number: step.attempt for number, step in again.steps.items()} == {1: 1, 2: 1}
    assert again.futures[-1].steps == {2: 2, 3: 2}
    assert again.attempts == {1: 1, 2: 2, 3: 2}


def test_a_snapshot_that_is_removed_is_no_checkpoint_any_more() -> None:
    made = [CREATED, WORKER, checkpoint("boot", 1), checkpoint("two", 2)]
    assert [
        one.name for one in fold(events(*made, ("removed", {"what": "snapshot", "id": "uuid/boot"}))).line
    ] == ["two"]
    dropped = ("checkpoint_dropped", {"name": "two", "reason": "the budget"})
    assert [one.name for one in fold(events(*made, dropped)).checkpoints] == ["boot"]
