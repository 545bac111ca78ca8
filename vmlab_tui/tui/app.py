"""The TUI: one screen for each area, dialogs above them, everything else in the backend's thread."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.command import CommandPalette, Provider
from textual.screen import ModalScreen, Screen

from vmlab_tui.base.errors import Exit
from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.backend import Backend
from vmlab_tui.tui.front import Activity
from vmlab_tui.tui.hub import Hub
from vmlab_tui.tui.keyorder import OrderedKeys
from vmlab_tui.tui.screens.base import AreaScreen
from vmlab_tui.tui.screens.cleanup import CleanUpArea
from vmlab_tui.tui.screens.dialogs import ConfirmDialog, Look, MessageDialog
from vmlab_tui.tui.screens.images import ImagesArea
from vmlab_tui.tui.screens.lab import LabArea
from vmlab_tui.tui.screens.runs import RunsArea

if TYPE_CHECKING:
    from vmlab_tui.spec.settings import Settings
    from vmlab_tui.verbs.verb import Param

THEMES = {"dark": "textual-dark", "light": "textual-light", "ansi": "ansi-dark"}
"""Our names of themes, and Textual's."""


def _palette() -> type[Provider]:
    from vmlab_tui.tui.palette import LabProvider

    return LabProvider


class LabApp(OrderedKeys):
    """``uri``, ``store``: as ``vmlab``'s options of these names."""

    TITLE = "vmlab"
    CSS_PATH = "vmlab.tcss"
    MODES: ClassVar[dict[str, Any]] = {
        "lab": LabArea,
        "runs": RunsArea,
        "images": ImagesArea,
        "clean-up": CleanUpArea,
    }
    DEFAULT_MODE = "lab"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012  # Textual's own annotation
    COMMANDS: ClassVar[set[Any]] = {_palette}
    COMMAND_PALETTE_BINDING = "colon"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "area('lab')", "Lab", show=False, tooltip="The images, VMs and snapshots there are"),
        Binding("2", "area('runs')", "Runs", show=False, tooltip="All runs, and how they ended"),
        Binding("3", "area('images')", "Images", show=False, tooltip="Base images: build, add, remove"),
        Binding("4", "area('clean-up')", "Clean-up", show=False, tooltip="What may go, why; the trash"),
        Binding("0", "activity", "at work", show=False, tooltip="What vmlab itself is doing, or did last"),
        Binding("question_mark", "keys", "keys", show=False, tooltip="The keys that work here"),
        # where one types, ? is a letter
        Binding("f1", "keys", "keys", show=False, priority=True, tooltip="The keys that work here"),
        Binding("at", "commands", "commands", show=False, tooltip="The commands that were really run"),
        Binding("q", "leave", "quit", show=False, tooltip="Leave vmlab; runs go on"),
        Binding("ctrl+q,ctrl+c", "leave", "quit", show=False, priority=True, system=True),
        Binding("ctrl+z", "nothing", show=False, priority=True, system=True),
    ]

    areas: tuple[tuple[str, str], ...] = (
        ("lab", "Lab"),
        ("runs", "Runs"),
        ("images", "Images"),
        ("clean-up", "Clean-up"),
    )
    """(id, name) of the areas that work, in the order of their number keys."""

    def __init__(self, uri: str | None = None, store: Path | None = None, theme: str | None = None) -> None:
        super().__init__(ansi_color=theme == "ansi")
        self.backend = Backend()
        self.hub = Hub(self, uri, store)
        self._activities: list[Activity] = []
        self._last: Activity | None = None
        self.settings: Settings | None = None
        """None until they have been read."""
        self._theme_asked = bool(theme)
        if theme:
            self.theme = THEMES[theme]

    def on_mount(self) -> None:
        self.backend.start()
        # once the first frame is on the screen: imports in another thread slow this one down
        self.call_after_refresh(self.hub.start)

    async def on_unmount(self) -> None:
        await self.backend.stop()

    @property
    def _background_screens(self) -> list[Screen[Any]]:
        """Only what a dialog lets shine through: Textual repaints all of the top screen for every change in
        the one below, which costs 20 ms and more each time, even if nothing of that one can be seen."""
        return super()._background_screens if self.screen.is_modal else []

    # -- going somewhere -------------------------------------------------------------------------

    async def action_area(self, ident: str) -> None:
        """Show an area as it was left."""
        if isinstance(self.screen, ConfirmDialog | MessageDialog):
            return
        await self.switch_mode(ident)

    def action_command_palette(self) -> None:
        """Everything that can be done or gone to; not while a question waits for its answer."""
        if not isinstance(self.screen, ModalScreen):
            self.push_screen(
                CommandPalette(placeholder="What to do, or where to go?", id="--command-palette")
            )

    def set_theme(self, name: str) -> None:
        """One of our themes: dark, light, ansi (the terminal's own colours)."""
        self.ansi_color = name == "ansi"
        self.theme = THEMES[name]

    def action_nothing(self) -> None:
        """A key that must not do what the terminal would do with it."""

    def action_keys(self) -> None:
        from vmlab_tui.tui.screens.keys import KeysScreen

        if isinstance(self.screen, KeysScreen):
            self.pop_screen()
            return
        self.push_screen(KeysScreen(self.screen))

    def action_commands(self) -> None:
        from vmlab_tui.tui.screens.commands import CommandsScreen

        self.push_screen(CommandsScreen())

    async def open_run(self, run_id: str) -> None:
        """Show a run's own screen."""
        from vmlab_tui.tui.screens.run import RunScreen

        if isinstance(self.screen, RunScreen) and self.screen.run_id == run_id:
            return
        await self.switch_mode("runs")
        await self.push_screen(RunScreen(run_id))

    async def go_to(self, kind: str, ref: str) -> None:
        """Show one thing where it lives: a vm (uuid), an image or a run (by name)."""
        if kind == "run":
            await self.open_run(ref)
            return
        ident = "images" if kind == "image" else "lab"
        await self.switch_mode(ident)
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        if isinstance(self.screen, AreaScreen):
            self.screen.go_to(f"{kind}\x1f{ref}")

    async def action_leave(self) -> None:
        """Quit; say what goes on, and ask where something would be lost."""
        at_work = [activity for activity in self._activities if not activity.over]
        if at_work:
            loses = [f"{activity.title}: {activity.status or 'at work'}" for activity in at_work]
            self.run_worker(self._leave_if(loses), exit_on_error=False, group="leave")
            return
        self._leave()

    async def _leave_if(self, loses: list[str]) -> None:
        if await self.ask("Leave vmlab? What it is doing itself is called off.", loses):
            self._leave()

    def _leave(self) -> None:
        live = [view.run_id for view in self.hub.runs or () if view.live]
        if live:
            runs = f"{len(live)} runs go on" if len(live) > 1 else f"run {live[0]} goes on"
            self.exit(message=f"{runs} without vmlab; come back with: vmlab")
        else:
            self.exit()

    # -- what verbs want of the person -----------------------------------------------------------

    async def ask(
        self,
        question: str,
        loses: Sequence[str] = (),
        options: Sequence[tuple[str, Param]] = (),
        look: Look | None = None,
        head: str = "",
    ) -> bool:
        """A yes or no in a dialog; what else can be chosen in it, and ``head``, see there."""
        # push_screen_wait insists on being called in a worker
        answered: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()

        def done(answer: bool | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.push_screen(ConfirmDialog(question, loses, options, look, head), done)
        return bool(await answered)

    async def hand_over(self, argv: Sequence[str]) -> int:
        """Give the terminal to another program; returns its exit status."""
        problem: OSError | None = None
        status = 255

        def ignore(*_: object) -> None:
            """Ctrl-C in the other program is for it alone."""

        before = signal.signal(signal.SIGINT, ignore)
        try:
            # writes that pile up while the terminal is away would block for ever
            with self.batch_update(), self.suspend():
                try:
                    process = await asyncio.create_subprocess_exec(*argv)
                    status = await process.wait()
                except OSError as error:
                    # raised in here, the screen would never come back
                    problem = error
        finally:
            signal.signal(signal.SIGINT, before)
        self.refresh(layout=True)
        if problem:
            self.show_error(f"{clean_line(argv[0])} cannot be started: {problem.strerror}")
        return status

    # -- telling ---------------------------------------------------------------------------------

    def tell(self, text: str, *, bad: bool = False) -> None:
        """A notification that goes away by itself."""
        self.notify(text, severity="warning" if bad else "information", markup=False)

    def show_error(self, message: str, hint: str = "") -> None:
        """What went wrong and what to do, until it is read."""
        self.push_screen(MessageDialog(message, hint))

    def show_text(self, title: str, lines: Sequence[str]) -> None:
        """A longer result on a screen of its own."""
        from vmlab_tui.tui.screens.text import TextScreen

        self.push_screen(TextScreen(title, lines))

    def activity_begins(self, activity: Activity, *, long: bool = False) -> None:
        """A verb is at work; one that takes long is shown."""
        self._activities.append(activity)
        if long:
            self._last = activity
            self.action_activity()

    def action_activity(self) -> None:
        """Show what vmlab is busy with, or was last."""
        if self._last is None:
            self.tell("nothing yet: 0 shows what takes vmlab long, such as building an image")
        elif not self.watches(self._last):
            from vmlab_tui.tui.screens.activity import ActivityScreen

            self.push_screen(ActivityScreen(self._last))

    @property
    def last_activity(self) -> Activity | None:
        """The last verb that took long, at work or over."""
        return self._last

    def watches(self, activity: Activity) -> bool:
        """Whether the person looks at it just now."""
        return getattr(self.screen, "activity", None) is activity

    def activity_ends(self, activity: Activity) -> None:
        self._activities.remove(activity)
        self.activity_status(activity)

    def activity_said(self, activity: Activity, line: str) -> None:
        activity.log.append(line)
        if not self.watches(activity):
            self.tell(clean_line(line))

    def activity_status(self, activity: Activity) -> None:
        """Something goes on, or is over: the tab line shows it."""
        self.hub.host_changed.publish(self.hub.host)

    def busy_with(self) -> list[str]:
        """What verbs are doing just now, each in a few words."""
        return [clean_line(activity.status or activity.title, 60) for activity in self._activities]

    def runs_moved(self, before: Sequence[Any] | None, now: Sequence[Any]) -> None:
        """Tell the person when a run has ended or pauses."""
        from vmlab_tui.tui.notify import news, tell_away

        for text, bad in news(before, now):
            self.tell(text, bad=bad)
            self.bell()
            how = self.settings.notify if self.settings else "off"
            self.run_worker(tell_away(text, how, self._write_raw), exit_on_error=False, group="notify")

    def _write_raw(self, sequence: str) -> None:
        """Send the terminal a sequence of our own making."""
        if self._driver:
            self._driver.write(sequence)
            self._driver.flush()

    def take_settings(self, settings: Settings) -> None:
        """The person's settings are known; what was asked for at the start beats them."""
        self.settings = settings
        if not self._theme_asked and THEMES[settings.theme] != self.theme:
            self.set_theme(settings.theme)


def run(uri: str | None = None, store: Path | None = None) -> None:
    """Open the TUI and stay until the person leaves."""
    theme = os.environ.get("VMLAB_THEME")
    if theme and theme not in THEMES:
        print(f"VMLAB_THEME={clean_line(theme, 40)} is no theme: {', '.join(THEMES)}", file=sys.stderr)
        raise SystemExit(Exit.USAGE)
    from vmlab_tui.tui.graphics import prepare

    prepare()
    LabApp(uri, store, theme).run()
