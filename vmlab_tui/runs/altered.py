"""Whether a run's guest is only what its plan has made of it: else no later run may start from it.

What vmlab itself does at a person's word is journaled by whoever does it. That somebody else has gone back to
another snapshot is seen by the VM's generation id, which libvirt changes at each revert.
"""

from __future__ import annotations

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import is_locked
from vmlab_tui.lab.console import LOCK as CONSOLE_LOCK
from vmlab_tui.runs.context import RunContext

BEHIND_US = "somebody went back to another snapshot of its VM, not by vmlab"
AT_THE_CONSOLE = "somebody is at its console"


class Moved(LabError):
    """The guest is not where the run's last step left it."""


def note(run: RunContext, how: str) -> None:
    """Journal that the guest is something else from here on, unless that is known."""
    if not run.state.altered:
        run.write("altered", reason=how)


def begin_anew(run: RunContext) -> None:
    """The VM's generation may change now, or has just changed, by the run's own doing."""
    run.generation = ""
    if is_locked(run.vm.path / CONSOLE_LOCK):  # who is at the console stays there when the VM goes back
        note(run, AT_THE_CONSOLE)


async def look(run: RunContext) -> bool:
    """Whether somebody has gone back to a snapshot behind the run's back.

    Since the last look, that is, or since :func:`begin_anew`.
    """
    try:
        now = await run.host.generation(run.plan.vm.uuid)
    except LabError:
        return False  # whoever needs the VM next will say so
    before, run.generation = run.generation, now
    if not before or before == now:
        return False
    note(run, BEHIND_US)
    return True


async def require_same(run: RunContext) -> None:
    """Raise Moved if somebody has gone back behind the run's back."""
    if await look(run):
        raise Moved(
            f"{BEHIND_US}: what the guest is now, nobody knows", hint="go back to a checkpoint of the run"
        )
