"""The engine: takes a plan's steps in order, journals each, and ends the run by the table."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import Exit, LabError, Refused, StepError
from vmlab_tui.base.faults import declare, point
from vmlab_tui.base.text import Masker
from vmlab_tui.base.units import duration
from vmlab_tui.guests.units import UnitLost
from vmlab_tui.hosts.model import Power
from vmlab_tui.journal.events import PauseWhy, moment
from vmlab_tui.runs import altered, checkpoints, closing, opening, pauses, warm
from vmlab_tui.runs.capture import ConsoleCapture
from vmlab_tui.runs.context import Result, RunContext
from vmlab_tui.runs.film import Film
from vmlab_tui.runs.plan import PlannedStep
from vmlab_tui.runs.report import Ending, write_reports
from vmlab_tui.runs.steps import ScriptFailed, profile_step

REPORTED = declare("reported", "the reports are written, the VM is still there")
BEFORE_ENDED = declare("before-ended", "all is done, the journal does not say that the run ended")

Turn = Literal["on", "again", "back"]
"""What comes next: the next step, this one once more, or one that going back has left to do."""

Phase = Callable[[RunContext, PlannedStep], Awaitable[Result]]
_PHASES: dict[str, Phase] = {
    "preflight": opening.preflight,
    "overlay": opening.overlay,
    "seed": opening.seed,
    "define": opening.define,
    "boot": opening.boot,
    "address": opening.address,
    "ssh": opening.ssh,
    "cloud-init": opening.cloud_init,
    "clean-boot": warm.clean_boot,
    "provisioned": checkpoints.phase,
    "checks": closing.checks,
}
_TAIL = ("collect", "report", "cleanup")
_FILMED = ("boot", "address", "ssh", "cloud-init")
"""The steps that wait for the guest: its screen is looked at meanwhile."""
_DONE = ("ok", "skipped", "reused")


@dataclass
class Outcome:
    """How the main part of the run went."""

    state: str = "passed"
    exit: Exit = Exit.PASSED
    detail: str = ""


class Engine:
    """Runs one plan to its end in this process, which must be the run's only writer."""

    def __init__(self, run: RunContext) -> None:
        self.run = run
        self._capture: asyncio.Task[None] | None = None
        self._film = Film(run.folder, lambda: run.host.screenshot(run.plan.vm.uuid, timeout=5))
        self._stopped = "the worker was told to stop"
        self._again = False
        """Whether the next step is tried once more."""
        self._failure: Outcome | None = None
        """What a person is being asked about."""

    async def execute(self) -> Outcome:
        """Everything from where the journal stands to its ``ended`` event."""
        outcome = await self._guarded()
        await self._finish(outcome)
        return outcome

    async def _guarded(self) -> Outcome:
        """The main steps, unless someone wishes the run's end or its time is over."""
        run = self.run
        main = asyncio.create_task(self._main())
        stop = asyncio.create_task(run.stop.wanted.wait())
        while not (main.done() or stop.done()) and (left := self._left()) > 0:
            # a pause does not count, and ends without notice: look again soon
            await asyncio.wait({main, stop}, timeout=min(left, 1.0), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if main.done():
            return main.result()
        if self._failure:  # whoever ends a run that stands still at a failure does not change that it failed
            outcome = self._failure
        elif run.stop.wanted.is_set():
            run.write("end_requested", by=run.stop.by, how=run.stop.how)
            outcome = Outcome("ended", Exit.INTERRUPTED, f"ended on request of {run.stop.by}")
        else:
            spent = duration(run.plan.max_duration)
            outcome = Outcome("failed", Exit.FAILED, f"the run's max_duration of {spent} is over")
        self._stopped = outcome.detail
        main.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await main
        return outcome

    def _left(self) -> float:
        """Seconds that are left of the run's time."""
        state = self.run.state
        if state.state == "paused":
            return 1.0
        since = max(0.0, time.time() - moment(state.updated))
        return self.run.plan.max_duration - state.active - since

    async def _main(self) -> Outcome:
        before = self._before()
        if before:
            return before
        await self._finish_going_back()
        steps = [step for step in self.run.plan.steps if step.kind not in _TAIL]
        at = 0
        while at < len(steps):
            if self._is_done(steps[at]) and not self._again:
                await self._restore(steps[at])
                at += 1
                continue
            turn = await self._one(steps[at])
            if isinstance(turn, Outcome):
                return turn
            if turn == "back":  # what is to be done now comes earlier
                at = next((place for place, one in enumerate(steps) if not self._is_done(one)), len(steps))
            elif turn == "on":
                at += 1
        return Outcome()

    def _is_done(self, step: PlannedStep) -> bool:
        known = self.run.state.steps.get(step.number)
        return known is not None and known.state in _DONE

    async def _one(self, step: PlannedStep) -> Outcome | Turn:
        """One step, and what a person wants done about it; or how the run ends."""
        run, plan = self.run, self.run.plan
        known = run.state.steps.get(step.number)
        again, self._again = self._again, False
        outcome: Outcome | None
        if known and known.state == "failed" and not again:
            outcome = Outcome("failed", Exit.FAILED, known.detail)  # a worker died while it was asked about
        else:
            if not again:
                if (turn := await self._pause(step, "before")) and turn != "again":
                    return turn
                if step.index is not None and not plan.reused(step.number):
                    await checkpoints.before_step(run, step, self._undone())
            outcome = await self._step(step, self._phase(step), again=again)
        if outcome is None:
            await checkpoints.after_step(run, step)
            return await self._pause(step, "after") or "on"
        if plan.on_fail != "pause" or outcome.exit is Exit.REFUSED or not self._vm_is_there():
            return outcome
        self._failure = outcome
        why: PauseWhy = "unknown" if run.state.steps[step.number].state == "unknown" else "failed"
        answer = await self._ask(step, why, outcome.detail)
        if answer is None:
            return outcome
        self._failure = None
        return answer

    async def _pause(self, step: PlannedStep, where: Literal["before", "after"]) -> Turn | None:
        """Ask if a break is set there, or somebody wants to be asked; None: go on."""
        run = self.run
        asked = run.pause.wanted if where == "before" else ""
        if not asked and not run.plan.breaks_at(step.number, where):
            return None
        run.pause.wanted = ""
        reason = f"asked for by {asked}" if asked else f"break {where} step {step.number:02} '{step.name}'"
        return await self._ask(step, "asked" if asked else where, reason)

    async def _ask(self, step: PlannedStep, why: PauseWhy, reason: str) -> Turn | None:
        """Ask until something comes of it; None when nobody answered, or all is to go on as it would have."""
        run = self.run
        while decision := await pauses.ask(run, step, why, reason):
            if decision.sha:
                attempt = pauses.next_attempt(run.state, step)
                run.write("step_amended", number=step.number, attempt=attempt, sha=decision.sha)
            match decision.do:
                case "continue":
                    return None
                case "skip":
                    self._skip(step, decision.by)
                    return "on"
                case "retry":
                    self._again = why not in ("before", "asked")  # there it has not been tried yet
                    return "again"
            try:
                await pauses.revert(run, pauses.target(run, step, decision.to))
            except LabError as error:
                reason = f"going back failed: {_told(error)}"
            else:
                return "back"
        return None

    def _skip(self, step: PlannedStep, by: str) -> None:
        if step.index is not None:
            altered.note(self.run, f"step {step.number:02} was skipped by {by}")
        known = self.run.state.steps.get(step.number)
        self.run.write(
            "step_finished",
            number=step.number,
            attempt=known.attempt if known else 1,
            state="skipped",
            seconds=0,
            detail=f"skipped by {by}",
        )

    async def _finish_going_back(self) -> None:
        """What a worker that died had begun: until it is done the guest may be anywhere."""
        run = self.run
        found = next((one for one in run.state.checkpoints if one.name == run.state.going_back), None)
        if found:
            run.endpoint = run.endpoint or await opening.find_endpoint(run, Deadline(30))
            await pauses.revert(run, found)

    def _vm_is_there(self) -> bool:
        domain = ("domain", self.run.plan.vm.uuid)
        return domain in self.run.state.owns and domain not in self.run.state.pending

    def _phase(self, step: PlannedStep) -> Phase:
        if self.run.plan.reused(step.number):
            return warm.reuse
        return _PHASES.get(step.kind, profile_step)

    def _undone(self) -> float:
        """Seconds of work since the last checkpoint."""
        state = self.run.state
        last = state.line[-1].after if state.line else 0
        return sum(one.seconds for one in state.steps.values() if one.number > last)

    def _before(self) -> Outcome | None:
        """How the main part had ended when an earlier worker died; None when it had not."""
        state, plan = self.run.state, self.run.plan
        if state.end_requested:
            self.run.stop.how = state.end_requested.how
            return Outcome("ended", Exit.INTERRUPTED, f"ended on request of {state.end_requested.by}")
        tail = {plan.phase(kind).number for kind in _TAIL}
        closing = bool(tail & state.steps.keys())
        steps = (one for one in state.steps.values() if one.number not in tail)
        failed = next((one for one in steps if one.state == "failed"), None)
        if failed and (closing or plan.on_fail != "pause"):
            return Outcome("failed", Exit.FAILED, failed.detail)
        return Outcome() if closing else None

    async def _restore(self, step: PlannedStep) -> None:
        """What a finished step leaves in memory, after a new worker took over."""
        if step.kind == "define":
            self._start_capture()
        elif step.kind == "ssh" and not self.run.connected:
            self.run.enter(step, self.run.attempt(step))
            if await self.run.host.power(self.run.plan.vm.uuid) is Power.OFF:
                self.run.note("the VM was off and is started again", level="warn")
                await opening.boot(self.run, self.run.plan.phase("boot"))
            await opening.ssh(self.run, step)

    async def _step(self, step: PlannedStep, phase: Phase, *, again: bool = False) -> Outcome | None:
        """One step with its events; None when the run goes on. ``again``: a new attempt at it."""
        run = self.run
        known = run.state.steps.get(step.number)
        attempt = known.attempt if known and not again else pauses.next_attempt(run.state, step)
        run.write("step_started", number=step.number, attempt=attempt)
        run.enter(step, attempt)
        if again and step.kind == "run":
            altered.note(
                run, f"step {step.number:02} was tried again where its failed attempt had left the guest"
            )
        started = time.monotonic()

        def finished(state: str, detail: str, exit_status: int | None = None) -> None:
            run.write(
                "step_finished",
                number=step.number,
                attempt=attempt,
                state=state,
                seconds=round(time.monotonic() - started, 3),
                detail=detail,
                exit_status=exit_status,
            )

        went_well = False
        try:
            if self._is_filmed(step):
                self._film.start()
            else:
                await self._film.stop()
            if step.index is not None:
                await altered.require_same(run)
            result = await phase(run, step)
            went_well = True
        except asyncio.CancelledError:
            finished("failed", self._stopped)
            raise
        except StepError as error:
            status = error.status if isinstance(error, ScriptFailed) else None
            finished("failed", _told(error), status)
            return Outcome("failed", Exit.FAILED, _told(error))
        except (UnitLost, altered.Moved) as error:
            finished("unknown", _told(error))
            return Outcome("error", Exit.LAB, _told(error))
        except LabError as error:
            finished("failed", _told(error))
            state = Exit.REFUSED if isinstance(error, Refused) else Exit.LAB
            return Outcome("error", state, _told(error))
        except Exception as error:
            traceback.print_exc()
            finished("failed", f"{type(error).__name__}: {error}; worker.log of the run has more")
            return Outcome("error", Exit.LAB, f"internal error: {type(error).__name__}: {error}")
        finally:
            if not went_well:
                await self._film.stop(last=run.stop.how != "destroy")
        finished(result.state, result.detail, result.exit_status)
        if step.kind == "define":
            self._start_capture()
        return None

    def _is_filmed(self, step: PlannedStep) -> bool:
        # where a run goes on from a checkpoint nothing boots, and secrets of its steps may be on the screen
        start = self.run.plan.start
        return step.kind in _FILMED and (start is None or start.kind == "template")

    def _start_capture(self) -> None:
        if self._capture is None:
            self._capture = asyncio.create_task(self._new_capture().follow())

    def _new_capture(self) -> ConsoleCapture:
        return ConsoleCapture(self.run.vm.console, self.run.folder, Masker(self.run.secrets.values()))

    async def _stop_capture(self) -> None:
        if self._capture:
            self._capture.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._capture
            self._capture = None
        elif self.run.vm.console.exists():
            self._new_capture().close()  # what came while there was no worker

    async def _finish(self, outcome: Outcome) -> None:
        """Evidence, what becomes of the VM, the reports, and the journal's last event."""
        run = self.run
        if run.stop.how != "destroy":
            await self._closing_step("collect", closing.collect)
        disposition = self._disposition(outcome)
        await self._stop_capture()
        if disposition == "kept" and run.stop.close() == "destroy":
            disposition = "destroyed"  # the wish came while the evidence was being collected
        until = await closing.keep_vm(run) if disposition == "kept" else None
        ending = Ending(outcome.state, int(outcome.exit), disposition, outcome.detail, until)

        async def report(run: RunContext, step: PlannedStep) -> Result:
            write_reports(run.folder, run.plan, run.state, ending)
            return Result()

        async def cleanup(run: RunContext, step: PlannedStep) -> Result:
            if disposition != "destroyed":
                return Result("skipped", "the VM is kept" if disposition == "kept" else "nothing was made")
            return Result(detail=f"{await closing.destroy_vm(run)} things removed")

        await self._closing_step("report", report)
        point(REPORTED)
        if not await self._closing_step("cleanup", cleanup):
            failed = run.state.steps[run.plan.phase("cleanup").number].detail
            ending = replace(ending, state="error", exit=int(Exit.LAB), disposition="kept", detail=failed)
        try:  # once more, so that the reports know how the last steps went
            write_reports(run.folder, run.plan, run.state, ending)
        except LabError as error:
            run.note(error.message, level="warn")
        point(BEFORE_ENDED)
        run.write(
            "ended",
            state=ending.state,
            exit=ending.exit,
            disposition=ending.disposition,
            seconds=round(run.state.active, 3),
            detail=ending.detail,
            until=ending.until,
        )

    async def _closing_step(self, kind: str, phase: Phase) -> bool:
        """A closing step, whose failure does not keep the others from happening."""
        step = self.run.plan.phase(kind)
        known = self.run.state.steps.get(step.number)
        if known and known.state in _DONE and kind != "report":
            return True
        return await self._step(step, phase) is None

    def _disposition(self, outcome: Outcome) -> str:
        """The end-of-run table: destroyed, kept, or none when nothing was made."""
        run = self.run
        if not run.state.owns:
            return "destroyed" if run.plan.phase("overlay").number in run.state.steps else "none"
        if not self._vm_is_there():
            return "destroyed"  # there is no VM that one could look at
        wish = run.plan.on_pass if outcome.state == "passed" else run.plan.on_fail
        if run.stop.how in ("destroy", "keep"):
            wish = run.stop.how
        # a pause that nobody answered, or cannot, counts as keep
        return "destroyed" if wish == "destroy" else "kept"


def _told(error: LabError) -> str:
    return error.message + (f"\n{error.hint}" if error.hint else "")
