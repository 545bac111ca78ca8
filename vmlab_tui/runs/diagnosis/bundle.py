"""Diagnosing: collect, judge, say it, and keep what it was judged by."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import Masker, clean_line
from vmlab_tui.hosts.host import Host
from vmlab_tui.lab.bundles import NOTE, PREFIX
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.diagnosis.collect import LIMIT, Subject, collect
from vmlab_tui.runs.diagnosis.evidence import Evidence, Ssh, Way
from vmlab_tui.runs.diagnosis.finding import Finding
from vmlab_tui.runs.diagnosis.rules import Judgement, judge

SCHEMA = 1


@dataclass(frozen=True)
class Diagnosis:
    """``folder``: where all that was seen lies, None when there was no place for it. ``seconds`` it took."""

    evidence: Evidence
    judgement: Judgement
    seconds: float
    folder: Path | None = None


async def diagnose(
    lab: Lab, host: Host | None, subject: Subject, secrets: Iterable[str] = (), limit: float = LIMIT
) -> Diagnosis:
    """Look for at most ``limit`` seconds, judge, and keep a bundle in the run's directory, else in the VM's.

    ``secrets`` are masked in all of it. Raises LabError when the bundle cannot be written.
    """
    began = time.monotonic()
    found = await collect(lab, host, subject, Masker(secrets).mask, limit)
    done = Diagnosis(found.evidence, judge(found.evidence), round(time.monotonic() - began, 2))
    place = subject.view.folder if subject.view else lab.store.vm(subject.uuid) if subject.own else None
    if place is None or not place.is_dir():
        return done
    folder = _new_folder(place)
    done = Diagnosis(done.evidence, done.judgement, done.seconds, folder)
    files = {f"{name}.txt": raw for name, raw in found.raw.items()}
    files["diagnosis.txt"] = ("\n".join(lines_of(done)) + "\n").encode()
    files[NOTE] = (json.dumps(as_json(done), indent=1) + "\n").encode()
    _write(folder, files)
    return done


def _new_folder(place: Path) -> Path:
    stamp = f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1, 100):
        folder = place / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise LabError(
                f"{folder} cannot be made: {error.strerror}", hint="free some space there"
            ) from error
        return folder
    raise LabError(f"{place} is full of diagnoses of this second")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        for name, raw in files.items():
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
    except OSError as error:
        raise LabError(
            f"{folder} cannot be written: {error.strerror}", hint="free some space there"
        ) from error


# -- telling it ------------------------------------------------------------------------------------------


def first_line(done: Diagnosis) -> str:
    """The likely cause, or that none was found."""
    if cause := done.judgement.cause:
        return f"likely cause: {cause.cause}"
    step = done.evidence.step
    if step is None:
        return f"no cause found: nothing is wrong with {done.evidence.vm} as far as could be seen"
    how = "failed" if step.status is None else f"exited with {step.status}"
    return f"no cause found: {step.title} {how}, and nothing that was seen explains it"


def lines_of(done: Diagnosis) -> tuple[str, ...]:
    """For people: the cause, what shows it, what to do, what else was seen, and how."""
    evidence, judgement = done.evidence, done.judgement
    lines = [first_line(done)]
    if judgement.cause:
        lines += _told(judgement.cause)
    step = evidence.step
    if step and not judgement.cause:
        lines += [f"  | {clean_line(line, 200)}" for line in (step.lines or (step.told,))[-5:] if line]
    for other in judgement.also:
        lines += [f"also seen: {other.cause}", *(f"  | {line}" for line in other.why[:2])]
    lines.append(_how(done))
    if done.folder:
        lines.append(f"  {done.folder}")
    return tuple(lines)


def _told(finding: Finding) -> list[str]:
    return [*(f"  | {line}" for line in finding.why), *(f"  -> {line}" for line in finding.todo)]


def _how(done: Diagnosis) -> str:
    e = done.evidence
    way = f"looked by {e.way.value}" if e.way is not Way.HOST else "looked from outside the guest"
    parts = [f"{way}, {done.seconds:.1f} s"]
    if e.way is not Way.SSH and e.ssh not in (Ssh.UNTRIED, Ssh.IN):
        parts.append(f"SSH: {e.ssh.value}")
    if e.way is Way.HOST and e.agent is False:
        parts.append("guest agent: no answer")
    if e.late:
        parts.append("took too long: " + ", ".join(e.late))
    return "; ".join(parts)


def as_json(done: Diagnosis) -> dict[str, JsonValue]:
    """For programs; ``cause`` is null when none was found."""
    e = done.evidence
    return {
        "schema": SCHEMA,
        "vm": e.vm,
        "summary": first_line(done),
        "cause": _finding(done.judgement.cause) if done.judgement.cause else None,
        "also": [_finding(one) for one in done.judgement.also],
        "step": e.step.number if e.step else None,
        "exit_status": e.step.status if e.step else None,
        "way": e.way.name.lower(),
        "ssh": e.ssh.value or None,
        "agent": e.agent,
        "power": e.power.value if e.power else None,
        "late": list(e.late),
        "seconds": done.seconds,
        "folder": str(done.folder) if done.folder else None,
    }


def _finding(one: Finding) -> dict[str, JsonValue]:
    return {"fault": one.fault, "cause": one.cause, "evidence": list(one.why), "next": list(one.todo)}
