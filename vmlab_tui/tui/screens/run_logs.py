"""Which log stands beside a run's steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.logs.source import FileSource, JournalSource, LinesSource, LogSource
from vmlab_tui.tui.runview import attempts, check_of, step_of

if TYPE_CHECKING:
    from vmlab_tui.journal.state import CheckState
    from vmlab_tui.runs.client import RunView


@dataclass(frozen=True)
class Shown:
    """A log with its title, and what to say while there is nothing in it."""

    title: str
    source: LogSource | None
    empty: str = ""


class RunLogs:
    """The sources of one run's logs, each made once so that a view keeps its place in it."""

    def __init__(self) -> None:
        self._sources: dict[object, LogSource] = {}
        self._attempts: dict[int, int] = {}

    def moved_on(self, before: RunView, now: RunView) -> None:
        """A step that is tried again is looked at in its new attempt."""
        for number in [one for one in self._attempts if attempts(before, one) != attempts(now, one)]:
            del self._attempts[number]

    def another_attempt(self, view: RunView, number: int, by: int) -> None:
        """Look at an attempt before or after the one that is shown."""
        tried = attempts(view, number)
        self._attempts[number] = max(1, min(tried, self._attempts.get(number, tried) + by))

    def choose(self, view: RunView, pane: str, key: str) -> Shown:
        """The log of that pane; ``key``: the row under the cursor, which says whose step log."""
        if pane == "console":
            path = view.folder / "console.log"
            empty = "the VM has said nothing on its serial console yet"
            return Shown("serial console", self._file(path), empty)
        if pane == "cloud-init":
            path = view.folder / "cloud-init.log"
            return Shown("cloud-init's log", self._file(path), "cloud-init's log comes when it is done")
        if pane == "journal":
            path = view.folder / "journal.jsonl"
            if path not in self._sources:
                self._sources[path] = JournalSource(path, view.plan)
            return Shown("journal", self._sources[path], "no events yet")
        check = check_of(view, key)
        return self._check(key, check) if check else self._step(view, step_of(key) or 0)

    def _step(self, view: RunView, number: int) -> Shown:
        from vmlab_tui.verbs.shapes import log_of
        from vmlab_tui.verbs.telling import step_title

        if not 1 <= number <= len(view.plan.steps):
            return Shown("", None, "no step")
        tried = attempts(view, number)
        attempt = self._attempts.get(number, tried) or 1
        title = step_title(view.plan, number)
        if self._of_the_guest(view, number):
            shown = self.choose(view, "console", "")
            return Shown(f"{title}: console", shown.source, shown.empty)
        if tried > 1:
            title += f", attempt {attempt} of {tried}"
        empty = "this step has printed nothing" if tried else "not begun yet"
        return Shown(title, self._file(log_of(view, view.plan.step(number), attempt)), empty)

    @staticmethod
    def _of_the_guest(view: RunView, number: int) -> bool:
        """Whether a step has no log of its own and what it waits for, or waited for in vain, can be seen on
        the console."""
        from vmlab_tui.verbs.shapes import step_state

        if view.plan.step(number).kind not in ("boot", "address", "ssh", "cloud-init"):
            return False
        return step_state(view, number) in ("running", "failed", "unknown")

    def _check(self, key: str, check: CheckState) -> Shown:
        known = (key, check)
        if known not in self._sources:
            source = LinesSource(known)
            source.append(f"{check.check}: {check.state}")
            for text in (check.detail, check.evidence):
                if text.strip():
                    source.append("")
                    source.append(text)
            self._sources[known] = source
        return Shown(f"check {clean_line(check.check, 60)}", self._sources[known])

    def _file(self, path: Path) -> LogSource:
        if path not in self._sources:
            self._sources[path] = FileSource(path)
        return self._sources[path]
