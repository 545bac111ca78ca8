"""``vmlab adopt``: take over what another tool has left."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size, span
from vmlab_tui.verbs.clean_shapes import cleaner
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Preview, Verb, blocking

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.lab.adopt import Takeover

_DAY = 86400.0


class Adopt(Verb):
    """Give foreign VMs and files a lease."""

    id = "adopt"
    words = ("adopt",)
    help = "Take over foreign VMs and their files, or files without a VM"
    long_help = """\
Nothing is moved or changed: a lease in the store says from now on that they are ours. Of a VM's files
those come with it that nothing else needs. When the time is over (a day, unless --for says otherwise),
vmlab clean offers them; vmlab rm takes them at once. Both only move them to the trash.

THING is a VM's name, a pattern of names in quotes, a file, a pattern of files, or a folder with disks."""
    examples = (
        ("vmlab adopt 'vps-test-*' '/tmp/vps-test-*' --dry-run", "what exactly would be taken over"),
        ("vmlab adopt 'vps-test-*' --for 0s && vmlab clean", "take over, and clean up"),
    )
    confirms = True
    params = (
        Param(
            "thing",
            "VMs by name or pattern; files and folders by path.",
            positional=True,
            required=True,
            multiple=True,
            metavar="THING...",
        ),
        Param("for", "How long it is kept, from now.", kind=Kind.DURATION, metavar="TIME"),
        Param("dry_run", "Only show what would be taken over.", kind=Kind.FLAG, short="n"),
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        if args.flag("dry_run"):
            return Preview()
        found = await self._find(ctx, args)
        args.shown = found
        return Preview(
            tuple(_lines(found)),
            tuple(f"take over {clean_line(one.name, 80)}" for one in found),
            "This is done:",
        )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.adopt import take

        seconds = args.seconds("for")
        seconds = _DAY if seconds is None else seconds
        if not 0 <= seconds <= 3650 * _DAY:
            raise UsageError("--for: not between now and ten years")
        found = await self._find(ctx, args)
        data: dict[str, JsonValue] = {"schema": 1, "adopted": [_json(one) for one in found]}
        if args.flag("dry_run") or not ctx.front.interactive:
            data["dry_run"] = True
            told = "nothing was changed; do it with --yes"
            return Outcome(data, (*_lines(found), told))
        if args.shown is not None and list(map(_what, args.shown)) != list(map(_what, found)):
            raise Refused("it is not as it was shown any more", hint="look again")
        data["dry_run"] = False
        async with ctx.host(readonly=True) as host:
            facts = await host.facts()
        for one in found:
            await blocking(partial(take, ctx.lab.store, one, seconds, uid=facts.qemu_uid, gid=facts.qemu_gid))
        return Outcome(
            data,
            (
                *_lines(found),
                f"taken over for {span(seconds)}",
                "  vmlab rm takes it away; vmlab keep and extend say how long it stays",
            ),
        )

    @staticmethod
    async def _find(ctx: Context, args: Args) -> list[Takeover]:
        from vmlab_tui.lab.adopt import find, places

        async with cleaner(ctx) as at_work:
            world = (await at_work.look()).world
        beside = await blocking(lambda: places(world, args.many("thing")))
        async with cleaner(ctx, beside=beside) as at_work:
            world = (await at_work.look()).world
        return await blocking(lambda: find(world, ctx.lab.store, args.many("thing")))


def _lines(found: list[Takeover]) -> list[str]:
    lines: list[str] = []
    for one in found:
        what = "VM" if one.uuid else "file"
        lines.append(f"{what} {clean_line(one.name, 80)}, {size(one.size)}")
        lines += [f"  with {clean_line(path, 200)}" for path in one.files if one.uuid]
        lines += [f"  not  {clean_line(path, 150)}: {clean_line(why, 100)}" for path, why in one.left]
    return lines


def _what(one: Takeover) -> tuple[str, tuple[str, ...]]:
    return one.uuid, one.files


def _json(one: Takeover) -> dict[str, JsonValue]:
    return {
        "name": one.name,
        "uuid": one.uuid or None,
        "files": list(one.files),
        "size": one.size,
        "left": [{"file": path, "why": why} for path, why in one.left],
    }
