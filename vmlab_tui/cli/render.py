"""A followed run on the screen: a list that updates on a terminal, one line an event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.cli.style import Style
from vmlab_tui.journal.events import Event
from vmlab_tui.journal.state import CheckState, RunState, StepState
from vmlab_tui.runs.plan import Plan
from vmlab_tui.verbs.telling import amount, line_of, step_title
from vmlab_tui.verbs.words import cut, moment

_SHORT = {"skipped": "skip", "reused": "same", "unknown": "?", "failed": "FAIL", "error": "FAIL"}
_TOLD = (
    "note",
    "altered",
    "paused",
    "continued",
    "went_back",
    "step_amended",
    "end_requested",
    "worker_started",
)
_EVERY = 5.0
"""Seconds between two lines about progress where lines stay."""


_AT_ONCE = 1.0
"""Seconds after which a step that has begun is worth a line."""


class Renderer(Protocol):
    """Shows a run's events; ``state`` is the run's state after the event."""

    def event(self, event: Event, state: RunState) -> None: ...

    def tick(self) -> None:
        """Some time has passed."""
        ...

    def notice(self, text: str) -> None:
        """Something to be said about the watching itself."""
        ...

    def ctrl_c(self, text: str) -> None:
        """What the next Ctrl-C does, in a few words."""
        ...

    def close(self) -> None:
        """Nothing more comes: leave the screen as others expect it."""
        ...


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log that are not empty, cleaned; none when it cannot be read."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 16384))
            raw = file.read()
    except OSError:
        return []
    lines = [line.rstrip() for line in clean(raw).splitlines()]
    return [line for line in lines if line][-count:] if count > 0 else []


class Lines:
    """One line an event, with the time since the run's beginning."""

    def __init__(self, style: Style, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._style = style
        self._plan = plan
        self._clock = clock
        self._said = 0.0
        self._started: datetime | None = None
        self._begun: tuple[Event, float] | None = None

    def event(self, event: Event, state: RunState) -> None:
        if event.kind == "run_created":
            self._print(event, f"run {state.run_id}")
            return
        if event.kind == "step_started":
            self._begun = (event, self._clock())
            return
        if event.kind == "step_finished":
            self._begun = None
        if event.kind == "progress":
            if self._clock() - self._said < _EVERY:
                return
            self._said = self._clock()
        if text := line_of(event, self._plan):
            self._say_begun()
            self._print(event, text)

    def _say_begun(self) -> None:
        """A step's beginning, which is not worth a line of its own while it may end at once."""
        if self._begun:
            self._print(self._begun[0], line_of(self._begun[0], self._plan))
            self._begun = None

    def _print(self, event: Event, text: str) -> None:
        when = moment(event.time)
        self._started = self._started or when
        since = (when - self._started).total_seconds() if when and self._started else 0.0
        self._style.print(f"{duration(max(0.0, since)):>7} {text}")

    def tick(self) -> None:
        if self._begun and self._clock() - self._begun[1] > _AT_ONCE:
            self._say_begun()

    def notice(self, text: str) -> None:
        self._style.print(text)

    def ctrl_c(self, text: str) -> None:
        """Nothing to show it on."""

    def close(self) -> None:
        """Nothing to put right."""


class Live:
    """Finished steps as lines that stay; below them the step in flight with ticking time."""

    def __init__(self, style: Style, plan: Plan, folder: Path) -> None:
        self._style = style
        self._plan = plan
        self._folder = folder
        self._state = RunState()
        self._drawn: list[str] = []
        self._name = max((len(cut(step.name, 28)) for step in plan.steps), default=8)
        self._keys = ""

    def event(self, event: Event, state: RunState) -> None:
        self._state = state
        if event.kind == "step_finished":
            self._keep(self._finished(state.steps[int(str(event.data["number"]))]))
        elif event.kind == "check_result":
            self._keep(self._check(state.checks[-1]))
        elif event.kind in _TOLD:
            if text := line_of(event, self._plan):
                self._keep("        " + cut(text, self._style.columns - 9))
        elif event.kind == "run_created":
            self._keep(self._style.bold(f"run {state.run_id}"))

    def tick(self) -> None:
        lines = self._lines()
        if lines != self._drawn:
            self._write(self._erase() + self._region(lines))

    def notice(self, text: str) -> None:
        self._keep(text)

    def ctrl_c(self, text: str) -> None:
        self._keys = f"Ctrl-C: {text}"

    def close(self) -> None:
        self._write(self._erase())

    def _keep(self, line: str) -> None:
        """Print a line that stays, above what is redrawn."""
        self._write(self._erase() + line + "\n" + self._region(self._lines()))

    def _write(self, text: str) -> None:
        if text:
            self._style.stream.write(text)
            self._style.stream.flush()

    def _erase(self) -> str:
        """What takes the redrawn lines away again; the cursor is at the end of the last one."""
        if not self._drawn:
            return ""
        up = f"\x1b[{len(self._drawn) - 1}A" if len(self._drawn) > 1 else ""
        self._drawn = []
        return f"\r{up}\x1b[J"

    def _region(self, lines: list[str]) -> str:
        self._drawn = lines
        return "\n".join(lines)

    def _lines(self) -> list[str]:
        """What is redrawn: the step in flight, its last line of output, the whole."""
        width = self._style.columns - 1  # a full last column makes some terminals wrap
        lines = []
        step = self._state.current
        if step and not self._state.over:
            lines.append(self._active(step, width))
            if output := self._output(step):
                lines.append(self._style.dim(cut(f"        | {output}", width)))
        if not self._state.over:
            done = sum(one.state in ("ok", "skipped", "reused") for one in self._state.steps.values())
            total = f"{done} of {len(self._plan.steps)} steps, {duration(self._elapsed(self._state.started))}"
            lines.append(self._style.dim(cut(f"        {total}   {self._keys}", width)))
        return lines

    def _output(self, step: StepState) -> str:
        if not 1 <= step.number <= len(self._plan.steps):
            return ""
        name = self._plan.step(step.number).log_name(step.attempt)
        lines = last_lines(self._folder / "steps" / name, 1)
        return lines[0] if lines else ""

    def _active(self, step: StepState, width: int) -> str:
        progress = amount(step.progress) if step.progress else ""
        stage = f"{step.stage} {step.stage_detail}".strip()
        head = self._row(step.number, self._elapsed(step.started))
        return self._mark("run") + cut(f"{head}  {clean_line(progress or stage)}", width - 4)

    def _finished(self, step: StepState) -> str:
        width = self._style.columns - 1
        mark = "FAIL" if step.state == "failed" else step.state
        first = next(iter(clean(step.detail).splitlines()), "")  # the rest is on the last screen
        detail = clean_line(first) if step.state != "ok" else ""
        return self._mark(mark) + cut(f"{self._row(step.number, step.seconds)}  {detail}".rstrip(), width - 4)

    def _check(self, check: CheckState) -> str:
        detail = f": {check.detail}" if check.state != "passed" and check.detail else ""
        text = cut(clean_line(check.check + detail), self._style.columns - 9)
        return f"{self._mark('ok' if check.state == 'passed' else check.state)}    {text}"

    def _row(self, number: int, seconds: float) -> str:
        title = cut(step_title(self._plan, number), 31)
        return f" {title.ljust(self._name + 3)} {duration(seconds):>7}"

    def _mark(self, word: str) -> str:
        short = _SHORT.get(word, word)
        return self._style.mark(word, short.ljust(4))

    @staticmethod
    def _elapsed(since: str) -> float:
        when = moment(since)
        return max(0.0, (datetime.now(UTC) - when).total_seconds()) if when else 0.0


def renderer(style: Style, plan: Plan, folder: Path) -> Renderer:
    """The one that suits the stream."""
    return Live(style, plan, folder) if style.live else Lines(style, plan)
