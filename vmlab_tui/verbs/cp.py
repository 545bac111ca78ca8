"""``vmlab cp``: files into a VM and out of it."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Exit, LabError, UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import reach

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.guests.ssh import Guest

_THERE = re.compile(r"([^/:]+):(.*)", re.DOTALL)
_DAY = 86400.0
_TOLD = 0.2


class Cp(Verb):
    """Copy by tar over SSH, with the lab's own trust."""

    id = "cp"
    words = ("cp",)
    help = "Copy files and folders into a VM, or out of one"
    long_help = """\
What has a colon before its first slash is in a VM: the VM's name, its run or 'last', then an
absolute path there. A local name with a colon in it is written ./NAME.

Into a VM: a file goes to the path, or into it if that is a folder or ends with a slash. A folder's
content goes into the path, or with a slash at its end the folder itself. Only what differs is
sent. Files belong to root there, unless --owner says otherwise.

Out of a VM: paths may be patterns (quote them); what they match goes into the local folder, by its
own name. Links and devices are left out, and nothing is ever written outside the folder."""
    examples = (
        ("vmlab cp ./site last:/srv/site", "make /srv/site hold what ./site holds"),
        ("vmlab cp a.conf b.conf last:/etc/app/", "several files into a folder"),
        ("vmlab cp 'last:/var/log/*.log' ./logs", "out of it, by a pattern"),
    )
    params = (
        Param(
            "paths",
            "From where, one or more, and last to where: one side is in a VM.",
            positional=True,
            required=True,
            multiple=True,
            metavar="FROM... TO",
        ),
        Param("owner", "Who owns the files in the VM (default: root).", metavar="USER[:GROUP]"),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        *sources, target = args.many("paths")
        if not sources:
            raise UsageError(
                f"cp '{clean_line(target)}': where to?", hint="vmlab cp FILE... VM:PATH, or VM:PATH... FOLDER"
            )
        there = [_THERE.fullmatch(word) for word in sources]
        into = _THERE.fullmatch(target)
        if into and not any(there):
            return await _send(ctx, sources, into[1], into[2], args.optional("owner"))
        if not into and all(there):
            if args.optional("owner"):
                raise UsageError("--owner is for files that go into a VM")
            pairs = [(found[1], found[2]) for found in there if found]
            if len({name for name, _ in pairs}) > 1:
                raise UsageError("cp takes files from one VM at a time")
            return await _fetch(ctx, pairs[0][0], [path for _, path in pairs], Path(target))
        raise UsageError(
            "cp: one side is in a VM, the other here",
            hint="vmlab cp FILE... VM:PATH, or VM:PATH... FOLDER; a local name with a colon: ./NAME",
        )


def _progress(ctx: Context, what: str) -> Callable[[int, int, str], None]:
    told = 0.0

    def on_progress(done: int, total: int, name: str) -> None:
        nonlocal told
        if time.monotonic() - told > _TOLD:
            told = time.monotonic()
            of = f" of {size(total)}" if total else ""
            ctx.front.status(f"{what}: {size(done)}{of}  {clean_line(name, 60)}")

    return on_progress


async def _send(ctx: Context, sources: Sequence[str], ref: str, path: str, owner: str | None) -> Outcome:
    from vmlab_tui.guests.ssh import connect
    from vmlab_tui.guests.transfer import send_tree
    from vmlab_tui.runs.vmcontrol import visit

    locals_ = [Path(word) for word in sources]
    for one in locals_:
        if not await blocking(one.exists):
            raise UsageError(f"{one} does not exist")
    if not path.startswith("/"):
        raise UsageError(
            f"'{clean_line(path)}' is no absolute path in the VM", hint=f"for example {ref}:/tmp/"
        )
    vm, endpoint = await reach(ctx, ref)
    sent: list[JsonValue] = []
    lines: list[str] = []
    await visit(ctx.lab, vm, "somebody copied files into its guest")
    async with connect(endpoint) as guest:
        inside = path.endswith("/") or len(locals_) > 1
        for one in locals_:
            to = path
            if inside or (not one.is_dir() and await _is_folder(guest, path)):
                to = f"{path.rstrip('/')}/{one.resolve().name}"
            done = await send_tree(
                guest,
                one,
                to,
                owner=owner,
                on_progress=_progress(ctx, f"{endpoint.label}: {one}"),
                timeout=_DAY,
            )
            for name in done.left_out:
                ctx.front.say(f"{clean_line(name)}: neither file, folder nor link; left out")
            sent.append(
                {
                    "from": str(one),
                    "to": to,
                    "files": done.files,
                    "bytes": done.bytes,
                    "unchanged": done.skipped,
                    "left_out": list(done.left_out),
                }
            )
            same = f", {done.skipped} unchanged" if done.skipped else ""
            count = f"{done.files} file{'s' * (done.files != 1)}"
            arrow = f"{clean_line(str(one))} -> {endpoint.label}:{clean_line(to)}"
            lines.append(f"{arrow}: {count}, {size(done.bytes)}{same}")
    data: JsonValue = {"schema": 1, "verb": "cp", "vm": vm.name, "uuid": vm.uuid, "sent": sent}
    return Outcome(data, tuple(lines))


async def _is_folder(guest: Guest, path: str) -> bool:
    return (await guest.execute(f"[ -d {shlex.quote(path)} ]")).status == 0


async def _fetch(ctx: Context, ref: str, paths: Sequence[str], folder: Path) -> Outcome:
    from vmlab_tui.guests.ssh import connect
    from vmlab_tui.guests.transfer import fetch, shell_glob

    for path in paths:
        shell_glob(path)  # raises for what is none before anything is asked of anybody
    if await blocking(lambda: folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is no folder", hint="what comes out of a VM goes into a folder")
    vm, endpoint = await reach(ctx, ref)
    files: list[str] = []
    problems: list[str] = []
    count = 0
    async with connect(endpoint) as guest:
        await blocking(lambda: folder.mkdir(parents=True, exist_ok=True))
        for path in ("/" + path.strip("/") for path in paths):
            free = (await blocking(lambda: shutil.disk_usage(folder))).free
            got = await fetch(
                guest,
                [path],
                folder,
                on_progress=_progress(ctx, f"{endpoint.label}:{path}"),
                limit=free,
                strip=path.count("/") - 1,
                timeout=_DAY,
            )
            files += got.files
            problems += got.problems
            count += got.bytes
    told = [f"{endpoint.label}:{problem}" for problem in problems]
    if problems and not files and not ctx.wants_data:
        raise LabError("\n".join(told), hint=f"look: vmlab ssh {endpoint.label} -- ls -l")
    for line in told:
        ctx.front.say(line)
    data: JsonValue = {
        "schema": 1,
        "verb": "cp",
        "vm": vm.name,
        "uuid": vm.uuid,
        "folder": str(folder),
        "fetched": list(files),
        "bytes": count,
        "problems": list(problems),
    }
    line = f"{endpoint.label} -> {folder}: {len(files)} file{'s' * (len(files) != 1)}, {size(count)}"
    return Outcome(data, (line,), int(Exit.LAB if problems else Exit.PASSED))
