"""``vmlab keep`` and ``vmlab extend``: how long a VM of ours, or an adopted file, stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import span
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import VMS, Done, chosen, each, label, refuse_foreign
from vmlab_tui.verbs.words import local

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.lab.inventory import VmEntry

_DAY = 86400.0


class Keep(Verb):
    """Keep VMs and adopted files until somebody removes them."""

    id = "vm.keep"
    words = ("keep",)
    help = "Keep VMs of ours for good: no clean-up takes them"
    long_help = "Adopted files too: adopted:NAME, or the file's path."
    examples = (
        ("vmlab keep last", "until vmlab rm, or vmlab extend gives it an end"),
        ("vmlab keep adopted:base.qcow2", "a file that was taken over"),
    )
    params = (VMS,)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.leases import keep_for_good

        async def work(vm: VmEntry) -> Done:
            refuse_foreign(ctx, vm, "dominfo", vm.name)
            await blocking(partial(keep_for_good, ctx.lab.store, vm.uuid))
            return Done(f"{label(vm)} is kept for good", {"until": None})

        return await _on_all(ctx, self.id, args, work, None)


class Extend(Verb):
    """Give VMs and adopted files more time."""

    id = "vm.extend"
    words = ("extend",)
    help = "Give VMs of ours another while before they expire"
    long_help = """\
The time counts from now. Without --for it is a day. Adopted files too: adopted:NAME, or the file's path."""
    examples = (("vmlab extend last --for 3d", "three days from now"),)
    params = (VMS, Param("for", "How long from now.", kind=Kind.DURATION, metavar="TIME"))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.leases import keep

        seconds = args.seconds("for")
        seconds = _DAY if seconds is None else seconds
        if not 0 <= seconds <= 3650 * _DAY:
            raise UsageError("--for: not between now and ten years")

        async def work(vm: VmEntry) -> Done:
            refuse_foreign(ctx, vm, "dominfo", vm.name)
            until = await blocking(partial(keep, ctx.lab.store, vm.uuid, seconds))
            return Done(f"{label(vm)} is kept until {local(until)} ({span(seconds)})", {"until": until})

        return await _on_all(ctx, self.id, args, work, seconds)


async def _on_all(
    ctx: Context, verb: str, args: Args, work: Callable[[VmEntry], Awaitable[Done]], seconds: float | None
) -> Outcome:
    """``work`` on the VMs; the adopted files are kept for ``seconds``, or for good."""
    from vmlab_tui.lab.adopt import registered, renew

    def is_file(ref: str) -> bool:
        return ref.startswith("adopted:") or "/" in ref

    files = [ref for ref in args.many("vm") if is_file(ref)]
    found = [await blocking(partial(registered, ctx.lab.store, ref)) for ref in files]
    vms: JsonValue = []
    lines: tuple[str, ...] = ()
    code = 0
    if rest := [ref for ref in args.many("vm") if not is_file(ref)]:
        async with ctx.host(readonly=True) as host:
            chosen_vms, problems = await chosen(ctx, host, Args({"vm": rest}))
            outcome = await each(ctx, verb, chosen_vms, problems, work)
        vms = outcome.data["vms"] if isinstance(outcome.data, dict) else []
        lines, code = outcome.lines, outcome.exit
    adopted: list[JsonValue] = []
    for one in {one.id: one for one in found}.values():
        until = await blocking(partial(renew, ctx.lab.store, one, seconds))
        adopted.append({"id": one.id, "name": one.name, "files": list(one.files), "until": until})
        how = "for good" if until is None else f"until {local(until)} ({span(seconds or 0)})"
        lines += (f"{clean_line(one.name, 80)} is kept {how}",)
    data: dict[str, JsonValue] = {"schema": 1, "verb": verb, "vms": vms, "adopted": adopted}
    return Outcome(data, lines, code)
