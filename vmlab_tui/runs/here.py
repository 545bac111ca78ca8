"""Where a run stands, for a shell there: which attempt of which script step, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.guests.here import leave_opening, shell_here
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.units import UnitSpec, unit_place
from vmlab_tui.journal.state import StepState
from vmlab_tui.lab.leases import whoami
from vmlab_tui.runs.asking import ask
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.plan import PlannedStep
from vmlab_tui.spec.model import RunStep


@dataclass(frozen=True)
class Here:
    """The end of an attempt at a script step."""

    step: PlannedStep
    attempt: StepState
    unit: UnitSpec

    @property
    def where(self) -> str:
        how = f"exited with {self.attempt.exit_status}" if self.attempt.exit_status else "has ended"
        again = f", attempt {self.attempt.attempt}," if self.attempt.attempt > 1 else ""
        return f"step {self.step.number:02} '{clean_line(self.step.name, 60)}'{again} {how}"


def here_of(view: RunView) -> Here | None:
    """The script step at which the run stands: it has failed, or nobody knows how it ended. Else None."""
    stands = [one for one in view.state.steps.values() if one.state in ("failed", "unknown")]
    at = min(stands, key=lambda one: one.number, default=None)
    step = view.plan.step(at.number) if at and 1 <= at.number <= len(view.plan.steps) else None
    what = view.plan.profile.steps[step.index] if step and step.index is not None else None
    if at is None or step is None or not isinstance(what, RunStep):
        return None
    unit = UnitSpec(
        run_id=view.run_id,
        number=step.number,
        attempt=at.attempt,
        script=what.script,
        user=what.user,
        env={**view.plan.env, **what.env},
    )
    return Here(step, at, unit)


async def command_here(
    guest: Guest, view: RunView, here: Here, command: tuple[str, ...]
) -> tuple[list[str], str]:
    """The command for `guests.terminal.ssh_argv` that goes there, and what is missing there in one line.

    ``command``: words to run there instead of a shell. The secrets come from the run's worker, if it has one.
    """
    place = await unit_place(guest, here.unit)
    path, missing = "", ""
    if names := view.plan.secret_names:
        try:
            reply = await ask(view.folder, timeout=60, verb="arm", by=whoami()) if view.at_work else {}
        except LabError as error:
            missing = f"missing: {', '.join(names)} ({error.message})"
        else:
            path = str(reply.get("path") or "")
        if not path:
            missing = missing or f"missing: {', '.join(names)} (secrets, which are stored nowhere)"
    greeting = [here.where + (f": {place.command}" if place.command else "")]
    if not place.known:
        greeting.append("where it was then is not known; this is where it began")
    elif not place.command:
        greeting.append("its shell does not tell which command failed; bash does")
    if missing:
        greeting.append(missing)
    left = await leave_opening(guest, here.unit, place, greeting)
    line = shell_here(left, path, command, user=here.unit.user, login=guest.endpoint.user)
    return line, missing
