"""Small screens that stand above another until they are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, Select, Static

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean, clean_line

if TYPE_CHECKING:
    from vmlab_tui.verbs.verb import Param

T = TypeVar("T")


Look = Callable[[Mapping[str, object]], Awaitable[tuple[str, list[str]]]]
"""What would happen with these values chosen, as a question and what is lost. Raises LabError."""


class ConfirmDialog(ModalScreen[bool]):
    """A question; what is lost stands above the buttons, and the harmless answer has the focus.

    The buttons are always there; what does not fit above them is scrolled.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape", "answer(False)", "no"),
        Binding("left,right", "app.focus_next", "other button", show=False),
        Binding("up", "move('up')", "scroll", show=False),
        Binding("down", "move('down')", "scroll", show=False),
        Binding("pageup", "move('page_up')", "scroll", show=False),
        Binding("pagedown", "move('page_down')", "scroll", show=False),
    ]

    def __init__(
        self,
        question: str,
        loses: Sequence[str] = (),
        options: Sequence[tuple[str, Param]] = (),
        look: Look | None = None,
        head: str = "",
    ) -> None:
        """``options``: (key, parameter) that may be chosen here; ``look`` then tells the question anew.

        ``head``: what stands above ``loses``, where they are no losses.
        """
        super().__init__()
        self._question = clean(question)
        self._loses = [clean_line(thing, 300) for thing in loses]
        self._options = [Option(key, param) for key, param in options]
        self._look = look
        self._head = clean_line(head, 200)
        self._true = True
        """Whether what stands here is what would happen."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -choosing" if self._options else "dialog"):
            with VerticalScroll(id="told", can_focus=False):
                yield Static(Content(self._question), id="question")
                if self._loses or self._options:
                    yield Static(Content(self._head or "This is lost:"), classes="loses-head")
                    yield Static(
                        Content(self._told_losses()), id="losses", classes="" if self._head else "loses"
                    )
            if self._options:
                with Vertical(classes="options"):
                    yield from self._options
            with Horizontal(classes="buttons"):
                yield Static(Content("up, down: more"), id="more")
                yield Button(Content("No, leave it (n)"), id="no")
                bad = bool(self._loses) and not self._head
                yield Button(Content("Yes (y)"), id="yes", variant="error" if bad else "primary")

    def _told_losses(self) -> str:
        return "\n".join(f"- {thing}" for thing in self._loses)

    def on_mount(self) -> None:
        self.query_one("#no" if self._loses else "#yes").focus()
        self.call_after_refresh(self._overflows)

    def on_resize(self) -> None:
        self.call_after_refresh(self._overflows)

    def _overflows(self) -> None:
        self.query_one("#more").visible = self.query_one("#told", VerticalScroll).max_scroll_y > 0

    def action_move(self, where: str) -> None:
        """Scroll what is told."""
        getattr(self.query_one("#told", VerticalScroll), f"scroll_{where}")(animate=False)

    def on_key(self, event: events.Key) -> None:
        for option in self._options:
            if event.key == option.key:
                event.stop()
                option.turn()

    def on_option_turned(self) -> None:
        self._true = False
        self.run_worker(self._look_again(), group="look", exclusive=True, exit_on_error=False)

    async def _look_again(self) -> None:
        if self._look is None:
            return
        chosen = {option.param.name: option.value for option in self._options}
        try:
            question, loses = await self._look(chosen)
        except LabError as error:
            self.query_one("#question", Static).update(Content(f"! {clean(error.message)}"))
            return
        self._loses = [clean_line(thing, 300) for thing in loses]
        self.query_one("#question", Static).update(Content(clean(question)))
        self.query_one("#losses", Static).update(Content(self._told_losses()))
        self._true = True
        self.call_after_refresh(self._overflows)

    def action_answer(self, answer: bool) -> None:
        if answer and not self._true:
            self.app.bell()
        else:
            self.dismiss(answer)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.action_answer(event.button.id == "yes")


class Option(Static):
    """A parameter as one line: its key, and the value that is chosen; the key or a click takes the next."""

    class Turned(Message):
        """Another value is chosen."""

    def __init__(self, key: str, param: Param) -> None:
        super().__init__(classes="choice")
        self.key = key
        self.param = param
        self.value: object = None

    def on_mount(self) -> None:
        self._show()

    def on_click(self) -> None:
        self.turn()

    def turn(self) -> None:
        """Choose the next value."""
        values: list[object] = [None, *(self.param.choices or (True,))]
        self.value = values[(values.index(self.value) + 1) % len(values)]
        self._show()
        self.post_message(self.Turned())

    def _show(self) -> None:
        help = self.param.help.rstrip(".")
        if self.param.choices:
            told = f"{self.param.name.replace('_', ' ')}: {self.value or 'as it was'}"
        else:
            told = f"[{'x' if self.value else ' '}] {help}"
        self.update(Content.assemble((self.key, "bold $text-accent"), "  ", told))


class MessageDialog(ModalScreen[None]):
    """An error: what happened to which thing, and what to do about it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "close", "close")]

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__()
        self._message = clean(message)
        self._hint = clean(hint)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog message"):
            with VerticalScroll():
                yield Static(Content(self._message), id="message")
                if self._hint:
                    yield Static(Content("What to do:"), classes="hint-head")
                    yield Static(Content(self._hint), id="hint")
            with Horizontal(classes="buttons"):
                yield Button(Content("Close (esc)"), id="close", variant="primary")

    def on_mount(self) -> None:
        self.query_one("#close").focus()

    def action_close(self) -> None:
        self.dismiss(None)

    def on_button_pressed(self) -> None:
        self.dismiss(None)


class Asking(ModalScreen[T | None]):
    """Something to fill in: enter in a field, ctrl+s and the button go on by :meth:`action_done`, None if it
    is called off."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel"),
        Binding("ctrl+s", "done", "go on", priority=True),
    ]
    GO_ON: ClassVar[str] = "Go on (ctrl+s)"

    def __init__(self, question: str, problem: str = "") -> None:
        """``problem``: what is wrong with what was filled in before."""
        super().__init__()
        self._question = clean_line(question)
        self._problem = clean(problem)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog form"):
            yield Static(Content(self._question), id="question")
            yield from self.fields()
            yield Static(Content(f"! {self._problem}" if self._problem else ""), id="problem")
            with Horizontal(classes="buttons"):
                yield Button(Content("Cancel (esc)"), id="no")
                yield Button(Content(self.GO_ON), id="yes", variant="primary")

    def fields(self) -> ComposeResult:
        """What stands between the question and the buttons."""
        raise NotImplementedError

    def action_done(self) -> None:
        """Dismiss with what was filled in, or say what is missing."""
        raise NotImplementedError

    def needed(self, name: str, control: Widget) -> None:
        """Say that a field must be filled in, and go there."""
        self.query_one("#problem", Static).update(Content(f"! {name} is needed"))
        control.focus()

    def action_cancel(self) -> None:
        self.dismiss(None)

    def on_input_submitted(self) -> None:
        self.action_done()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_done()
        else:
            self.action_cancel()


class FormDialog(Asking[dict[str, object]]):
    """Asks for some of a verb's parameters; what is left empty is not given."""

    def __init__(
        self,
        title: str,
        params: Sequence[Param],
        values: Mapping[str, object] | None = None,
        problem: str = "",
    ) -> None:
        """``values``: what was typed before; ``problem``: what is wrong with it."""
        super().__init__(title, problem)
        self._params = params
        self._values = values or {}

    def fields(self) -> ComposeResult:
        from vmlab_tui.verbs.verb import Kind

        with VerticalScroll(can_focus=False):
            for param in self._params:
                name = param.name.replace("_", " ")
                if param.kind is Kind.FLAG:
                    before = bool(self._values.get(param.name))
                    yield Checkbox(Content(f"{name}: {param.help}"), before, id=f"f-{param.name}")
                    continue
                yield Static(Content.assemble((name, "bold"), f"  {param.help}"), classes="label")
                if param.choices:
                    pairs = [(choice, choice) for choice in param.choices]
                    select = Select(pairs, prompt="as it is", id=f"f-{param.name}", compact=True)
                    if value := self._values.get(param.name):
                        select.value = str(value)
                    yield select
                else:
                    told = self._values.get(param.name, "")
                    text = str(told[0] if isinstance(told, tuple) else told)
                    yield Input(text, id=f"f-{param.name}", placeholder=param.metavar, compact=True)

    def action_done(self) -> None:
        found: dict[str, object] = {}
        for param in self._params:
            widget = self.query_one(f"#f-{param.name}")
            value: object = None
            if isinstance(widget, Checkbox):
                value = widget.value or None
            elif isinstance(widget, Input):
                value = widget.value.strip() or None
            elif isinstance(widget, Select):
                value = None if widget.is_blank() else widget.value
            if value is not None:
                found[param.name] = (value,) if param.multiple else value
            elif param.required:
                self.needed(param.name, widget)
                return
        self.dismiss(found)


class ChoiceDialog(ModalScreen[str | None]):
    """One of a few things, each with its key."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "cancel", "cancel")]

    def __init__(self, title: str, choices: Sequence[tuple[str, str, str]]) -> None:
        """``choices``: (key, name, value)."""
        super().__init__()
        self._title = clean_line(title)
        self._choices = choices

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), id="question")
            for key, name, value in self._choices:
                line = Content.assemble((key, "bold $text-accent"), f"  {name:<9}", clean_line(value))
                yield Static(line, classes="choice")
            yield Static(Content("esc closes"), classes="hint-head")

    def on_key(self, event: events.Key) -> None:
        for key, _, value in self._choices:
            if event.key == key:
                event.stop()
                self.dismiss(value)
                return

    def action_cancel(self) -> None:
        self.dismiss(None)
