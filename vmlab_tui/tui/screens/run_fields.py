"""Parts of the screen on which a run is begun: a line of the form, what is told of profile and plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Select, Static

from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import size
from vmlab_tui.tui.screens.run_form import Field

if TYPE_CHECKING:
    from vmlab_tui.spec.profile import LoadedProfile
    from vmlab_tui.verbs.verb import Outcome

_FINDINGS = {"ok": ("ok", ""), "warn": ("warning", "$text-warning"), "refuse": ("REFUSED", "$text-error")}


class CleanInput(Input):
    """A line in which only what can be shown safely stands, whatever is pasted; secrets are never shown."""

    def validate_value(self, value: str) -> str:
        if self.password or value.isprintable():
            return value
        return "".join(sign for sign in value if sign.isprintable())


class FormLine(Horizontal):
    """A field of the form with its label."""

    def __init__(self, field: Field) -> None:
        super().__init__(classes="field")
        self.field = field

    def compose(self) -> ComposeResult:
        one = self.field
        yield Static(Content(clean_line(one.label, 40)), classes="label")
        if one.choices:
            choices = [(Content(shown), value) for shown, value in one.choices]
            yield Select(choices, value=one.value, allow_blank=False, compact=True)
        else:
            yield CleanInput(one.value, placeholder=one.hint, password=one.secret, compact=True)

    @property
    def control(self) -> Widget:
        return self.query_one("Input, Select")

    @property
    def value(self) -> str:
        found = self.control
        if isinstance(found, Select):
            return str(found.value)
        assert isinstance(found, Input)
        return found.value

    def forget(self) -> None:
        """Take a secret off the screen."""
        if self.field.secret and isinstance(self.control, Input):
            self.control.value = ""


def profile_lines(found: LoadedProfile) -> list[tuple[str, str]]:
    """(label, text) of what one wants to know before choosing a profile."""
    profile = found.profile
    lines = [
        ("about", profile.description or "-"),
        ("file", str(found.path)),
        ("image", profile.image),
        ("VM", f"{profile.vm.cpus} CPUs, {size(profile.vm.memory)}, disk {size(profile.vm.disk)}"),
        ("steps", ", ".join(step.name for step in profile.steps) or "none of its own"),
        ("checks", str(len(profile.checks))),
    ]
    if profile.required:
        lines.append(("needs", ", ".join(profile.required)))
    if profile.secret:
        lines.append(("secrets", ", ".join(profile.secret)))
    return [(label, clean_line(text, 400)) for label, text in lines]


def plan_text(outcome: Outcome) -> list[Content]:
    """What ``vmlab run --plan`` says, what speaks against the run first."""
    data: Any = outcome.data
    lines = [Content.styled("preflight", "bold")]
    for one in data["findings"]:
        word, tone = _FINDINGS[one["level"]]
        text = f"  {word:<8} {clean_line(one['what'])}: {clean_line(one['detail'], 400)}"
        lines.append(Content.styled(text, tone) if tone else Content(text))
        if one["fix"] and one["level"] != "ok":
            lines.append(Content.styled(f"           -> {clean_line(one['fix'], 400)}", "$text-accent"))
    lines.append(Content(""))
    plan = outcome.lines[: outcome.lines.index("preflight")]
    lines.append(Content.styled(clean_line(plan[0]), "bold"))
    return [*lines, *(Content(" ".join(clean(line).split("\n"))) for line in plan[1:])]
