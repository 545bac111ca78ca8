"""Is a file there, and is it as it should be."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from pydantic import Field

from vmlab_tui.checks.fields import GuestPath, Matching, UnixName
from vmlab_tui.checks.params import Params as Base
from vmlab_tui.checks.result import Verdict
from vmlab_tui.checks.target import Target

_TYPES = {"file": "regular", "directory": "directory", "link": "symbolic link"}


class Params(Base):
    """A file, directory or symbolic link of the guest (a link's own state only with type: link)."""

    path: GuestPath = Field(description="its absolute path")
    absent: Annotated[bool, Field(description="true: there must be nothing at that path")] = False
    type: Literal["file", "directory", "link"] | None = Field(None, description="what it must be")
    contains: str | None = Field(None, description="text that it must contain")
    mode: Annotated[str, Matching(r"0?[0-7]{3,4}", "permission bits in quotes such as '0644'")] | None = (
        Field(None, description="permission bits, in quotes")
    )
    owner: UnixName | None = Field(None, description="the user who must own it")
    group: UnixName | None = Field(None, description="the group that must own it")

    def label(self) -> str:
        return f"file {self.path}{' absent' if self.absent else ''}"


async def run(params: Params, target: Target, timeout: float) -> Verdict:
    """``stat`` it, and search its text (the first 8 MiB)."""
    path = shlex.quote(params.path)
    if params.absent:
        there = await target.execute(f"test -e {path} || test -L {path}", timeout=timeout)
        return Verdict("failed", "it is there") if there.status == 0 else Verdict("passed", "absent")
    follow = "" if params.type == "link" else "-L "
    seen = await target.execute(f"LC_ALL=C stat {follow}-c '%a|%U|%G|%F' -- {path}", timeout=timeout)
    if seen.status:
        return Verdict("failed", "it is not there", seen.err.decode(errors="replace"))
    mode, owner, group, kind = (*seen.out.decode(errors="replace").strip().split("|", 3), "", "", "", "")[:4]
    wrong: list[str] = []
    if params.type and not kind.startswith(_TYPES[params.type]):
        wrong.append(f"it is a {kind}, not a {params.type}")
    if params.mode and (not mode.isdigit() or int(mode, 8) != int(params.mode, 8)):
        wrong.append(f"its mode is {mode}, not {params.mode}")
    if params.owner and owner != params.owner:
        wrong.append(f"its owner is {owner}, not {params.owner}")
    if params.group and group != params.group:
        wrong.append(f"its group is {group}, not {params.group}")
    evidence = f"{mode} {owner}:{group} {kind}"
    if params.contains is not None:
        text = await target.execute(f"head -c 8388608 -- {path}", timeout=timeout)
        if text.status:
            wrong.append("it cannot be read")
        elif params.contains.encode() not in text.out:
            wrong.append(f"it does not contain {params.contains!r}")
            evidence += "\n" + text.out[:1000].decode(errors="replace")
    return Verdict("failed", "; ".join(wrong), evidence) if wrong else Verdict("passed", evidence)
