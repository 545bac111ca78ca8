"""The worker's socket: the one way by which others change a run that is being worked on.

One JSON line in, one JSON line out. Requests, ``seq`` being the last event the caller has seen:

- ``{"verb": "status"}``
- ``{"verb": "end", "how": "table"|"destroy"|"keep", "by": WHO, "seq": N}``
- ``{"verb": "arm", "by": WHO}``: leave the run's secrets in the guest for a shell there, to be read once and
  within a minute; ``path`` in the reply says where (empty: it has none).
- ``{"verb": "decide", "do": "retry"|"back"|"skip"|"continue", "to": CHECKPOINT, "by": WHO, "seq": N}``, see
  `runs.decision.Decision`: what a run that stands still shall do
- ``{"verb": "pause", "by": WHO}``: stand still before the next step
- ``{"verb": "visit", "visit": WORDS}``: somebody goes into the guest and may change it, as the words say
- ``{"verb": "vm", "do": "off"|..., "name": SNAPSHOT, "by": WHO, "seq": N}``, see `lab.vmverbs.Change`; the
  answer comes when it is done.

Replies carry ``ok``, ``seq``, for a change of the VM ``result`` (`lab.vmverbs.Result`), and ``error`` and
``hint`` where ``ok`` is false; with it ``over`` when the run's end is settled already, and ``refused`` when
nothing was touched.
"""

from __future__ import annotations

import asyncio
import json

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.paths import short_path
from vmlab_tui.base.text import clean_line
from vmlab_tui.guests.here import leave_secrets
from vmlab_tui.journal.log import Follower
from vmlab_tui.lab.vmverbs import ALTERS, LOSES, REWINDS, Change, Result, carry_out
from vmlab_tui.runs import altered
from vmlab_tui.runs.asking import FILE, LIMIT, RunIsOver
from vmlab_tui.runs.context import RunContext
from vmlab_tui.runs.decision import Decision
from vmlab_tui.runs.folder import JOURNAL
from vmlab_tui.runs.pauses import answer

_MOVES = (
    "step_started",
    "step_finished",
    "step_amended",
    "going_back",
    "went_back",
    "paused",
    "continued",
    "end_requested",
)
"""Events after which a person who saw an earlier one would decide anew."""


class Request(BaseModel):
    """What a caller wants of a worker."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verb: str
    how: str = Field("table", pattern="^(table|destroy|keep)$")
    by: str = "someone"
    visit: str = Field("", max_length=1000)
    seq: int = 0


class ControlServer:
    """Listens in the run's directory (mode 0700: its owner only) while the worker lives."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._server: asyncio.Server | None = None
        self._changing = asyncio.Lock()
        self._follower = Follower(run.folder / JOURNAL)
        self._moved = 0

    async def start(self) -> None:
        (self._run.folder / FILE).unlink(missing_ok=True)
        with short_path(self._run.folder, FILE) as path:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=LIMIT)

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        (self._run.folder / FILE).unlink(missing_ok=True)
        async with self._changing:
            pass  # whoever has asked for a change hears how it went

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                line = await reader.readline()
            reply = await self._answer(line)
            async with asyncio.timeout(10):
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        run = self._run
        try:
            request = Request.model_validate_json(line)
        except ValidationError as error:
            return {
                "ok": False,
                "seq": run.state.seq,
                "error": f"not a request: {error.error_count()} errors",
            }
        if request.seq > run.state.seq:
            return {"ok": False, "seq": run.state.seq, "error": f"this run has no event {request.seq} yet"}
        if request.verb == "end":
            if run.stop.closed:
                return {"ok": False, "seq": run.state.seq, "over": True, "error": "it has just ended"}
            run.stop.ask(request.how, request.by)
        elif request.verb == "arm":
            try:
                path = await leave_secrets(run.guest, run.secrets)
            except LabError as error:
                return self._failed(error)
            if path:
                run.note(f"the secrets are lent to a shell in the guest, asked by {request.by}")
            return {"ok": True, "seq": run.state.seq, "path": path}
        elif request.verb == "visit":
            altered.note(run, clean_line(request.visit, 200))
        elif request.verb == "pause":
            run.pause.wanted = request.by
        elif request.verb == "decide":
            try:
                await self._decide(line, request)
            except LabError as error:
                return self._failed(error)
        elif request.verb == "vm":
            async with self._changing:
                try:
                    result = await self._change(line, request)
                except LabError as error:
                    return self._failed(error)
            return {"ok": True, "seq": run.state.seq, "result": result.model_dump(mode="json")}
        elif request.verb != "status":
            return {"ok": False, "seq": run.state.seq, "error": f"unknown verb {request.verb}"}
        return {"ok": True, "seq": run.state.seq, "state": run.state.state}

    def _failed(self, error: LabError) -> dict[str, object]:
        return {
            "ok": False,
            "seq": self._run.state.seq,
            "over": isinstance(error, RunIsOver),
            "refused": isinstance(error, Refused),
            "error": error.message,
            "hint": error.hint,
        }

    async def _decide(self, line: bytes, request: Request) -> None:
        """Answer a run that stands still. Raises Refused, also when it has moved on since."""
        run = self._run
        try:
            decision = Decision.model_validate_json(line)
        except ValidationError as error:
            raise Refused(f"not an answer: {error.error_count()} errors") from error
        await self._look_back()
        if self._moved > request.seq:
            raise Refused(
                f"it has moved on since you looked: it is {run.state.state} now",
                hint=f"look again: vmlab runs show {run.plan.run_id}",
            )
        answer(run, decision)

    async def _change(self, line: bytes, request: Request) -> Result:
        """Do to the VM what was asked for. Raises Refused, RunIsOver, or what went wrong."""
        run = self._run
        try:
            change = Change.model_validate_json(line)
        except ValidationError as error:
            raise Refused(f"not a change of a VM: {error.error_count()} errors") from error
        if change.do in LOSES:
            await self._look_back()
        # nothing is awaited from here to the note: what is checked is what is changed
        if run.stop.closed:
            raise RunIsOver("it has just ended")
        if run.plan.phase("cleanup").number in run.state.steps:
            raise Refused("it is over, and its VM is being removed")
        paused = run.state.state == "paused"
        at = next((one.number for one in run.state.steps.values() if one.state == "running"), None)
        where = f"at step {at:02} '{run.plan.step(at).name}'" if at else run.state.state
        if change.do in REWINDS and not paused:
            raise Refused(
                f"it is {where}: {change.text} would take away what that stands on",
                hint=f"wait until it is over, or end it: vmlab runs end {run.plan.run_id}",
            )
        if change.do in LOSES and self._moved > request.seq:
            raise Refused(
                f"it has moved on since you looked: it is {where} now",
                hint=f"look again: vmlab runs show {run.plan.run_id}",
            )
        self._moved = run.write("note", text=f"{change.text}, asked by {request.by}").seq
        if change.do in ALTERS:
            altered.note(run, f"{change.text}, asked by {request.by}")
            altered.begin_anew(run)
        try:
            result = await carry_out(run.host, run.plan.vm.uuid, change, run.endpoint)
        except LabError as error:
            run.note(f"{change.text} failed: {error.message}", level="warn")
            raise
        finally:
            if change.do in ("off", "reset", "revert") and run.connected and paused:
                await run.guest.close()  # the guest at its other end is gone; a next command connects anew
        if result.lines:
            run.note(f"{change.text}: {'; '.join(result.lines)}")
        return result

    async def _look_back(self) -> None:
        """Read the journal up to its end, for the last event that moved the run."""
        while self._follower.seq < self._run.state.seq:
            for event in await asyncio.to_thread(self._follower.new):
                if event.kind in _MOVES:
                    self._moved = max(self._moved, event.seq)
