"""Is there a user, with the right groups, shell, home and rights."""

from __future__ import annotations

import shlex

from pydantic import Field

from vmlab_tui.checks.fields import GuestPath, UnixName
from vmlab_tui.checks.params import Params as Base
from vmlab_tui.checks.result import Verdict
from vmlab_tui.checks.target import Target


class Params(Base):
    """A user account of the guest."""

    name: UnixName = Field(description="the user's name")
    groups: tuple[UnixName, ...] = Field((), description="groups the user must be in")
    shell: GuestPath | None = Field(None, description="the login shell")
    home: GuestPath | None = Field(None, description="the home directory (which must exist)")
    sudo: bool = Field(False, description="true: sudo must work without a password")

    def label(self) -> str:
        return f"user {self.name}"


async def run(params: Params, target: Target, timeout: float) -> Verdict:
    """Read the account from the name service, then its groups and rights."""
    name = shlex.quote(params.name)
    entry = await target.execute(
        "if command -v getent >/dev/null 2>&1; then"
        f" getent passwd {name}; else grep '^'{name}: /etc/passwd; fi",
        timeout=timeout,
    )
    fields = entry.out.decode(errors="replace").strip().split(":")
    if entry.status or len(fields) < 7:
        return Verdict("failed", "there is no such user", entry.err.decode(errors="replace"))
    home, shell = fields[5], fields[6]
    wrong: list[str] = []
    if params.shell and shell != params.shell:
        wrong.append(f"the shell is {shell}, not {params.shell}")
    if params.home:
        there = await target.execute(f"test -d {shlex.quote(params.home)}", timeout=timeout)
        if home != params.home:
            wrong.append(f"the home is {home}, not {params.home}")
        elif there.status:
            wrong.append(f"the home {home} does not exist")
    groups: list[str] = []
    if params.groups:
        listed = await target.execute(f"id -Gn -- {name} 2>/dev/null || id -Gn {name}", timeout=timeout)
        groups = listed.out.decode(errors="replace").split()
        if missing := [group for group in params.groups if group not in groups]:
            wrong.append(f"not in {', '.join(missing)}")
    if params.sudo:
        tried = await target.execute("sudo -n true", timeout=timeout, user=params.name)
        if tried.status:
            wrong.append("sudo wants a password or is not allowed")
    evidence = f"uid {fields[2]}, home {home}, shell {shell}" + (
        f", groups {' '.join(groups)}" if groups else ""
    )
    return Verdict("failed", "; ".join(wrong), evidence) if wrong else Verdict("passed", evidence)
