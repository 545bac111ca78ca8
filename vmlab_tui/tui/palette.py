"""`:` all that can be done and gone to, by some letters of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from vmlab_tui.tui.filtering import fuzzy
from vmlab_tui.tui.screens.base import VerbScreen
from vmlab_tui.tui.screens.pick import about, things
from vmlab_tui.tui.selection import Target, fits, subject
from vmlab_tui.tui.text import fit
from vmlab_tui.tui.widgets.keyline import shown_key
from vmlab_tui.verbs.registry import VERBS

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.verbs.verb import Verb

_SHOWN = 60
"""Things to go to that are shown before anything is typed; all of them are searched."""

_MOST = 100
"""Hits that are shown: whoever has more types another letter."""


@dataclass(frozen=True)
class Item:
    """One line. ``rank``: added to how well its name fits; ``about`` is found by whole words only."""

    name: str
    key: str
    about: str
    act: Callable[[], object]
    rank: float = 0.0

    def show(self, width: int, places: tuple[int, ...] = ()) -> Content:
        """``D  snapshot delete      Delete a snapshot`` in one line, the letters that were typed marked."""
        wide = 22 if width < 90 else 32
        name = Content(fit(self.name, wide))
        for at in places:
            if at < wide - 1:
                name = name.stylize("underline $text-accent", at, at + 1)
        about = Content.styled(fit(self.about, max(10, width - wide - 8)).rstrip(), "$text-muted not bold")
        return Content.assemble((fit(self.key, 6), "$text-accent"), name, "  ", about)


class LabProvider(Provider):
    """Verbs that fit what is chosen come first; the others ask what to act on."""

    @property
    def _app(self) -> LabApp:
        return cast("LabApp", self.app)

    async def startup(self) -> None:
        # what the cursor stands on now, not when the line is chosen
        self._fixed = [*self._verbs(), *self._places()]
        self._things = [
            Item(target.label, "", f"go to {about(self._app, target)}", self._go(target))
            for target in things(self._app)
            if target.kind != "snapshot"
        ]

    @property
    def _width(self) -> int:
        return self.app.size.width - 8  # the list's padding and its scrollbar

    def _host(self) -> VerbScreen | None:
        screens = (self.screen, self.app.screen_stack[0])
        return next((screen for screen in screens if isinstance(screen, VerbScreen)), None)

    def _verbs(self) -> Iterator[Item]:
        host = self._host()
        if host is None:
            return
        targets = host.targets()
        first = targets[0] if targets else None
        fitting: list[Item] = []
        others: list[Item] = []
        for verb in VERBS:
            on = targets if first and subject(verb) and fits(verb, first) and _points(verb) else ()
            item = self._verb(host, verb, on)
            (fitting if on else others).append(item)
        yield from fitting
        yield from others

    def _verb(self, host: VerbScreen, verb: Verb, targets: tuple[Target, ...]) -> Item:
        name = " ".join(verb.words)
        if targets:
            name += f" {targets[0].label}" + (f" and {len(targets) - 1} more" if len(targets) > 1 else "")
        key = shown_key(verb.key) if verb.key else ""
        return Item(name, key, verb.help, partial(host.do, verb, targets), 1.0 if targets else 0.0)

    def _places(self) -> Iterator[Item]:
        app = self._app
        for number, (ident, name) in enumerate(app.areas, 1):
            yield Item(name, str(number), "go to this area", partial(app.action_area, ident), 0.2)
        yield Item("keys", "?", "the keys that work here", app.action_keys)
        yield Item("commands", "@", "the commands that were really run", app.action_commands)
        if app.last_activity:
            yield Item("at work", "0", app.last_activity.title, app.action_activity, 0.2)
        for theme in ("dark", "light", "ansi"):
            yield Item(f"theme {theme}", "", "colours", partial(app.set_theme, theme))
        yield Item("quit", "q", "leave vmlab; runs go on", app.action_leave)

    def _go(self, target: Target) -> Callable[[], object]:
        return lambda: self._app.go_to(target.kind, target.ref)

    async def discover(self) -> Hits:
        for item in (*self._fixed, *self._things[:_SHOWN]):
            yield DiscoveryHit(item.show(self._width), item.act, text=item.name)

    async def search(self, query: str) -> Hits:
        found: list[tuple[float, int, Item, tuple[int, ...]]] = []
        words = query.split()
        for index, item in enumerate((*self._fixed, *self._things)):
            scores = 0.0
            marked: list[int] = []
            for word in words:
                if hit := fuzzy(word, item.name, loose=True):
                    scores += hit[0] + item.rank / len(words)
                    marked += hit[1]
                elif word.lower() in item.about.lower():
                    scores += 0.1
                else:
                    break
            else:
                found.append((-scores, index, item, tuple(marked)))
        for score, _, item, places in sorted(found, key=lambda one: one[:2])[:_MOST]:
            yield Hit(-score, item.show(self._width, places), item.act, text=item.name)


def _points(verb: Verb) -> bool:
    """Whether it acts on something in a list rather than on a file."""
    param = subject(verb)
    return param is not None and param.names not in ("profile", "recipe")
