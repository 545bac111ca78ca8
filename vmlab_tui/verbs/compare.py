"""Two runs side by side: ``vmlab compare``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration, span
from vmlab_tui.verbs.runs_view import RUN
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.words import SHA, cut, moment, table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.images.store import Image
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.compare import Divergence, Timed


class CompareRuns(Verb):
    """Two runs side by side."""

    id = "compare"
    words = ("compare",)
    help = "Show where a run parts from another one, and which steps were slow"
    long_help = """\
Names the first step that is not as in OTHER (default: the last run of the same profile that passed)
and why: another script, other files, another image, or the same and yet another outcome.

Each step's time stands beside the other run's and the median of the latest runs of the profile; a
step is marked slow that took more than one and a half times that, and two seconds more.

Only plans and journals are read, so the VMs may be gone."""
    examples = (
        ("vmlab compare last", "with the last one that passed"),
        ("vmlab compare web-20260102-131415-7f3a web-20260101", "two runs by their ids"),
    )
    areas = ("runs",)
    key = "t"
    params = (
        RUN,
        Param(
            "other",
            "Another run (default: the last of the profile that passed).",
            positional=True,
            metavar="[OTHER]",
        ),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.images.store import scan_images
        from vmlab_tui.runs import client, compare
        from vmlab_tui.runs.start import usual_seconds

        def look() -> tuple[RunView, RunView, dict[tuple[str, str], float], list[Image]]:
            view = client.get_run(ctx.lab, args.text("run"))
            ref = args.optional("other")
            if ref is None:
                other = compare.last_passed(client.list_runs(ctx.lab)[0], view)
            else:
                other = client.get_run(ctx.lab, ref)
            usual = usual_seconds(ctx.lab, view.plan.profile.name, view.run_id)
            images = scan_images(ctx.lab.store)[0] if ctx.lab.store.images.is_dir() else []
            return view, other, usual, images

        view, other, usual, images = await blocking(look)
        if view.run_id == other.run_id:
            raise UsageError(f"{view.run_id} is to be compared with itself", hint="name two runs")
        first = compare.divergence(view, other)
        rows = compare.timed(view, other, usual)
        built = {one.digest: one.created for one in images}
        data: JsonValue = {
            "schema": 1,
            "run": view.run_id,
            "other": other.run_id,
            "diverges": _divergence(first) if first else None,
            "image": _image(view, built),
            "other_image": _image(other, built),
            "steps": [
                {
                    "number": row.step.number,
                    "name": row.step.name,
                    "state": row.state,
                    "seconds": row.seconds,
                    "other_state": row.other_state,
                    "other_seconds": row.other_seconds,
                    "median": row.usual,
                    "slow": row.slow,
                }
                for row in rows
            ],
        }
        lines = [f"{view.run_id} ({view.status})", f"  beside {other.run_id} ({other.status})", ""]
        lines += _parting(first)
        lines += ["", *_image_lines(view, other, built), ""]
        lines += table(map(_timed, rows), head=("", "", "step", "here", "there", "median", ""), indent="  ")
        return Outcome(data, tuple(lines))


def _divergence(first: Divergence) -> JsonValue:
    return {
        "step": first.step.number,
        "name": first.step.name,
        "kind": first.kind,
        "why": list(first.why),
        "script": list(first.script),
    }


def _parting(first: Divergence | None) -> Iterable[str]:
    if first is None:
        return ["no step differs, as far as both got"]
    what = "is not what it was" if first.kind == "plan" else "was told the same, and ended otherwise"
    lines = [f"step {first.step.number:02} '{clean_line(first.step.name, 60)}' {what}"]
    return [*lines, *(f"  {one}" for one in first.why), *(f"    {one}" for one in first.script)]


def _image(view: RunView, built: dict[str, str]) -> dict[str, JsonValue]:
    image = view.plan.image
    created = built.get(image.digest)
    ages = [_seconds_between(created, until) for until in (view.plan.created, None)]
    return {
        "name": image.name,
        "digest": image.digest,
        "built": created,
        "age_at_run": ages[0],
        "age": ages[1],
    }


def _seconds_between(begin: str | None, end: str | None) -> float | None:
    first, last = moment(begin), moment(end) if end else datetime.now(UTC)
    return round((last - first).total_seconds()) if first and last else None


def _image_lines(view: RunView, other: RunView, built: dict[str, str]) -> list[str]:
    lines = []
    for one in (view, other):
        told = _image(one, built)
        age, then = told["age"], told["age_at_run"]
        words = "no longer in the store, age not known"
        if isinstance(age, int | float) and isinstance(then, int | float):
            words = f"built {span(age)} ago, {span(max(0, then))} before the run"
        digest = one.plan.image.digest[:SHA]
        lines.append(f"image {clean_line(one.plan.image.name, 60)} {digest}: {words}")
    if view.plan.image.digest == other.plan.image.digest:
        return [f"{lines[0]}; the same there"]
    return [lines[0], f"  there: {lines[1]}"]


def _timed(row: Timed) -> Sequence[str]:
    def took(seconds: float | None) -> str:
        return "-" if seconds is None else duration(seconds)

    return (
        "FAIL" if row.state == "failed" else row.state,
        f"{row.step.number:02}",
        cut(clean_line(row.step.name), 28),
        took(row.seconds),
        took(row.other_seconds),
        took(row.usual),
        "slow" if row.slow else "",
    )
