"""A new run in three stages: which profile, what differs from it, what would be done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input, Select, Static
from textual.worker import Worker

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import size
from vmlab_tui.tui.front import Activity, ScreenFront
from vmlab_tui.tui.screens.newrun_pick import ProfilePicker
from vmlab_tui.tui.screens.run_fields import FormLine, plan_text
from vmlab_tui.tui.screens.run_form import Form, Wanted, make_form, read_form
from vmlab_tui.tui.widgets.keyline import KeyLine
from vmlab_tui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from vmlab_tui.spec.profile import LoadedProfile
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.verbs.verb import Args, Outcome

STAGES = (("pick", "profile"), ("form", "settings"), ("plan", "plan"))


class NewRunScreen(Screen[None]):
    """``profile``: a name or file whose settings are shown at once."""

    app: LabApp
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "go", "go on", priority=True, tooltip="To the settings, the plan, the start"),
        Binding("enter", "go", "go on", show=False),
        Binding("escape", "back", "back", priority=True, tooltip="One stage back, calling off what goes on"),
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
    ]
    CSS = """
    NewRunScreen {
        #head { height: 1; background: $panel; padding: 0 1; }
        ContentSwitcher { height: 1fr; }
        #plan { height: 1fr; }
        #form { padding: 0 1; }
        .group { color: $text-accent; text-style: bold; height: 1; margin-top: 1; }
        .field { height: 1; }
        .field .label { width: 20; padding-left: 2; color: $text-muted; }
        .field Input, .field Select { width: 1fr; max-width: 60; }
        #steps { padding: 0 1; height: auto; }
        #problem { height: auto; max-height: 9; padding: 0 1; background: $surface; display: none; }
        #told { height: auto; }
        &.-narrow #lists { layout: vertical; }
        &.-narrow #lists Rows { width: 1fr; height: 1fr; }
        &.-narrow #lists Details { width: 1fr; height: 10; border-left: none; border-top: solid $panel; }
    }
    """

    def __init__(self, profile: str = "") -> None:
        super().__init__()
        self._start_with = profile
        self._form: Form | None = None
        self._wanted: Wanted | None = None
        self._refused = False
        self._work: Worker[None] | None = None
        self._left = False

    def compose(self) -> ComposeResult:
        yield Static("", id="head")
        with ContentSwitcher(initial="pick"):
            yield ProfilePicker(id="pick")
            yield VerticalScroll(id="form", can_focus=False)
            with VerticalScroll(id="plan"):
                yield Static("", id="steps")
        with VerticalScroll(id="problem", can_focus=False):
            yield Static("", id="told")
        yield KeyLine()

    async def on_mount(self) -> None:
        self._stage("pick")
        self.query_one("#search", Input).focus()
        self._begin(self._find(), "looking for profiles ...")

    def on_screen_resume(self) -> None:
        if self._left:
            self.call_later(self.dismiss)

    @property
    def stage(self) -> str:
        """``pick``, ``form`` or ``plan``."""
        return self.query_one(ContentSwitcher).current or "pick"

    def _stage(self, ident: str) -> None:
        self.query_one(ContentSwitcher).current = ident
        parts: list[tuple[str, str]] = [("New run", "bold"), ("    ", "")]
        for number, (stage, name) in enumerate(STAGES, 1):
            text = f"{number} {name}"
            parts.append((f"[{text}]", "bold") if stage == ident else (f" {text} ", "$text-muted"))
        if self._form and ident != "pick":
            parts.append((f"   {clean_line(self._form.loaded.profile.name, 60)}", ""))
        self.query_one("#head", Static).update(Content.assemble(*parts))
        self.say("")
        self.refresh_bindings()

    def say(self, text: str, tone: str = "") -> None:
        """A line (or more) above the keys; nothing takes it away."""
        self.query_one("#problem").display = bool(text)
        shown = clean(text)
        self.query_one("#told", Static).update(Content.styled(shown, tone) if tone else Content(shown))

    def _problem(self, error: LabError) -> None:
        hint = "".join(f"\n  {line}" for line in clean(error.hint).splitlines())
        self.say(f"! {clean(error.message)}{hint}", "$text-error")

    # -- work in the background ------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], told: str) -> None:
        self.say(told, "$text-muted")

        async def whole() -> None:
            try:
                await work
            except LabError as error:
                self._problem(error)
            except asyncio.CancelledError:
                if self.is_attached:
                    self.say("called off")
                raise
            except Exception as error:
                self.say(f"! {type(error).__name__}: {error}", "$text-error")

        # the app's: it outlives this screen, which is left when the run has begun
        self._work = self.app.run_worker(whole(), group="new run", exit_on_error=False)

    @property
    def _busy(self) -> bool:
        return self._work is not None and not self._work.is_finished

    # -- which profile ---------------------------------------------------------------------------

    async def _find(self) -> None:
        await self.query_one(ProfilePicker).find()
        self.say("")
        if self._start_with:
            await self._choose(self._start_with)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "search" and not self._busy:
            self.say("")  # what was said was about another

    def on_rows_opened(self) -> None:
        self.action_go()

    async def _choose(self, ref: str) -> None:
        found = await self.query_one(ProfilePicker).read(ref)  # again: it may have been mended meanwhile
        if isinstance(found, LabError):
            self._problem(found)
            return
        await self._make_form(found)

    # -- what differs ----------------------------------------------------------------------------

    async def _make_form(self, loaded: LoadedProfile) -> None:
        """Show the form; what was filled in for the same profile before is still there."""
        if self._form is None or self._form.loaded != loaded:
            self._form = make_form(loaded, await self._images(), os.environ)
            holder = self.query_one("#form")
            await holder.remove_children()
            for title, fields in self._form.groups:
                await holder.mount(Static(Content(title), classes="group"), *map(FormLine, fields))
        self._stage("form")
        self.query(FormLine).first().control.focus()

    async def _images(self) -> Sequence[tuple[str, str]]:
        found = self.app.hub.inventory
        if found is None:
            return []
        return [
            (one.name, size(one.used) if one.used is not None else "")
            for one in found.images
            if not one.former and not one.problem
        ]

    def on_input_submitted(self) -> None:
        self.action_go()

    # -- what would be done ----------------------------------------------------------------------

    def _args(self, **more: object) -> Args:
        from vmlab_tui.verbs.verb import Args

        assert self._wanted is not None
        return Args({**self._wanted.arguments, **more}, self._wanted.typed)

    async def _verb(self, args: Args) -> Outcome:
        """``vmlab run`` as the command line does it. Raises LabError."""
        from vmlab_tui.verbs.registry import by_id

        assert self._form is not None
        activity = Activity(f"run {clean_line(self._form.loaded.profile.name, 60)}")
        ctx = self.app.hub.context(ScreenFront(self.app, self.app.backend, activity))
        self.app.activity_begins(activity)
        state = "failed"
        try:
            outcome = await self.app.backend.call(by_id("run").run(ctx, args))
            state = "done"
        finally:
            activity.end(state)
            self.app.activity_ends(activity)
        return outcome

    async def _plan(self) -> None:
        outcome = await self._verb(self._args(plan=True))
        data: Any = outcome.data
        if data["build"]:
            if not await self._built(data["build"]):
                missing = next(one for one in data["findings"] if one["level"] == "refuse")
                raise Refused(missing["detail"], hint=missing["fix"])
            outcome = await self._verb(self._args(plan=True))
        self._refused = bool(outcome.exit)
        self.query_one("#steps", Static).update(Content("\n").join(plan_text(outcome)))
        self._stage("plan")
        self.query_one("#plan").focus()
        if self._refused:
            self.say(
                "! preflight refuses, and nothing was touched; esc goes back to the settings", "$text-error"
            )
        else:
            self.say("enter starts it; it goes on by itself, whether vmlab is open or not", "$text-success")

    async def _built(self, name: str) -> bool:
        """Offer to build the image that is missing; whether it is there now."""
        from vmlab_tui.tui.dispatch import perform
        from vmlab_tui.tui.screens.activity import ActivityScreen
        from vmlab_tui.verbs.registry import by_id

        question = f"The image '{clean_line(name)}' is not in the store yet."
        if not await self.app.ask(f"{question}\nBuild it now? It takes about 2 minutes."):
            return False
        done = await perform(self.app, by_id("image.build"), given={"recipe": name})
        top = self.app.screen
        if done and isinstance(top, ActivityScreen):
            await self.app.pop_screen()
        return done is not None

    async def _start(self) -> None:
        outcome = await self._verb(self._args(detach=True))
        assert isinstance(outcome.data, dict)
        for line in self.query(FormLine):
            line.forget()
        self._wanted = None
        self._left = True
        if self.app.screen is self:
            await self.app.pop_screen()
        self.app.hub.refresh_soon()
        await self.app.open_run(str(outcome.data["run"]))

    # -- keys ------------------------------------------------------------------------------------

    def told_key(self, binding: Binding) -> tuple[str, str]:
        """The word for a key, and the sentence."""
        if binding.action == "go":
            word = {"pick": "settings", "form": "plan", "plan": "start"}[self.stage]
            return word, binding.tooltip
        return binding.description, binding.tooltip or binding.description

    def action_go(self) -> None:
        """On to the next stage."""
        if self._busy:
            return
        if self.stage == "pick":
            if ref := self.query_one(ProfilePicker).chosen:
                self._begin(self._choose(ref), "reading the profile ...")
        elif self.stage == "form":
            assert self._form is not None
            self._wanted = read_form(
                self._form, {line.field.name: line.value for line in self.query(FormLine)}
            )
            if self._wanted.missing:
                line = next(one for one in self.query(FormLine) if one.field.name == self._wanted.missing)
                self.say(f"! {line.field.label} is needed: it is not in your environment", "$text-error")
                line.control.focus()
                return
            self._begin(self._plan(), "looking at this machine ...")
        elif self._refused:
            self.app.bell()
        else:
            self._begin(self._start(), "starting ...")

    def action_back(self) -> None:
        if self._busy and self._work:
            self._work.cancel()
        elif any(select.expanded for select in self.query(Select)):
            for select in self.query(Select):
                select.expanded = False
        elif self.stage == "plan":
            self._stage("form")
            self.query(FormLine).first().control.focus()
        elif self.stage == "form":
            self._stage("pick")
            self.query_one("#search").focus()
        else:
            self.dismiss()

    def action_move(self, by: int) -> None:
        """In the list while the search line has the focus; from field to field in the form."""
        if self.stage == "pick":
            self.query_one(Rows).action_move(by)
        elif self.stage == "form":
            if by > 0:
                self.focus_next()
            else:
                self.focus_previous()

    def action_page(self, by: int) -> None:
        if self.stage == "pick":
            self.query_one(Rows).action_page(by)
