"""What the Lab area shows as long as there is nothing: what vmlab is, and the way to a first run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import span

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp

IMAGE, PROFILE = "debian-12", "quickstart"


def wanted(app: LabApp) -> bool:
    """Whether there is nothing of ours yet. False as long as that is not known."""
    found, runs = app.hub.inventory, app.hub.runs
    if found is None or runs is None:
        return False
    return not (
        runs or app.hub.run_problems or found.images or found.leftovers or any(vm.own for vm in found.vms)
    )


class Offer(Vertical, can_focus=True):
    """``f`` (the screen's), here ``enter`` as well, builds the image and starts the profile that ships."""

    app: LabApp
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "begin", "build and run", show=False, tooltip="The same as f"),
        Binding("down,tab", "app.focus_next", "to the list", show=False),
    ]
    DEFAULT_CSS = """
    Offer {
        height: auto; padding: 1 2; display: none; border-bottom: solid $panel;
        &.-shown { display: block; }
        Static { height: auto; }
        #offer-title { text-style: bold; color: $text-accent; }
        #offer-ways, #offer-state { margin-top: 1; }
        #offer-state { color: $text-warning; display: none; }
        #offer-state.-shown { display: block; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Static(Content("There is no image and no run in this lab yet."), id="offer-title")
        yield Static(
            Content(
                "vmlab makes VMs from a profile, provisions and checks them, and shows what\n"
                "failed and why. Snapshots on the way take you back in seconds."
            )
        )
        yield Static("", id="offer-ways")
        yield Static("", id="offer-state")

    @staticmethod
    def _ways() -> Content:
        ways = [
            ("f", f"build the image {IMAGE} (about 2 minutes), run {PROFILE} on it"),
            ("n", "run a profile of your own"),
            ("3", "images: build another, or add a disk file"),
            ("?", "the keys that work here"),
        ]
        if os.geteuid():
            ways.insert(1, ("", "building needs root: start vmlab with sudo for that"))
        lines = [Content.assemble((f"{key:<7}", "bold $text-accent"), text) for key, text in ways]
        return Content("\n").join(lines)

    def show(self, shown: bool, *, alone: bool) -> None:
        """Come, or go; what is at work is told. ``alone``: there is no list to have the focus."""
        self.query_one("#offer-ways", Static).update(self._ways())
        if shown and alone and not self.has_class("-shown"):
            self.focus()
        self.set_class(shown, "-shown")
        activity = self.app.last_activity
        busy = activity is not None and not activity.over
        text = ""
        if activity and busy:
            text = f"{clean_line(activity.title)}: at work for {span(activity.seconds)}; 0 shows it"
        state = self.query_one("#offer-state", Static)
        state.update(Content(text))
        state.set_class(busy, "-shown")

    def action_begin(self) -> None:
        """Build and run; once at a time."""
        activity = self.app.last_activity
        if activity and not activity.over:
            self.app.action_activity()
        else:
            # the app's: it goes on when this is not shown any more
            self.app.run_worker(begin(self.app), group="first-start", exclusive=True, exit_on_error=False)


async def begin(app: LabApp) -> None:
    """Build the image, run the profile, open its screen. Stops where something fails: that is shown."""
    from vmlab_tui.tui.dispatch import perform
    from vmlab_tui.verbs.registry import by_id

    if not (app.hub.inventory and app.hub.inventory.image(IMAGE)):
        built = await perform(app, by_id("image.build"), (), {"recipe": IMAGE})
        if built is None:
            return
        if app.last_activity and app.watches(app.last_activity):
            await app.pop_screen()
    await perform(app, by_id("run"), (), {"profile": PROFILE})
