"""Which statement of a step's script breaks something: its prefixes, tried on forks of what was before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError, Refused, UsageError
from vmlab_tui.base.text import Masker, clean_line
from vmlab_tui.base.units import duration
from vmlab_tui.checks.registry import CheckSpec, run_check
from vmlab_tui.checks.result import CheckResult
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.transfer import send_tree
from vmlab_tui.guests.units import UnitSpec, kill_unit, run_unit
from vmlab_tui.guests.unitshell import PLAIN, shell_of
from vmlab_tui.hosts.host import Host
from vmlab_tui.journal.events import Checkpoint
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.graph import VmEntry
from vmlab_tui.runs.client import RunView
from vmlab_tui.runs.keys import step_parts
from vmlab_tui.runs.plan import CHECK_SECONDS, PlannedStep
from vmlab_tui.runs.scratch import TTL, kept_checkpoints, newest_before, scratch_fork, side_by_side
from vmlab_tui.runs.steps import text_of
from vmlab_tui.spec.model import CopyStep, RunStep

AT_ONCE = 2
"""Forks that run at the same time."""
_ATTEMPT = 9000
"""Where the attempts of what is tried begin: a checkpoint may hold the units of real ones."""
_PARSING = 300.0


@dataclass(frozen=True)
class Statement:
    """Lines ``first`` to ``last`` of a script, counted from 1."""

    first: int
    last: int
    text: str


@dataclass(frozen=True)
class Probe:
    """What was found after the first ``lines`` lines of the script (0: at the checkpoint).

    ``status``: the exit status of these lines; None when nothing was run or the time limit ended them
    (``stopped``). ``results``: of the checks, up to the first that failed.
    """

    lines: int
    status: int | None
    stopped: bool
    results: tuple[CheckResult, ...]

    @property
    def holds(self) -> bool:
        return all(one.state == "passed" for one in self.results)


@dataclass(frozen=True)
class Culprit:
    """The first statement after which the check fails, and what was seen before and after it."""

    statement: Statement
    before: Probe
    after: Probe
    statements: int
    """How many the script has."""
    probes: tuple[Probe, ...]
    """All that was tried, in the order of the lines."""
    checkpoint: Checkpoint


def checks_for(view: RunView, command: str | None) -> tuple[CheckSpec, ...]:
    """The checks that decide: ``command``, else the profile's failing one of kind command, else all of these.

    Raises UsageError when there is none.
    """
    if command is not None:
        return (CheckSpec.model_validate({"kind": "command", "params": {"command": command}}),)
    commands = [one for one in view.plan.profile.checks if one.kind == "command"]
    bad = {one.check for one in view.state.checks if one.state in ("failed", "error")}
    if failing := [one for one in commands if one.label in bad]:
        return (failing[0],)
    if not commands:
        raise UsageError(
            f"profile {view.plan.profile.name} has no check of kind command that could decide",
            hint="give one: --check 'curl -fsS localhost:8080'",
        )
    return tuple(commands)


@dataclass(frozen=True)
class Bisect:
    """One search. ``on_stage`` hears what is being done, ``on_probe`` each result; ``secrets`` by name."""

    lab: Lab
    host: Host
    vm: VmEntry
    view: RunView
    step: PlannedStep
    checks: Sequence[CheckSpec]
    secrets: Mapping[str, str]
    on_stage: Callable[[str], None]
    on_probe: Callable[[Probe], None]

    async def run(self) -> Culprit:
        """Raises UsageError or Refused when there is nothing to be found, LabError when a fork fails."""
        what, shell = await asyncio.to_thread(self._script)
        start = self._start()
        between = await asyncio.to_thread(self._between, start)
        lines = what.script.splitlines()
        ends: list[int] = []
        probes: dict[int, Probe] = {}

        async def probe(count: int, *, parse: bool = False) -> Probe:
            def stage(text: str) -> None:
                self.on_stage(f"{_told(count)}: {text}")

            ttl = TTL + self.step.timeout * (1 + len(between))
            async with scratch_fork(
                self.lab, self.host, self.vm, start.name, ttl=ttl, on_stage=stage
            ) as guest:
                for step in between:
                    stage(f"step {step.number:02}")
                    await self._replay(guest, step)
                if parse:
                    stage("where statements end")
                    ends.extend(await statement_ends(guest, what.script, shell))
                found = await self._try(guest, what, lines, count, stage)
            probes[count] = found
            self.on_probe(found)
            return found

        first, last = await side_by_side([probe(0, parse=True), probe(len(lines))])
        self._refuse(start, first, last)
        whole = len(lines)
        ends = [0, *(end for end in ends if end < (candidates(what.script) or [whole])[-1]), whole]

        async def holds(points: Sequence[int]) -> list[bool]:
            return [one.holds for one in await side_by_side([probe(ends[point]) for point in points])]

        at = await first_bad(len(ends) - 1, holds)
        return Culprit(
            _statement(lines, ends[at - 1] + 1, ends[at]),
            probes[ends[at - 1]],
            probes[ends[at]],
            len(ends) - 1,
            tuple(probes[count] for count in sorted(probes)),
            start,
        )

    def _script(self) -> tuple[RunStep, str]:
        """The step with its present script, and the shell that parses that. Blocks."""
        step = self.step
        named = f"step {step.number:02} '{clean_line(step.name, 60)}'"
        what = self.view.plan.profile.steps[step.index] if step.index is not None else None
        if not isinstance(what, RunStep):
            raise UsageError(f"{named} runs no script: only scripts have statements")
        what = what.model_copy(update={"script": self._text(step, what)})
        words = shell_of(what.script)
        if words is None:
            raise UsageError(f"{named} is not a shell script: nobody knows where its statements end")
        if not what.script.strip():
            raise UsageError(f"{named} has an empty script")
        return what, words[0]

    def _text(self, step: PlannedStep, what: RunStep) -> str:
        return text_of(self.view.folder, self.view.state, step, what)

    def _start(self) -> Checkpoint:
        found = newest_before(kept_checkpoints(self.vm, self.view.state.line), self.step.number)
        if found is None:
            raise UsageError(
                f"run {self.view.run_id} has no checkpoint before step {self.step.number:02} any more",
                hint="run it again with --keep; checkpoint: true at the step before it takes one",
            )
        return found

    def _between(self, start: Checkpoint) -> list[PlannedStep]:
        """The profile's steps from the checkpoint to ours that have to be done first. Blocks: reads files.

        Raises Refused when one of them cannot be done again as it was.
        """
        plan, states = self.view.plan, self.view.state.steps
        found = []
        for one in plan.steps:
            known = states.get(one.number)
            if one.index is None or not start.after < one.number < self.step.number:
                continue
            if known is None or known.state == "skipped":
                continue
            problem = "" if one.kind in ("run", "copy") else f"a {one.kind} is not done again in a fork"
            if one.kind == "copy":
                planned = next((key.parts for key in plan.keys if key.number == one.number), None)
                if planned is not None and step_parts(plan.profile.steps[one.index], {}, {}) != planned:
                    problem = "its files have changed since"
            if problem:
                raise Refused(
                    f"between checkpoint '{clean_line(start.name, 60)}' and step {self.step.number:02} lies "
                    f"step {one.number:02} '{clean_line(one.name, 60)}': {problem}",
                    hint="checkpoint: true at that step, and run the profile again",
                )
            found.append(one)
        return found

    def _refuse(self, start: Checkpoint, first: Probe, last: Probe) -> None:
        """Raises Refused unless the check holds at the beginning and fails at the end."""
        where = f"checkpoint '{clean_line(start.name, 60)}'"
        if not first.holds:
            said = "\n".join(told(first))
            raise Refused(
                f"the check does not hold at {where}, before step {self.step.number:02}, "
                f"so no statement of the step broke it\n{said}",
                hint="give another one with --check, or look at an earlier step",
            )
        if last.holds:
            raise Refused(
                f"the check holds after the whole of step {self.step.number:02}, as it does at {where}",
                hint="it may be a later step that breaks it, or something that the time brings",
            )

    def _unit(self, step: PlannedStep, what: RunStep, script: str, attempt: int) -> UnitSpec:
        return UnitSpec(
            run_id=self.view.run_id,
            number=step.number,
            attempt=attempt,
            script=script,
            user=what.user,
            env={**self.view.plan.env, **what.env},
            secrets=self.secrets,
            timeout=step.timeout,
        )

    async def _replay(self, guest: Guest, step: PlannedStep) -> None:
        """Do an earlier step of the profile in a fork. Raises LabError when it fails there."""
        assert step.index is not None
        what = self.view.plan.profile.steps[step.index]
        if isinstance(what, CopyStep):
            await send_tree(
                guest,
                what.src,
                what.to,
                exclude=what.exclude,
                delete=what.delete,
                owner=what.owner,
                timeout=step.timeout,
            )
        elif isinstance(what, RunStep):
            text = await asyncio.to_thread(self._text, step, what)
            unit = self._unit(step, what, text, _ATTEMPT)
            status = await run_unit(guest, unit, lambda _: None, Deadline(step.timeout))
            if status:
                raise LabError(
                    f"step {step.number:02} '{clean_line(step.name, 60)}', done again in a fork, "
                    f"exited with {status}",
                    hint="checkpoint: true at that step, and run the profile again: forks start there then",
                )

    async def _try(
        self, guest: Guest, what: RunStep, lines: Sequence[str], count: int, stage: Callable[[str], None]
    ) -> Probe:
        status: int | None = None
        stopped = False
        if count:
            stage("running")
            unit = self._unit(self.step, what, "\n".join(lines[:count]) + "\n", _ATTEMPT + count)
            try:
                status = await run_unit(guest, unit, lambda _: None, Deadline(self.step.timeout))
            except DeadlineError:
                await kill_unit(guest, unit)
                stopped = True
        results: list[CheckResult] = []
        for spec in self.checks:
            stage(f"checking {spec.label}")
            results.append(self._masked(await run_check(spec, guest, Deadline(spec.within + CHECK_SECONDS))))
            if results[-1].state == "error":
                raise LabError(f"after {_told(count)}: {spec.label}: {results[-1].detail}")
            if results[-1].state != "passed":
                break
        return Probe(count, status, stopped, tuple(results))

    def _masked(self, result: CheckResult) -> CheckResult:
        def masked(text: str) -> str:
            masker = Masker(self.secrets.values())
            return (masker.feed(text.encode()) + masker.finish()).decode(errors="replace")

        return replace(result, detail=masked(result.detail), evidence=masked(result.evidence))


async def first_bad(count: int, holds: Callable[[Sequence[int]], Awaitable[list[bool]]]) -> int:
    """The smallest point from 1 to ``count`` at which it does not hold, given that it does at 0, not at
    ``count``, and changes once. Asks for :data:`AT_ONCE` points at a time."""
    low, high = 0, count
    while high - low > 1:
        gap = high - low
        points = sorted({low + max(1, gap * n // (AT_ONCE + 1)) for n in range(1, AT_ONCE + 1)})
        for point, good in zip(points, await holds(points), strict=True):
            if not good:
                high = point
                break
            low = point
    return high


def _statement(lines: Sequence[str], first: int, last: int) -> Statement:
    """Without the empty lines around it."""
    while first < last and not lines[first - 1].strip():
        first += 1
    while last > first and not lines[last - 1].strip():
        last -= 1
    return Statement(first, last, "\n".join(lines[first - 1 : last]))


def candidates(script: str) -> list[int]:
    """The lines after which a statement may end: neither empty, nor a comment, nor continued."""
    found = []
    for number, line in enumerate(script.splitlines(), 1):
        text = line.strip()
        continued = (len(line) - len(line.rstrip("\\"))) % 2
        if text and not text.startswith("#") and not continued:
            found.append(number)
    return found


# In a here-document everything parses, even what no statement could begin with.
_PARSE = """
main() {
  file=$(mktemp) || exit 3
  cat >"$file"
  for n in %(lines)s; do
    head -n $n "$file" | %(shell)s -n >/dev/null 2>&1 || continue
    { head -n $n "$file"; echo; echo ')'; } | %(shell)s -n >/dev/null 2>&1 && continue
    echo $n
  done
  rm -f "$file"
  echo end
}
main
"""


def parser(script: str, shell: str) -> str:
    """The program for /bin/sh that prints, of the script on its standard input, where statements end.

    ``shell``: the first word of :func:`~vmlab_tui.guests.unitshell.shell_of`.
    """
    return PLAIN + _PARSE % {"lines": " ".join(map(str, candidates(script))), "shell": shell or "$shell"}


async def statement_ends(guest: Guest, script: str, shell: str) -> list[int]:
    """The lines at which what stands up to there is complete for ``shell``, by its own word.

    Raises LabError, DeadlineError.
    """
    said = await guest.execute(parser(script, shell), data=(script + "\n").encode(), timeout=_PARSING)
    words = said.out.decode(errors="replace").split()
    if words[-1:] != ["end"]:
        problem = clean_line(said.err.decode(errors="replace"), 200)
        raise LabError(f"{guest.endpoint.label}: the guest cannot parse the script: {problem}")
    return [int(word) for word in words[:-1] if word.isdigit()]


def told(probe: Probe) -> list[str]:
    """The check's output after some lines, in lines."""
    found = []
    if probe.stopped:
        found.append(f"{_told(probe.lines)} did not end within the step's time limit")
    elif probe.status:
        found.append(f"{_told(probe.lines)} exited with {probe.status}")
    for one in probe.results:
        if one.state != "passed":
            found.append(f"{one.check}: {one.state} after {duration(one.seconds)}: {one.detail}")
            found += [f"  | {line}" for line in one.evidence.splitlines()]
    return found


def _told(count: int) -> str:
    return f"lines 1-{count}" if count else "the checkpoint"
