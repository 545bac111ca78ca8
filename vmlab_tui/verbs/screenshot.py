"""``vmlab screenshot``: what a VM's screen shows, as a file; in the TUI, in the terminal."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import VM, find_vm, inventory, label, refuse_absent

if TYPE_CHECKING:
    from vmlab_tui.hosts.host import Host
    from vmlab_tui.runs.client import RunView


class Screenshot(Verb):
    """One picture into a file. The TUI has a screen of its own for its key."""

    id = "vm.screenshot"
    words = ("screenshot",)
    help = "Show a VM's screen in the terminal, or save it as PNG"
    long_help = """\
Saves what the VM's screen shows now as a PNG, in FILE or in VM-TIME.png here. The guest notices
nothing of it; it may be paused, and on a libvirt far away. Key V in the TUI shows the screen in the
terminal, anew about once a second, and with it the pictures that a run takes of its boot
(RUN/screens/*.png: only those that differ, at most 40)."""
    examples = (
        ("vmlab screenshot last", "the newest run's VM"),
        ("vmlab screenshot web-7f3a screen.png --json", "for a program"),
    )
    areas = ("lab", "runs")
    key = "V"
    label = "screen"
    params = (
        VM,
        Param(
            "file", "Where to save it; what is there is replaced.", Kind.PATH, positional=True, metavar="FILE"
        ),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.base.picture import png

        async with ctx.host() as host:
            subject = await find(ctx, host, args.text("vm"))
            if why := subject.why_not:
                raise why
            picture = await host.screenshot(subject.uuid)
        taken = datetime.now(UTC)
        name = f"{subject.name}-{taken.astimezone().strftime('%Y%m%d-%H%M%S')}.png"
        path = args.path("file") or Path("".join(sign if sign not in "/\0" else "-" for sign in name))
        data = await blocking(lambda: png(picture))

        def save() -> None:
            # 0600 where it is new: nobody knows what is on that screen
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)

        try:
            await blocking(save)
        except OSError as error:
            raise LabError(f"{path} cannot be written: {error.strerror}") from error
        return Outcome(
            {
                "schema": 1,
                "verb": "screenshot",
                "vm": subject.name,
                "uuid": subject.uuid,
                "file": str(path.absolute()),
                "width": picture.width,
                "height": picture.height,
                "bytes": len(data),
                "taken": taken.isoformat(timespec="milliseconds"),
            },
            (f"{subject.label}: {picture.width}x{picture.height} in {clean_line(str(path), 300)}",),
        )


@dataclass(frozen=True)
class Subject:
    """A VM whose screen is looked at. ``why_not``: why there is none to see now.

    ``run``: the run that made it, whose pictures of the boot there may be.
    """

    name: str
    uuid: str
    why_not: LabError | None
    run: RunView | None

    @property
    def label(self) -> str:
        return clean_line(self.name, 60)


async def find(ctx: Context, host: Host, ref: str) -> Subject:
    """The VM that ``ref`` names. A run whose VM is gone is no error: it has pictures. Raises UsageError."""
    from vmlab_tui.runs import client
    from vmlab_tui.runs.film import frames

    vms = await inventory(ctx, host)

    def look() -> Subject:
        view = None
        try:
            vm = find_vm(ctx.lab, vms, ref)
        except UsageError as error:
            with suppress(LabError):
                view = client.get_run(ctx.lab, ref)
            if view is None:
                raise
            if frames(view.folder):
                error.hint = (
                    f"pictures of its boot: {view.folder}/screens; or keep the next one's VM (--keep)"
                )
            return Subject(view.plan.vm.name, view.plan.vm.uuid, error, view)
        if vm.lease:
            with suppress(LabError):  # the run may be gone, the VM is not
                view = client.get_run(ctx.lab, vm.lease.run_id)
        why: LabError | None = None
        try:
            refuse_absent(vm)
        except LabError as error:
            why = error
        if vm.power in ("off", "crashed"):
            why = LabError(
                f"VM {label(vm)} is {vm.power}", hint=f"vmlab start {label(vm)}   # then once more"
            )
        return Subject(vm.name, vm.uuid, why, view)

    return await blocking(look)
