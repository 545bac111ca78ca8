"""One run: its steps on the left, what they say on the right, how it ended below."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import Static

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.screens.base import VerbScreen, verb_bindings
from vmlab_tui.tui.screens.run_logs import RunLogs
from vmlab_tui.tui.screens.run_panes import PANES, PaneLine, in_a_row, one_below_the_other, put
from vmlab_tui.tui.selection import Target
from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.logview import LogView
from vmlab_tui.tui.widgets.rows import Column, Rows

if TYPE_CHECKING:
    from concurrent.futures import Future

    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.watch import FollowView
    from vmlab_tui.tui.runview import Ending, Said
    from vmlab_tui.verbs.verb import Verb

_TICK = 0.25
_MISSING = 2.5
"""Seconds after which a run of which nothing is seen is not one that is just being made."""
_STEPS_LEFT = 6
"""Rows of steps that stay visible above the end of a run on a small screen."""


class RunScreen(VerbScreen):
    """Narrow: the steps, or one log; wide: both."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *verb_bindings("runs", without=("runs.show", "runs.logs")),
        Binding("tab", "pane(1)", "next log", tooltip="Step log, console, cloud-init, journal"),
        Binding("shift+tab", "pane(-1)", "log before", show=False, tooltip="The same the other way round"),
        Binding("comma", "attempt(-1)", "attempt before", show=False, tooltip="The step's attempt before"),
        Binding("full_stop", "attempt(1)", "next attempt", show=False, tooltip="The step's next attempt"),
        Binding("slash", "log('search')", "search", show=False, tooltip="Search the log that is shown"),
        Binding(
            "exclamation_mark", "log('error')", "error", show=False, tooltip="Go to the next error in the log"
        ),
        Binding("o", "log('pager')", "pager", show=False, tooltip="Open the log that is shown in your pager"),
        Binding("ctrl+s", "log('save')", "save", show=False, tooltip="Save the log that is shown"),
        Binding("escape", "back", "back", tooltip="From the log to the steps; from the steps to the runs"),
    ]
    CSS = """
    RunScreen {
        #head { height: 1; background: $panel; padding: 0 1; }
        #start { height: auto; padding: 0 1; display: none; }
        #body { height: 1fr; }
        #steps { width: 2fr; min-width: 40; }
        #logs { width: 3fr; border-left: solid $panel; }
        &.-log #logs { border-left: solid $primary; }
        #now { height: 1; color: $text-muted; background: $surface; padding: 0 1; display: none; }
        #ending { height: auto; background: $surface; display: none; }
        &.-narrow #steps { width: 1fr; }
        &.-narrow #logs { display: none; }
        &.-narrow.-log #steps { display: none; }
        &.-narrow.-log #logs { display: block; width: 1fr; border-left: none; }
        &.-narrow.-log #ending { display: none; }
    }
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.view: RunView | None = None
        self.problem = ""
        self.pane = "step"
        self._end: Ending | None = None
        self._asked = self._answered = 0
        self._auto = ""
        self._following = True
        self._logs = RunLogs()
        self._keys_for: object = None
        self._watching: Future[None] | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="head", markup=False)
        yield Static("", id="start", markup=False)
        columns = (
            Column("state", 4),
            Column("nr", 2),
            Column("step", least=16, middle=True),  # its end says which attempt, and the star
            Column("took", 8, right=True),
            Column("usual", 8, drop=1),
        )
        with Horizontal(id="body"):
            yield Rows(columns, id="steps", head=False, empty=f"reading run {clean_line(self.run_id)} ...")
            with Vertical(id="logs"):
                yield PaneLine()
                yield LogView(id="log")
        yield Static("", id="now", markup=False)
        yield Static("", id="ending", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        self._head()
        self.set_interval(_TICK, self._tick)
        self._watching = self.app.backend.submit(self._watch())

    def on_unmount(self) -> None:
        if self._watching:
            self._watching.cancel()

    async def _watch(self) -> None:
        """On the backend's loop, for as long as the screen is there."""
        from vmlab_tui.runs.watch import FollowView, follow_run

        while (lab := self.app.hub.lab) is None:  # noqa: ASYNC110  # set on the other loop
            await asyncio.sleep(0.02)
        tell = self.app.backend.to_ui
        try:
            async with follow_run(lab, self.run_id, lambda news: tell(self._take, news)) as watcher:
                await asyncio.sleep(_MISSING)
                if watcher.view.run is None and not watcher.view.problem:
                    there = f"there is no such run in {lab.store.runs}"
                    tell(self._take, FollowView(None, (), there))
                await asyncio.Event().wait()
        except LabError as error:
            tell(self._take, FollowView(None, (), error.message))

    # -- what is known of the run ----------------------------------------------------------------

    def _take(self, news: FollowView) -> None:
        """The run has moved on, or cannot be read any more."""
        if not self._there:
            return
        before, self.problem = self.view, news.problem
        self.view = news.run or self.view
        if self.view is None or self.problem:
            self._tell_problem()
            if self.view is None:
                return
        if before:
            self._logs.moved_on(before, self.view)
        self._show_steps()
        self._show_log()
        self._look()
        self._keys_moved()

    def _tell_problem(self) -> None:
        if self.view is None:
            self.query_one(Rows).set_rows([], empty="no steps")
        self._head()
        self._show_end()

    def _tick(self) -> None:
        if self.view and self.view.live:
            with suppress(NoMatches):  # when the screen goes, its widgets go before its timer
                self._show_steps()

    def _head(self) -> None:
        from vmlab_tui.tui.runview import head

        lab, name = self.app.hub.inventory, f"Run {clean_line(self.run_id)}"
        parts = head(self.view, lab) if self.view else [(name, "")]
        if self.problem:
            parts[1:2] = [("cannot be read any more" if self.view else "cannot be read", "warn")]
        put(self.query_one("#head", Static), in_a_row(parts, self.size.width - 2))
        self._show_start()

    def _show_start(self) -> None:
        from vmlab_tui.tui.runview import begins

        widget, width = self.query_one("#start", Static), self.size.width - 2
        said = begins(self.view, width) if self.view and not self._log_only else []
        widget.display = bool(said)
        put(widget, one_below_the_other(said, width), layout=True)

    def _show_steps(self) -> None:
        from vmlab_tui.tui.runview import at_work, followed, rows

        assert self.view is not None
        self._head()
        steps = self.query_one(Rows)
        if self._auto and steps.cursor and steps.cursor.key != self._auto:
            self._following = False  # the person has just moved it
        fresh = rows(self.view)
        first = not steps.rows
        steps.set_rows(fresh)
        if self._following:
            self._auto = followed(self.view)
            if first or not steps.cursor or steps.cursor.key != self._auto:
                steps.move_to(self._auto)
        now = self.query_one("#now", Static)
        text = at_work(self.view, self.size.width - 2)
        now.display = bool(text)
        put(now, Content(text))

    # -- the end ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what the end is told by; it comes when it comes."""
        from vmlab_tui.tui.runview import look

        view = self.view
        assert view is not None
        self._asked += 1
        number = self._asked

        async def read() -> None:
            found = await asyncio.to_thread(look, view)
            self.app.backend.to_ui(self._looked, number, found)

        self.app.backend.submit(read())

    def _looked(self, number: int, found: Ending) -> None:
        if number > self._answered and self._there:  # an answer to an older question comes too late
            self._answered, self._end = number, found
            self._show_end()

    def _show_end(self) -> None:
        from vmlab_tui.tui.runview import ending

        if not self._there:
            return
        self._show_start()
        widget = self.query_one("#ending", Static)
        lines: list[Said] = []
        if self.problem:
            lines = [(f" ! {clean_line(self.problem, 300)}", "warn")]
            lines.append(("   esc goes back to the runs", "accent"))
        elif self.view and self._end and (self._end.verdict or self._end.output or self._end.console):
            narrow = self.has_class("-narrow")
            above = str(self.query_one("#start", Static).content).count("\n") + 1
            room = self.size.height - 3 - above - _STEPS_LEFT if narrow else max(10, self.size.height // 3)
            lines = ending(self.view, self._end, room)
        width = self.size.width
        widget.display = bool(lines) and not self._log_only
        put(widget, one_below_the_other(lines, width), layout=True)

    @property
    def _there(self) -> bool:
        """Whether the screen has its parts: what is told meanwhile may come when it is being closed."""
        return self.is_attached and bool(self.query(LogView))

    def on_resize(self) -> None:
        self._head()
        self.call_after_refresh(self._show_end)

    # -- the logs --------------------------------------------------------------------------------

    def _show_log(self) -> None:
        """Put the pane's log for the row under the cursor into the view."""
        if self.view is None or not self._there:
            return
        row = self.query_one(Rows).cursor
        shown = self._logs.choose(self.view, self.pane, row.key if row else "")
        self.query_one(LogView).show(shown.source, shown.title, empty=shown.empty)
        self._show_panes()

    def _show_panes(self) -> None:
        log = self.query_one(LogView)
        title, _, more = log.title.partition(", attempt ")
        attempt, status = f"attempt {more}" if more else "", log.status
        said = (status.message, status.mode) if log.source else ("", "")
        urgent = status.hits is not None or bool(status.note)
        self.query_one(PaneLine).show(self.pane, title, attempt, *said, urgent=urgent)

    def on_log_view_status(self, event: LogView.Status) -> None:
        self._show_panes()
        self._keys_moved()

    def on_log_view_open_in_pager(self, event: LogView.OpenInPager) -> None:
        from vmlab_tui.tui.screens.run_export import open_in_pager

        title = f"{self.run_id} {event.view.title}"
        self.app.run_worker(
            open_in_pager(self.app, event.source, title), group="pager", exclusive=True, exit_on_error=False
        )

    def on_log_view_save_log(self, event: LogView.SaveLog) -> None:
        from vmlab_tui.tui.screens.run_export import save_log

        title = f"{self.run_id} {event.view.title}"
        self.app.run_worker(
            save_log(self.app, event.source, title), group="save", exclusive=True, exit_on_error=False
        )

    def on_log_view_copy_line(self, event: LogView.CopyLine) -> None:
        self.app.copy_to_clipboard(event.text)
        self.app.tell(f"copied: {clean_line(event.text, 80)}")

    # -- keys and mouse --------------------------------------------------------------------------

    def on_rows_moved(self, event: Rows.Moved) -> None:
        from vmlab_tui.tui.runview import followed

        cursor = event.rows.cursor
        if cursor is not None and self.view is not None:
            self._following = cursor.key == followed(self.view)
            self._auto = cursor.key if self._following else self._auto
        if self.pane == "step":
            self._show_log()
        self._keys_moved()

    def on_rows_opened(self, event: Rows.Opened) -> None:
        self.pane = "step"
        self._show_log()
        self._open_log()

    def on_pane_line_picked(self, event: PaneLine.Picked) -> None:
        self._go_to(event.ident)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.set_class(isinstance(event.widget, LogView), "-log")
        self._show_end()

    def _open_log(self) -> None:
        self.add_class("-log")
        self._show_end()
        self.call_after_refresh(self.query_one(LogView).focus)

    @property
    def _log_only(self) -> bool:
        """Whether a small screen shows nothing but a log."""
        return self.has_class("-narrow") and self.has_class("-log")

    @property
    def _log_visible(self) -> bool:
        return self.has_class("-log") or not self.has_class("-narrow")

    def action_pane(self, by: int) -> None:
        """The next log; on a small screen that shows the steps, the log first."""
        names = [ident for ident, _ in PANES]
        at = names.index(self.pane) + by
        self._go_to(names[at % len(names)])

    def _go_to(self, pane: str) -> None:
        self.pane = pane
        self._show_log()
        if not self._log_visible:
            self._open_log()

    def action_attempt(self, by: int) -> None:
        if self.view is not None:
            self._logs.another_attempt(self.view, self._number, by)
            self.pane = "step"
            self._show_log()

    @property
    def _number(self) -> int:
        """The step under the cursor, 0 for none."""
        from vmlab_tui.tui.runview import step_of

        row = self.query_one(Rows).cursor
        return (step_of(row.key) or 0) if row else 0

    def action_log(self, what: str) -> None:
        """One of the log's own keys, pressed while the steps have the focus."""
        self._open_log()
        self.call_after_refresh(self.query_one(LogView).run_action, what)

    def action_back(self) -> None:
        if self.has_class("-log"):
            self.remove_class("-log")
            self.call_after_refresh(self.query_one(Rows).focus)
            self.call_after_refresh(self._show_end)
        else:
            self.app.pop_screen()

    def _keys_moved(self) -> None:
        """Work out anew which keys there are, if what they depend on has changed: it takes milliseconds."""
        from vmlab_tui.tui.runview import attempts, possible

        view, log = self.view, self.query_one(LogView)
        known = (
            [possible(view, one) for one in ("ssh", "vm.show", "runs.resume", "runs.end", "diagnose")]
            if view
            else []
        )
        tried = attempts(view, self._number) > 1 if view else False
        now = (view.status, view.state.pause_why) if view else None
        sign = (known, now, self.problem, tried, log.status.hits is None, log.source is None)
        if sign != self._keys_for:
            self._keys_for = sign
            self.refresh_bindings()

    # -- verbs -----------------------------------------------------------------------------------

    def targets(self) -> tuple[Target, ...]:
        state = self.view.status if self.view else ""
        return (Target("run", self.run_id, clean_line(self.run_id), state=state),)

    def _verb(self, area: str, key: str) -> Verb | None:
        from vmlab_tui.tui.runview import possible

        verb = super()._verb(area, key)
        if verb is None or self.view is None or self.problem:
            return verb if verb and verb.id == "run" else None
        return verb if possible(self.view, verb.id) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "attempt":
            if self.view is None:
                return False
            from vmlab_tui.tui.runview import attempts

            return attempts(self.view, self._number) > 1
        return super().check_action(action, parameters)

    def do(self, verb: Verb, targets: tuple[Target, ...], **given: Any) -> None:
        """A new run begins with this run's profile; one that goes on needs its secrets again."""
        if verb.id == "ssh" and self.view is not None:
            from vmlab_tui.tui.runview import stands

            given = {"here": stands(self.view), **given}
        if verb.id == "run" and self.view is not None:
            from vmlab_tui.tui.screens.newrun import NewRunScreen

            self.app.push_screen(NewRunScreen(str(self.view.plan.profile_file)))
            return
        names = self.view.plan.secret_names if self.view else ()
        if verb.id == "runs.resume" and names:
            from vmlab_tui.tui.screens.run_secrets import perform_with_secrets

            work = perform_with_secrets(self.app, verb, targets, names, os.environ)
            self.app.run_worker(work, group=f"verb-{verb.id}", exit_on_error=False)
            return
        super().do(verb, targets, **given)
