"""What a run leaves for people and for CI: ``report.md``, ``report.json``, ``junit.xml``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from pydantic import JsonValue

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import write_durably
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.journal.state import RunState
from vmlab_tui.runs.film import FOLDER, Frame, after_boot, frames
from vmlab_tui.runs.plan import Plan

SCHEMA = 1
_WORDS = {
    "ok": "ok",
    "failed": "FAILED",
    "skipped": "skipped",
    "reused": "reused",
    "unknown": "unknown",
    "running": "running",
}


@dataclass(frozen=True)
class Ending:
    """How a run ended. ``until``: ISO 8601 UTC, when a kept VM expires."""

    state: str
    exit: int
    disposition: str
    detail: str = ""
    until: str | None = None

    @property
    def verdict(self) -> str:
        """The word that heads the report."""
        return {"passed": "PASSED", "failed": "FAILED", "ended": "ENDED"}.get(self.state, "ERROR")


@dataclass(frozen=True)
class Component:
    """A named part of the profile and whether all that belongs to it went well."""

    name: str
    verdict: str
    steps: tuple[str, ...]
    checks: tuple[str, ...]


def components(plan: Plan, state: RunState) -> list[Component]:
    """PASSED, FAILED or NOT RUN for each component that steps or checks of the profile name."""
    names: list[str] = []
    for part in (*plan.profile.steps, *plan.profile.checks):
        if part.component and part.component not in names:
            names.append(part.component)
    found = []
    for name in names:
        steps = [step for step in plan.steps if step.component == name]
        states = [known.state for step in steps if (known := state.steps.get(step.number))]
        results = [check for check in state.checks if check.component == name]
        wanted = len([check for check in plan.profile.checks if check.component == name])
        bad = [
            *(one for one in states if one == "failed"),
            *(one for one in results if one.state != "passed"),
        ]
        whole = len(states) == len(steps) and len(results) == wanted
        verdict = "FAILED" if bad else "PASSED" if whole else "NOT RUN"
        found.append(
            Component(name, verdict, tuple(step.name for step in steps), tuple(one.check for one in results))
        )
    return found


def write_reports(folder: Path, plan: Plan, state: RunState, ending: Ending) -> None:
    """Write all three, each whole or not at all. Raises LabError."""
    film = frames(folder)
    try:
        write_durably(folder / "report.json", json.dumps(as_json(plan, state, ending, film), indent=1) + "\n")
        write_durably(folder / "junit.xml", as_junit(plan, state, ending))
        write_durably(folder / "report.md", as_markdown(plan, state, ending, film))
    except OSError as error:
        raise LabError(
            f"{folder}: the reports cannot be written: {error.strerror}", hint="make room there"
        ) from error


def as_json(plan: Plan, state: RunState, ending: Ending, film: Sequence[Frame] = ()) -> dict[str, JsonValue]:
    """``report.json``: durations in seconds."""
    return {
        "schema": SCHEMA,
        "run": plan.run_id,
        "profile": plan.profile.name,
        "verdict": ending.verdict,
        "ending": asdict(ending),
        "image": {"name": plan.image.name, "digest": plan.image.digest},
        "vm": {"name": plan.vm.name, "uuid": plan.vm.uuid, "accel": plan.vm.accel},
        "started": state.started,
        "seconds": round(state.active, 3),
        "waited": {on: round(seconds, 3) for on, seconds in state.waited.items()},
        "components": [
            {"name": one.name, "verdict": one.verdict, "steps": list(one.steps), "checks": list(one.checks)}
            for one in components(plan, state)
        ],
        "steps": [
            {
                "number": step.number,
                "kind": step.kind,
                "name": step.name,
                "component": step.component,
                "state": known.state if known else "not run",
                "attempt": known.attempt if known else 0,
                "seconds": known.seconds if known else 0,
                "detail": known.detail if known else "",
                "exit_status": known.exit_status if known else None,
            }
            for step in plan.steps
            for known in (state.steps.get(step.number),)
        ],
        "checks": [one.model_dump(mode="json") for one in state.checks],
        "screens": [
            {
                "file": f"{FOLDER}/{one.path.name}",
                "taken": one.taken.isoformat(timespec="milliseconds"),
                "after_boot": after_boot(plan, state, one),
            }
            for one in film
        ],
    }


def as_junit(plan: Plan, state: RunState, ending: Ending) -> bytes:
    """One test suite: a case for each step and each check."""
    suite = ET.Element("testsuite", name=plan.profile.name, timestamp=state.started[:19])
    failures = 0
    skipped = 0
    for step in plan.steps:
        known = state.steps.get(step.number)
        case = ET.SubElement(suite, "testcase", classname=f"{plan.profile.name}.steps", name=step.name)
        case.set("time", f"{known.seconds if known else 0:.3f}")
        if known and known.state in ("failed", "unknown"):
            failures += 1
            ET.SubElement(case, "failure", message=clean_line(known.detail)).text = clean(known.detail)
        elif known is None or known.state == "skipped":
            skipped += 1
            ET.SubElement(case, "skipped", message=clean_line(known.detail) if known else "not run")
    for one in state.checks:
        case = ET.SubElement(suite, "testcase", classname=f"{plan.profile.name}.checks", name=one.check)
        case.set("time", f"{one.seconds:.3f}")
        if one.state == "skipped":
            skipped += 1
            ET.SubElement(case, "skipped", message=one.detail)
        elif one.state != "passed":
            failures += 1
            ET.SubElement(case, "failure", message=one.detail).text = one.evidence
    if ending.state == "ended":
        ET.SubElement(suite, "system-err").text = ending.detail
    suite.set("tests", str(len(plan.steps) + len(state.checks)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    suite.set("time", f"{state.active:.3f}")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _cell(text: str) -> str:
    """Foreign text for a table cell: one line, no Markdown, no HTML."""
    safe = clean_line(text, 160)
    for sign in "\\`*_[]<>|#":
        safe = safe.replace(sign, f"\\{sign}")
    return safe


def as_markdown(plan: Plan, state: RunState, ending: Ending, film: Sequence[Frame] = ()) -> str:
    """``report.md``, for people."""
    lines = [
        f"# {ending.verdict}: {plan.profile.name}",
        "",
        f"Run `{plan.run_id}` on image `{plan.image.name}`, started {state.started[:19]} UTC, "
        f"took {duration(state.active)}.",
        "",
    ]
    if ending.detail:
        lines += ["```", *clean(ending.detail).replace("```", "'''").splitlines(), "```", ""]
    if ending.disposition == "kept":
        lines += [
            f"The VM `{plan.vm.name}` is **kept until {(ending.until or 'further notice')[:19]} UTC**.",
            "",
            f"- look: `vmlab ssh {plan.run_id}`",
            f"- remove: `vmlab runs end {plan.run_id}`",
            "",
        ]
    elif ending.disposition == "destroyed":
        lines += ["The VM and everything made for it is removed.", ""]
    parts = components(plan, state)
    if parts:
        lines += ["| component | result |", "|---|---|"]
        lines += [f"| {_cell(one.name)} | {one.verdict} |" for one in parts] + [""]
    lines += ["| step | name | state | time | |", "|---:|---|---|---:|---|"]
    for step in plan.steps:
        known = state.steps.get(step.number)
        word = _WORDS[known.state] if known else "not run"
        if known and known.state == "running":
            word = "in progress"
        seconds = duration(known.seconds) if known and known.seconds else ""
        detail = _cell(known.detail) if known else ""
        lines.append(f"| {step.number:02} | {_cell(step.name)} | {word} | {seconds} | {detail} |")
    if state.checks:
        lines += ["", "| check | result | |", "|---|---|---|"]
        for one in state.checks:
            lines.append(f"| {_cell(one.check)} | {one.state.upper()} | {_cell(one.detail)} |")
    waits = ", ".join(f"{on} {duration(seconds)}" for on, seconds in sorted(state.waited.items()))
    lines += ["", f"Waited for: {waits or 'nothing'}."]
    if film:
        when = [after_boot(plan, state, one) for one in film]
        told = ", ".join(
            f"[{seconds:.0f} s](" + f"{FOLDER}/{one.path.name})" if seconds is not None else one.path.name
            for one, seconds in zip(film, when, strict=True)
        )
        lines += ["", f"Screen after the start of its boot: {told}."]
    return "\n".join(lines) + "\n"
