"""Is a systemd unit running (or stopped), and is it started at boot."""

from __future__ import annotations

import shlex

from pydantic import Field

from vmlab_tui.checks.fields import Unit
from vmlab_tui.checks.params import Params as Base
from vmlab_tui.checks.result import Verdict
from vmlab_tui.checks.target import Target


class Params(Base):
    """A systemd unit; ``.service`` may be left out."""

    name: Unit = Field(description="the unit, such as web or web.service")
    active: bool = Field(True, description="whether it must be running (false: must not)")
    enabled: bool | None = Field(
        None, description="whether it must be started at boot; not looked at if left out"
    )

    def label(self) -> str:
        return f"service {self.name}{'' if self.active else ' not running'}"


async def run(params: Params, target: Target, timeout: float) -> Verdict:
    """Ask ``systemctl show`` for the unit's state."""
    unit = shlex.quote(params.name if "." in params.name else f"{params.name}.service")
    fields = "LoadState,ActiveState,SubState,UnitFileState,Result"
    shown = await target.execute(f"systemctl show -p {fields} -- {unit}", timeout=timeout)
    if shown.status:
        err = shown.err.decode(errors="replace")
        return Verdict("error", f"systemctl show ended with {shown.status}", err)
    lines = (line.partition("=") for line in shown.out.decode(errors="replace").splitlines())
    state = {key: value for key, _, value in lines}
    seen = f"{state.get('ActiveState', 'unknown')} ({state.get('SubState', 'unknown')})"
    wrong: list[str] = []
    running = state.get("ActiveState") in ("active", "reloading")
    if state.get("LoadState") == "not-found" and (params.active or params.enabled):
        wrong.append("there is no such unit")
    elif running != params.active:
        result = state.get("Result", "success")
        wrong.append(f"it is {seen}" + (f", result {result}" if result != "success" else ""))
    enabled = state.get("UnitFileState") in ("enabled", "enabled-runtime", "static", "alias", "indirect")
    if params.enabled is not None and enabled != params.enabled and not wrong:
        wrong.append(f"at boot it is {state.get('UnitFileState') or 'unknown'}")
    if not wrong:
        return Verdict("passed", seen)
    logged = await target.execute(f"journalctl -u {unit} -n 10 --no-pager -o cat 2>&1", timeout=timeout)
    return Verdict("failed", "; ".join(wrong), logged.out.decode(errors="replace"))
