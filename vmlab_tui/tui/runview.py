"""One run as rows and lines: functions of a `RunView` and the time. Only :func:`look` reads files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len

from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import duration, size, span
from vmlab_tui.guests.stage import SHORT
from vmlab_tui.tui.text import fit
from vmlab_tui.tui.widgets.rows import Cell, Row
from vmlab_tui.verbs.words import left, local, moment

if TYPE_CHECKING:
    from vmlab_tui.journal.state import CheckState, StepState
    from vmlab_tui.lab.graph import Inventory
    from vmlab_tui.runs.client import RunView

Said = tuple[str, str]
"""A text and its tone, one of `widgets.rows.TONES` or nothing."""

_MARKS = {
    "ok": ("ok", "good"),
    "failed": ("FAIL", "bad"),
    "running": ("run", "accent"),
    "skipped": ("skip", "dim"),
    "reused": ("same", "good"),
    "unknown": ("?", "warn"),
    "-": ("-", "dim"),
}
_CHECKS = {
    "passed": ("ok", "good"),
    "failed": ("FAIL", "bad"),
    "error": ("FAIL", "bad"),
    "skipped": ("skip", "dim"),
}
_TONES = {"passed": "good", "failed": "bad", "error": "bad", "interrupted": "warn", "paused": "warn"}
_TAIL = 1 << 14
_BAR = 12


@dataclass(frozen=True)
class Ending:
    """What was read for the end of a run: its verdict, the last lines of the failing step and the console."""

    verdict: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    console: tuple[str, ...] = ()


# -- the list ----------------------------------------------------------------------------------------


def step_key(number: int) -> str:
    return f"step:{number}"


def step_of(key: str) -> int | None:
    """The number of the step that a row's key stands for; of a check: of the step that does it."""
    parts = key.split(":")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


def check_of(view: RunView, key: str) -> CheckState | None:
    """The check that a row's key stands for."""
    parts = key.split(":")
    if parts[0] != "check" or int(parts[2]) >= len(view.state.checks):
        return None
    return view.state.checks[int(parts[2])]


def rows(view: RunView, now: datetime | None = None) -> list[Row]:
    """A row for every step, and below the one that checks, one for every result.

    A star stands behind a step after which there is a checkpoint, the median of earlier runs behind the time
    that a step took, and before that time an exclamation mark where it was slow.
    """
    from vmlab_tui.runs.compare import slow_step
    from vmlab_tui.verbs.shapes import step_state

    found = []
    marked = {one.after for one in view.state.checkpoints}
    for step in view.plan.steps:
        known = view.state.steps.get(step.number)
        word, tone = _MARKS[step_state(view, step.number)]
        again = f" #{known.attempt}" if known and known.attempt > 1 else ""
        again += " *" if step.number in marked else ""
        slow = slow_step(view, step.number)
        calm = "dim" if known is None else ""
        found.append(
            Row(
                step_key(step.number),
                (
                    Cell(word, tone),
                    Cell(f"{step.number:02}", calm),
                    Cell(clean_line(step.name, 60) + again, calm),
                    Cell("!" * slow + _took(view, known, now), "warn" if slow else calm),
                    Cell("" if step.usual is None else f"~{duration(step.usual)}", "dim"),
                ),
            )
        )
        for index, check in enumerate(view.state.checks):
            if check.number == step.number:
                found.append(_check_row(step.number, index, check))
    return found


def _check_row(number: int, index: int, check: CheckState) -> Row:
    word, tone = _CHECKS[check.state]
    told = f": {check.detail}" if check.detail and check.state != "passed" else ""
    took = duration(check.seconds) if check.seconds else ""
    name = Cell("  " + clean_line(check.check + told, 200))
    cells = (Cell(word, tone), Cell(""), name, Cell(took), Cell(""))
    return Row(f"check:{number}:{index}", cells)


def _took(view: RunView, known: StepState | None, now: datetime | None) -> str:
    if known is None:
        return ""
    if known.state != "running":
        return duration(known.seconds) if known.seconds or known.state == "ok" else ""
    return duration(since(known.started, now)) if view.live else ""


def since(text: str, now: datetime | None = None) -> float:
    """Seconds since a time of the journal."""
    when = moment(text)
    return max(0.0, ((now or datetime.now(UTC)) - when).total_seconds()) if when else 0.0


def followed(view: RunView) -> str:
    """The key of the row that matters most: what failed, else what is going on, else the last own step."""
    from vmlab_tui.verbs.shapes import stopped_at

    at = stopped_at(view)
    if at:
        return step_key(at.number)
    own = [step.number for step in view.plan.steps if step.index is not None]
    if view.state.over:
        return step_key(max(own, default=1))
    return step_key(max(view.state.steps, default=1))


# -- the head ----------------------------------------------------------------------------------------


def head(view: RunView, lab: Inventory | None = None) -> list[Said]:
    """The run, its state in words, how long it has taken, and what its checkpoints take of the disk.

    ``lab``: where that is known; of a run that is over, the VM and its checkpoints may have gone since.
    """
    from vmlab_tui.verbs.shapes import elapsed

    tone = _TONES.get(view.status, "accent" if view.live else "")
    held = sum(one.size for one in view.state.checkpoints)
    gone = view.state.ended and lab and lab.vm(view.plan.vm.uuid) is None
    return [
        (f"Run {clean_line(view.run_id)}", ""),
        (state_words(view), tone),
        (duration(elapsed(view)), ""),
        *([(f"checkpoints {size(held)}", "dim")] if held and not gone else []),
    ]


def begins(view: RunView, width: int) -> list[Said]:
    """Where the run starts, so which steps are the same as in which run, and why not later: a line or two."""
    from vmlab_tui.runs.start import told

    text = clean_line(told(view.plan))
    where, why = clean_line(told(view.plan.model_copy(update={"why": ""}))), clean_line(view.plan.why)
    return [(line, "dim") for line in ((text,) if cell_len(text) <= width or not why else (where, why))]


def state_words(view: RunView) -> str:
    """``failed at 10 install desktop``, ``running 05 boot``, ``paused at 10 ...``, ``passed``."""
    from vmlab_tui.verbs.shapes import stopped_at
    from vmlab_tui.verbs.telling import step_title

    at = stopped_at(view)
    status = view.status
    if view.state.going_back:
        return f"going back to {clean_line(view.state.going_back, 60)}"
    if at is None:
        return status
    title = step_title(view.plan, at.number)
    if status == "running" and _failed(view):
        now = view.state.current
        return f"failed at {title}" + (f", now {step_title(view.plan, now.number)}" if now else "")
    return f"{status} {title}" if status in ("running", "starting") else f"{status} at {title}"


def _failed(view: RunView) -> StepState | None:
    return next((step for step in view.state.steps.values() if step.state == "failed"), None)


# -- what it is at, and how it ended -----------------------------------------------------------------


def at_work(view: RunView, width: int) -> str:
    """What the step in flight is doing: stage and progress; empty when nothing is in flight."""
    from vmlab_tui.verbs.telling import amount, step_title

    step = view.state.current
    if step is None or not view.live:
        return ""
    planned = view.plan.step(step.number)
    usual = f"usually {duration(planned.usual)}" if planned.usual else ""
    parts = [step_title(view.plan, step.number), _doing(view, step), usual]
    if step.progress:
        parts.append(clean_line(amount(step.progress)))
    text = "  ".join(part for part in parts if part)
    bar = _bar(step.progress.done, step.progress.total) if step.progress else ""
    return f"{text}  {bar}" if bar and cell_len(text) + len(bar) + 2 <= width else fit(text, width).rstrip()


def _doing(view: RunView, step: StepState) -> str:
    """The stage in words; of a wait for the guest also how long it may take."""
    planned = view.plan.step(step.number) if 1 <= step.number <= len(view.plan.steps) else None
    told = clean_line(f"{step.stage}: {step.stage_detail}" if step.stage_detail else step.stage)
    if planned and planned.kind == "ssh" and step.stage in SHORT:
        told = SHORT[step.stage]
    elif planned and planned.kind == "cloud-init":
        told = f"cloud-init is at work: {told}" if told else "waiting for cloud-init"
    else:
        return told
    return f"{told}; up to {span(planned.timeout)}"


def _bar(done: float, total: float | None) -> str:
    if not total:
        return ""
    full = min(_BAR, int(_BAR * done / total))
    return f"[{'=' * full}{' ' * (_BAR - full)}]"


def look(view: RunView) -> Ending:
    """Read what the end of a run is told by; blocks on files."""
    from vmlab_tui.verbs.shapes import log_of, stopped_at, verdict

    if view.status in ("running", "starting") and not _failed(view):
        return Ending()
    at = stopped_at(view)
    said = last_lines(log_of(view, at), 10) if at else ()
    console = () if view.status == "passed" else last_lines(view.folder / "console.log", 5)
    return Ending(verdict(view) if not view.live else (), said, console)


def last_lines(path: Path, count: int) -> tuple[str, ...]:
    """The last lines of a log that are not empty, clean; none when it cannot be read."""
    from vmlab_tui.tui.logs.tidy import tidy

    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - _TAIL))
            raw = file.read(_TAIL)
    except OSError:
        return ()
    lines = [line.rstrip() for line in tidy(raw).split("\n")]
    return tuple(line for line in lines if line)[-count:]


def ending(view: RunView, read: Ending, room: int) -> list[Said]:
    """The lines that tell how the run ended or why it waits, at most ``room`` of them: the failing step's
    last lines before the console's, for they hold the cause."""
    tail = [*_verdict(view, read), *([("  " + keys, "accent")] if (keys := _keys(view)) else [])]
    top = list(_failure(view))
    left_over = max(0, room - len(tail) - len(top))
    said: list[Said] = [("   | " + line, "") for line in read.output]
    console: list[Said] = [("   : " + line, "dim") for line in read.console]
    if said and left_over < 5:
        console = []
    for_console = 1 + min(len(console), 2 if left_over < 8 else 3) if console else 0
    said = said[-min(len(said), max(0, left_over - for_console)) :] if left_over > for_console else []
    kept = min(len(console), left_over - len(said) - 1)
    console = [("   the console's last lines", "dim"), *console[-kept:]] if kept > 0 else []
    return [*top, *said, *console, *tail]


def _failure(view: RunView) -> Iterator[Said]:
    """The failing step, or the one that nobody has finished, and the checks that failed."""
    from vmlab_tui.verbs.shapes import stopped_at
    from vmlab_tui.verbs.telling import step_title

    at = stopped_at(view)
    known = view.state.steps.get(at.number) if at else None
    if at is None or known is None or (view.live and known.state != "failed"):
        return
    word, tone = _MARKS["failed" if known.state == "failed" else "unknown"]
    told = next((line for line in clean(known.detail).splitlines() if line.strip()), known.stage)
    if known.state != "failed":
        told = "nobody knows how it went on"
    took = f"  {duration(known.seconds)}" if known.seconds else ""
    again = f" (attempt {known.attempt})" if known.attempt > 1 else ""
    yield f" {word} {step_title(view.plan, at.number)}{again}{took}  {clean_line(told)}".rstrip(), tone
    if at.kind == "checks":
        bad = [check for check in view.state.checks if check.state in ("failed", "error")]
        for check in bad[:4]:
            yield "   - " + clean_line(f"{check.check}: {check.detail}"), tone
        if len(bad) > 4:
            yield f"   - and {len(bad) - 4} more", tone


def _verdict(view: RunView, read: Ending) -> Iterator[Said]:
    tone = _TONES.get(view.status, "")
    if view.status == "paused":
        if view.state.pause_why in ("before", "after", "asked"):
            yield f" {clean_line(view.state.pause_reason, 300)}", tone
        until = f" until {local(view.state.until)} ({left(view.state.until)})" if view.state.until else ""
        yield f" PAUSED{until}; then its VM counts as kept", tone
        return
    for number, line in enumerate(read.verdict):
        yield (
            " " + clean_line(line, 300) if not number else "   " + clean_line(line, 300),
            tone * (not number),
        )


# -- what can be done --------------------------------------------------------------------------------


def possible(view: RunView, verb_id: str) -> bool:
    """Whether a verb of the area makes sense for the run as it is."""
    ended = view.state.ended
    gone = ended is not None and ended.disposition != "kept"
    if verb_id == "ssh":
        return not gone and done(view, "ssh")
    if verb_id == "vm.screenshot":
        return done(view, "define")  # of a VM that is gone there are the pictures of its boot
    if verb_id.startswith("vm."):
        return not gone and done(view, "define")
    if verb_id == "runs.resume":
        return ended is None and not view.live
    if verb_id in ("runs.end", "diff"):
        return not gone
    if verb_id == "diagnose":
        return not gone or view.status != "passed"
    if verb_id == "runs.continue":
        return view.state.pause_why in ("before", "after", "asked")
    if verb_id == "runs.retry":
        return view.state.pause_why in ("failed", "unknown", "after")
    return True


def stands(view: RunView) -> bool:
    """Whether it has come to stand at a script step, so that there is a "here" for a shell."""
    from vmlab_tui.runs.here import here_of

    return (view.state.over or view.state.state == "paused") and here_of(view) is not None


def done(view: RunView, kind: str) -> bool:
    """Whether a step that every run has went well already."""
    known = view.state.steps.get(view.plan.phase(kind).number)
    return known is not None and known.state == "ok"


def next_keys(view: RunView) -> list[tuple[str, str]]:
    """The keys that one would press next, with what each is for in this run's state."""
    status = view.status
    if status == "paused":
        return _answers(view)
    found = []
    if possible(view, "runs.resume"):
        found.append(("g", "go on"))
    if possible(view, "ssh"):
        found.append(("s", "ssh here" if stands(view) else "ssh"))
    if status != "passed":
        found += [("d", "diagnose"), ("enter", "log")]
    if possible(view, "runs.end"):
        what = "end it" if view.live else "remove its VM" if view.state.ended else "remove what it made"
        found.append(("X", what))
    if view.state.over:
        found.append(("n", "run again"))
    return found


def _answers(view: RunView) -> list[tuple[str, str]]:
    """What a run that stands still may be told: the keys of `verbs.shapes.answers`, and the ways to look."""
    from vmlab_tui.verbs.registry import VERBS
    from vmlab_tui.verbs.shapes import answers

    keys = {" ".join(("vmlab", *verb.words)): verb.key for verb in VERBS}
    words = {"b": "back+retry", "e": "edit+retry", "j": "skip", "X": "end", "p": "go on"}
    possible = [keys[command.rpartition(" ")[0]] for command, _ in answers(view)]
    found = [(key, words.get(key, "retry" if key == "r" else "keep")) for key in possible]
    return [*found[:-2], ("s", "ssh here"), ("d", "diagnose"), *found[-2:]]


def _keys(view: RunView) -> str:
    return "   ".join(f"{key} {what}" for key, what in next_keys(view))


def attempts(view: RunView, number: int) -> int:
    """How often a step was tried."""
    known = view.state.steps.get(number)
    return known.attempt if known else 0
