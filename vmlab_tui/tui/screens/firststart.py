"""What an area shows as long as there is no run: what vmlab is, and the way to a first one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import span
from vmlab_tui.tui.screens.base import AreaScreen
from vmlab_tui.tui.widgets.filterbar import FilterBar
from vmlab_tui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp

IMAGE, PROFILE = "debian-12", "quickstart"
_ABOUT = (
    "vmlab makes VMs from a profile, provisions and checks them, and shows what\n"
    "failed and why. Snapshots on the way take you back in seconds."
)


def stage(app: LabApp) -> Literal["", "image", "run"]:
    """What is missing to begin with: an image (and all else), or only a run. Empty: nothing is, or that is
    not known yet."""
    found, runs = app.hub.inventory, app.hub.runs
    if found is None or runs is None:
        return ""
    if runs or app.hub.run_problems or found.leftovers or any(vm.own for vm in found.vms):
        return ""
    if not found.images:
        return "image"
    return "run" if any(one.image and not one.problem for one in found.images) else ""


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
        yield Static("", id="offer-title")
        yield Static(Content(_ABOUT), id="offer-about")
        yield Static("", id="offer-ways")
        yield Static("", id="offer-state")

    def _ways(self, missing: str) -> Content:
        found = self.app.hub.inventory
        build = not (found and found.image(IMAGE))
        ways = [
            ("f", f"build the image {IMAGE} (about 2 minutes), run {PROFILE} on it")
            if build
            else ("f", f"run {PROFILE}: a small VM on {IMAGE}, a web service in it, checks"),
            ("n", "run a profile of your own"),
        ]
        if missing == "image":
            ways += [("3", "images: build another, or add a disk file"), ("?", "the keys that work here")]
        if build and os.geteuid():
            ways.insert(1, ("", "building needs root: start vmlab with sudo for that"))
        lines = [Content.assemble((f"{key:<7}", "bold $text-accent"), text) for key, text in ways]
        return Content("\n").join(lines)

    def show(self, missing: str, *, alone: bool) -> None:
        """Come, or go; what is at work is told. ``missing``: of :func:`stage`; ``alone``: there is no list
        to have the focus."""
        title = "There is no image and no run" if missing == "image" else "There is an image and no run"
        self.query_one("#offer-title", Static).update(Content(f"{title} in this lab yet."))
        self.query_one("#offer-about").display = missing == "image"
        self.query_one("#offer-ways", Static).update(self._ways(missing))
        if missing and alone and not self.has_class("-shown"):
            self.focus()
        self.set_class(bool(missing), "-shown")
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


class OfferingArea(AreaScreen):
    """An area with an :class:`Offer` in :meth:`body`, before the list that stands alone in a Horizontal."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "first_run", "first run", tooltip=f"Build {IMAGE} if need be, then run the {PROFILE}"),
    ]

    DEFAULT_CSS = """
    OfferingArea.-offer Horizontal { display: none; }
    OfferingArea.-offer Offer { border-bottom: none; }
    """

    def on_mount(self) -> None:
        self.app.hub.lab_changed.subscribe(self, self._offer)
        self.app.hub.runs_changed.subscribe(self, self._offer)

    def _offer(self, _: object = None) -> None:
        """As long as there is nothing of ours, the way to a first run stands above the list, or for it."""
        missing = stage(self.app)
        offer, rows = self.query_one(Offer), self.query_one(Rows)
        had = offer.has_focus
        alone = not rows.rows and not self.filtering
        offer.show(missing, alone=alone)
        instead = bool(missing) and alone
        self.set_class(instead, "-offer")
        if had and not instead:
            rows.focus()
        elif instead and rows.has_focus:
            offer.focus()
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "first_run":
            return bool(stage(self.app))
        return super().check_action(action, parameters)

    def action_first_run(self) -> None:
        """Build the image that ships if it is not there, and run the profile that ships on it."""
        self.query_one(Offer).action_begin()

    def on_filter_bar_closed(self, event: FilterBar.Closed) -> None:  # type: ignore[override]
        if self.has_class("-offer"):  # there is no list to have the focus
            event.prevent_default()
            self.query_one(Offer).focus()


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
