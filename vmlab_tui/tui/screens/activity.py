"""A verb that takes long, live: its phases, what the programs at work write, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.tui.front import Activity, Phase
from vmlab_tui.tui.text import fit
from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.logview import LogView

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp

_TONES = {"done": "$text-success", "failed": "$text-error", "cancelled": "$text-warning"}


class ActivityScreen(Screen[None]):
    """``esc`` leaves it at work behind; ``ctrl+x`` cancels it."""

    app: LabApp
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", tooltip="Go back; what is at work here goes on, 0 comes back"),
        Binding("ctrl+x", "cancel", "cancel", tooltip="Call off what is at work here; asks first"),
    ]
    CSS = """
    ActivityScreen {
        #parts { width: 46; height: 100%; border-right: solid $panel; scrollbar-gutter: stable; }
        #phases, #problem { height: auto; padding: 0 1; }
        #problem { display: none; border: round $error; }
        #problem.-shown { display: block; }
        LogView { width: 1fr; height: 100%; padding: 0 1; }
        &.-narrow #both { layout: vertical; }
        &.-narrow #parts { width: 100%; height: auto; max-height: 60%; border-right: none;
                           border-bottom: solid $panel; }
        &.-narrow LogView { width: 100%; height: 1fr; }
    }
    """

    def __init__(self, activity: Activity) -> None:
        super().__init__()
        self.activity = activity

    def compose(self) -> ComposeResult:
        yield Static("", classes="title", id="head")
        with Horizontal(id="both"):
            with VerticalScroll(id="parts"):
                yield Static("", id="phases")
                yield Static("", id="problem")
            yield LogView(empty="nothing was written yet", id="log")
        yield KeyLine()

    def on_mount(self) -> None:
        self._draw()
        log = self.query_one(LogView)
        log.show(self.activity.log)
        log.focus()
        self._timer = self.set_interval(0.25, self._tick)

    def _tick(self) -> None:
        self._draw()
        if self.activity.over:
            self._timer.stop()
            self.refresh_bindings()

    def _draw(self) -> None:
        one = self.activity
        title = fit(clean_line(one.title), max(10, self.size.width - 22)).rstrip()
        head = Content.assemble(
            f" {title}  ",
            (one.state, _TONES.get(one.state, "$text-accent")),
            f"  {duration(int(one.seconds)) if one.seconds >= 60 else f'{int(one.seconds)} s'}",
        )
        self.query_one("#head", Static).update(head)
        width = max(20, self.query_one("#parts").scrollable_content_region.width - 2)
        lines = [self._line(phase, width) for phase in one.phases]
        if not lines:
            lines = [Content(clean_line(one.status) or ("" if one.over else "getting ready ..."))]
        self.query_one("#phases", Static).update(Content("\n").join(lines))
        message, hint = one.problem
        problem = self.query_one("#problem", Static)
        if message and not problem.has_class("-shown"):
            # first what to do: the rest may not fit, and stands in the log as well
            first, _, rest = message.partition("\n")
            told = "\n".join(filter(None, (first, hint and f"What to do: {hint}", rest)))
            problem.update(Content(told))
            problem.add_class("-shown")

    def _line(self, phase: Phase, width: int) -> Content:
        """``ok  packages       12.3s`` with the detail below as long as it goes on."""
        if phase.ended is None:
            word, tone = ">>", "$text-accent"
        elif phase is self.activity.phases[-1] and self.activity.state in ("failed", "cancelled"):
            word, tone = ("!!", "$text-error") if self.activity.state == "failed" else ("--", "$text-warning")
        else:
            word, tone = "ok", "$text-success"
        took = duration(phase.seconds)
        line = Content.assemble(
            (word, tone), "  ", fit(phase.name, width - len(took) - 5), " ", (took, "$text-muted")
        )
        if phase.detail and word != "ok":
            line = Content("\n").join(
                [line, Content.styled("    " + fit(phase.detail, width - 4), "$text-muted")]
            )
        return line

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "cancel":
            return not self.activity.over
        return super().check_action(action, parameters)

    def action_leave(self) -> None:
        """Back; what is at work goes on."""
        if not self.activity.over:
            self.app.tell(f"{clean_line(self.activity.title)} goes on; 0 shows it again")
        self.dismiss()

    def action_cancel(self) -> None:
        """Ask, then call it off; it is over when what it began has been cleared away."""
        self.run_worker(self._cancel(), exit_on_error=False, group="cancel")

    async def _cancel(self) -> None:
        one = self.activity
        loses = [f"the work of {duration(one.seconds)}; what was there before stays as it is"]
        if await self.app.ask(f"Cancel {clean_line(one.title)}?", loses) and not one.over:
            one.state = "cancelling"
            self._draw()
            one.cancel()

    def on_log_view_open_in_pager(self, event: LogView.OpenInPager) -> None:
        from vmlab_tui.tui.screens.run_export import open_in_pager

        work = open_in_pager(self.app, event.source, self.activity.title)
        self.app.run_worker(work, group="pager", exit_on_error=False)

    def on_log_view_save_log(self, event: LogView.SaveLog) -> None:
        from vmlab_tui.tui.screens.run_export import save_log

        work = save_log(self.app, event.source, self.activity.title)
        self.app.run_worker(work, group="save", exit_on_error=False)

    def on_log_view_copy_line(self, event: LogView.CopyLine) -> None:
        self.app.copy_to_clipboard(event.text)
        self.app.tell("copied one line")
