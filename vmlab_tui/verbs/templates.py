"""``vmlab template list|rm``: the clean boots that runs start from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size, span
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Preview, Verb, blocking
from vmlab_tui.verbs.words import age, table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.lab.templates import Template

_SHOWN = 12
"""Digits of a key that people see; any beginning that is unique will do."""


class TemplateList(Verb):
    """Every template of the store."""

    id = "template.list"
    words = ("template", "list")
    help = "List templates and what going back in time takes of the disk"
    long_help = """\
The first cold run of an image with one shape of VM leaves its clean boot here; later runs of that shape
start from a copy of it, in seconds. A template that does not fit any more (another image, another QEMU) is
never used again. When templates and the memory in snapshots outgrow the budget (budget in config.yaml), the
templates that were unused for longest go first."""
    examples = (("vmlab template list", ""), ("vmlab template list --json", "sizes in bytes"))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        import time

        from vmlab_tui.lab import templates
        from vmlab_tui.runs.budget import measure
        from vmlab_tui.spec.settings import load_settings

        found, problems = await blocking(lambda: templates.scan_templates(ctx.lab.store))
        use = await blocking(lambda: measure(ctx.lab.store))
        budget = load_settings().budget
        used = {one.key: templates.last_used(templates.folder_of(ctx.lab.store, one.key)) for one in found}
        data: JsonValue = {
            "schema": 1,
            "budget": budget,
            "templates_bytes": sum(use.templates.values()),
            "snapshots_bytes": use.snapshots,
            "templates": [
                {
                    **one.model_dump(mode="json", by_alias=True),
                    "bytes": use.templates.get(one.key, 0),
                    "last_used": used[one.key] or None,
                }
                for one in found
            ],
            "problems": [{"template": name, "problem": why} for name, why in problems.items()],
        }
        rows = [
            (
                one.key[:_SHOWN],
                clean_line(one.image, 40),
                f"{one.cpus} x {size(one.memory)}",
                size(use.templates.get(one.key, 0)),
                age(one.created),
                span(time.time() - used[one.key]) if used[one.key] else "-",
            )
            for one in reversed(found)
        ]
        lines = list(table(rows, head=("template", "image", "VM", "size", "age", "unused for")))
        lines += [f"{clean_line(name, 60)}: {clean_line(why)}" for name, why in problems.items()]
        if not lines:
            lines = ["no templates: the next run that boots an image leaves one"]
        total = (
            f"{size(sum(use.templates.values()))} in templates, {size(use.snapshots)} of memory in snapshots"
        )
        over = use.total - budget
        much = f", over it by {size(over)}" if over > 0 else ""
        return Outcome(data, (*lines, f"{total}; budget {size(budget)}{much}"))


class TemplateRemove(Verb):
    """Remove templates."""

    id = "template.rm"
    words = ("template", "rm")
    help = "Remove a template; the next run of that shape boots from its image"
    examples = (("vmlab template rm 3f2a", "the one whose key begins with 3f2a"),)
    areas = ("lab",)
    key = "D"
    loses = True
    params = (
        Param(
            "template",
            "A template's key, or the beginning of it.",
            positional=True,
            required=True,
            metavar="KEY",
            names="template",
        ),
    )

    async def preview(self, ctx: Context, args: Args) -> Preview:
        one = await blocking(partial(_one, ctx, args.text("template")))
        lines = (
            "a template will be removed; no VM stands on it",
            "the next run of such a VM boots from its image",
        )
        return Preview(lines, (told(ctx, one),))

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.lab.templates import evict

        one = await blocking(partial(_one, ctx, args.text("template")))
        freed = await blocking(partial(evict, ctx.lab.store, one.key))
        data: JsonValue = {"schema": 1, "removed": one.key, "bytes": freed}
        return Outcome(data, (f"removed template {one.key[:_SHOWN]}, {size(freed)} are free again",))


def told(ctx: Context, one: Template) -> str:
    """``template 3f2a... of debian-12 (2 x 1.0G), 412M``."""
    from vmlab_tui.lab.templates import size_of

    held = size(size_of(ctx.lab.store, one.key))
    shape = f"{one.cpus} x {size(one.memory)}"
    return f"template {one.key[:_SHOWN]} of {clean_line(one.image, 40)} ({shape}), {held}"


def _one(ctx: Context, ref: str) -> Template:
    from vmlab_tui.lab.templates import scan_templates

    found = [one for one in scan_templates(ctx.lab.store)[0] if ref and one.key.startswith(ref)]
    if len(found) == 1:
        return found[0]
    shown = clean_line(ref, 40)
    if not found:
        raise UsageError(f"there is no template '{shown}'", hint="vmlab template list shows them")
    raise UsageError(f"{len(found)} templates begin with '{shown}'", hint="give more of the key")
