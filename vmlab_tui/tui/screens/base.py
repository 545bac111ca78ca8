"""What the areas have in common: the tab line, the keys of their verbs, the filter, marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.actions import parse
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from vmlab_tui.base.text import clean_line
from vmlab_tui.tui.dispatch import perform
from vmlab_tui.tui.filtering import apply
from vmlab_tui.tui.selection import Target, fits
from vmlab_tui.tui.widgets.filterbar import FilterBar
from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.rows import Row, Rows
from vmlab_tui.tui.widgets.tabline import TabLine
from vmlab_tui.verbs.registry import VERBS
from vmlab_tui.verbs.words import cut

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.verbs.verb import Verb


def verb_bindings(area: str, without: Iterable[str] = (), first: str = "") -> list[BindingType]:
    """A binding for each key that verbs have in ``area``, but for those that the screen does itself.

    ``first``: the keys that people press most, in the order in which the last line of the screen has them.

    Several verbs may share a key: which one it is depends on what the cursor stands on.
    """
    known = dict.fromkeys(verb.key for verb in _verbs(area) if verb.id not in without)
    keys = sorted(known, key=lambda key: first.find(key) if key in first else len(first))
    return [Binding(key, f"verb('{area}', '{key}')", "verb", id=f"verb.{area}.{key}") for key in keys]


def _verbs(area: str) -> list[Verb]:
    return [verb for verb in VERBS if area in verb.areas and verb.key]


class VerbScreen(Screen[None]):
    """A screen whose keys are verbs that act on what :meth:`targets` returns."""

    app: LabApp

    def targets(self) -> tuple[Target, ...]:
        """What is marked, else what is under the cursor."""
        return ()

    def _verb(self, area: str, key: str) -> Verb | None:
        """The verb that ``key`` stands for here and now, or None."""
        targets = self.targets()
        first = targets[0] if targets else None
        return next((verb for verb in _verbs(area) if verb.key == key and fits(verb, first)), None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "verb":
            return self._verb(str(parameters[0]), str(parameters[1])) is not None
        return super().check_action(action, parameters)

    def told_key(self, binding: Binding) -> tuple[str, str]:
        """The word for a key, and the sentence; for verbs, of the one that it stands for now."""
        if binding.action.startswith("verb("):
            _, parameters = parse(binding.action)[1:]
            area, key = (str(one) for one in parameters)
            verb = self._verb(area, key) or next(one for one in _verbs(area) if one.key == key)
            return verb.label or verb.words[-1], verb.help
        return binding.description, binding.tooltip or binding.description

    def action_verb(self, area: str, key: str) -> None:
        """The targets are taken now, not when the dialog is answered."""
        if verb := self._verb(area, key):
            self.do(verb, self.targets())

    def do(self, verb: Verb, targets: tuple[Target, ...], **given: Any) -> None:
        """Begin a verb; its result is told when it comes."""
        fitting = tuple(target for target in targets if fits(verb, target))
        if targets and not fitting:
            self.app.tell(f"{' '.join(verb.words)}: not for {targets[0].label}", bad=True)
            return
        self.app.run_worker(
            perform(self.app, verb, fitting, given), group=f"verb-{verb.id}", exit_on_error=False
        )


class AreaScreen(VerbScreen):
    """One of the areas on the number keys."""

    IDENT: ClassVar[str]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", tooltip="Only what fits: letters, !not, state:on, owner:me"),
        Binding("escape", "back", "back", show=False, tooltip="Take the filter away"),
    ]

    def compose(self) -> ComposeResult:
        yield TabLine(self.app.areas, self.IDENT)
        yield from self.body()
        yield FilterBar()
        yield KeyLine()

    def body(self) -> ComposeResult:
        """What stands between the tab line and the keys."""
        raise NotImplementedError

    def show_rows(self, rows: Rows, fresh: Sequence[Row], empty: str) -> None:
        """Put what there is, as far as it fits the filter, into the area's list."""
        bar = self.query_one(FilterBar)
        shown, fitting = apply(bar.filter, fresh)
        rows.set_rows(shown, empty="nothing here fits the filter" if bar.filter and fresh else empty)
        bar.told(fitting, len(fresh))

    def _show(self, _: object = None) -> None:
        """Read what there is and pass it through :meth:`show_rows`."""

    @property
    def filtering(self) -> bool:
        """Whether only some of the rows are shown."""
        return bool(self.query_one(FilterBar).filter)

    def go_to(self, key: str) -> None:
        """Put the cursor on the row of that key, whatever was filtered or folded away."""
        self.query_one(FilterBar).clear()
        self._show()
        rows = self.query_one(Rows)
        rows.focus()
        if not rows.move_to(key):
            self.app.tell("that is not there any more", bad=True)

    def action_filter(self) -> None:
        """Open the filter's line."""
        self.query_one(FilterBar).open()

    def action_back(self) -> None:
        """One step back: here, the filter away."""
        self.query_one(FilterBar).clear()

    def on_filter_bar_changed(self) -> None:
        self._show()

    def on_filter_bar_stepped(self, event: FilterBar.Stepped) -> None:
        self.query_one(Rows).action_move(event.by)

    def on_filter_bar_closed(self) -> None:
        self.query_one(Rows).focus()

    def on_mount(self) -> None:
        self.app.hub.host_changed.subscribe(self, self._show_state, immediate=True)
        self.app.hub.runs_changed.subscribe(self, self._show_state, immediate=True)

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._show_state)

    def _show_state(self, _: object = None) -> None:
        """The right end of the tab line: the host, what runs, what vmlab is doing."""
        hub = self.app.hub
        tone = {"ok": "$text-success", "gone": "$text-error", "busy": "$text-warning"}.get(hub.host.state, "")
        uri = clean_line(hub.lab.uri) if hub.lab else "libvirt"
        room = max(16, self.size.width - 56)  # the state counts for more than the whole of a long name
        parts = [(f"{cut(uri, room)} {hub.host.state}", tone)]
        live = [view for view in hub.runs or () if view.live]
        paused = sum(view.state.state == "paused" for view in live)
        counts = ((len(live) - paused, "running"), (paused, "paused"))
        if told := ", ".join(f"{count} {what}" for count, what in counts if count):
            parts.append((told, ""))
        parts += [(text, "") for text in self.app.busy_with()]
        self.query_one(TabLine).show(parts)
