"""Waiting for cloud-init by the files it keeps; its own command takes seconds to start in a slow guest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.guests.ssh import ConnectError, Dropped, Guest


class CloudInitState(StrEnum):
    DONE = "done"
    ERROR = "error"
    ABSENT = "absent"
    """Not installed, or it decided not to run."""


@dataclass(frozen=True)
class CloudInit:
    """How cloud-init ended. ``stage`` is the last one it was in; ``output`` the last lines of its own log."""

    state: CloudInitState
    errors: tuple[str, ...] = ()
    stage: str = ""
    output: tuple[str, ...] = ()


# stages are told as they change; "failed" is asked only now and then, being a program
_WAIT = r"""
R=/run/cloud-init last= n=0
while [ ! -e $R/result.json ]; do
  if [ -e $R/disabled ]; then echo "absent disabled"; exit; fi
  if [ ! -d $R ] && ! command -v cloud-init >/dev/null 2>&1; then echo "absent -"; exit; fi
  stage=
  while read -r key value _; do
    [ "$key" != '"stage":' ] || stage=${value%,}
  done 2>/dev/null <$R/status.json
  if [ "$stage" != "$last" ]; then last=$stage; echo "stage $stage"; fi
  n=$((n + 1))
  if [ $((n % 20)) = 0 ] && command -v systemctl >/dev/null 2>&1; then
    failed=$(systemctl list-units --failed --plain --no-legend 'cloud-*' 2>/dev/null)
    [ -z "$failed" ] || { echo "failed $failed"; break; }
  fi
  sleep 0.3 2>/dev/null || sleep 1
done
echo "files"
cat $R/result.json; echo; echo "@@"
cat $R/status.json; echo; echo "@@"
tail -n 20 /var/log/cloud-init-output.log
"""


async def wait_cloud_init(guest: Guest, deadline: Deadline, on_stage: Callable[[str], None]) -> CloudInit:
    """Wait until cloud-init has ended; ``on_stage`` hears of each of its stages (``init``, ...).

    Its errors are in the result, not raised. Survives dropped connections. Raises DeadlineError naming the
    stage, and LabError.
    """
    stage = ""

    def heard(line: bytes) -> None:
        nonlocal stage
        found = clean_line(line, 80).removeprefix("stage ").strip('" ,')
        if found and found != "null":
            stage = found
            on_stage(found)

    try:
        async with asyncio.timeout(deadline.left):
            while True:
                try:
                    return await _once(guest, heard, lambda: stage)
                except (Dropped, ConnectError):
                    await asyncio.sleep(1)
    except TimeoutError as error:
        raise DeadlineError(
            f"{guest.endpoint.label}: cloud-init not done within {deadline.seconds:g} s; "
            f"it is in stage '{stage or 'unknown'}'",
            hint="a command of its own may hang: see /var/log/cloud-init-output.log in the guest",
        ) from error


async def _once(guest: Guest, heard: Callable[[bytes], None], stage: Callable[[], str]) -> CloudInit:
    failed = ""
    async with guest.process(_WAIT) as process:
        with guest.translated():
            while line := await process.stdout.readline():
                if line.startswith(b"stage "):
                    heard(line)
                elif line.startswith(b"absent"):
                    return CloudInit(CloudInitState.ABSENT, stage=clean_line(line[7:]).strip(" -\n"))
                elif line.startswith(b"failed "):
                    failed = clean_line(line[7:])
                elif line.startswith(b"files"):
                    rest = await process.stdout.read(1 << 20)
                    while more := await process.stdout.read(1 << 20):
                        rest = (rest + more)[: 1 << 20]
                    return _judge(rest, failed, stage())
    raise Dropped(f"{guest.endpoint.label}: the SSH connection dropped")


def _judge(raw: bytes, failed: str, stage: str) -> CloudInit:
    result, _, rest = raw.partition(b"@@\n")
    status, _, log = rest.partition(b"@@\n")
    errors = [*errors_of(result), *errors_of(status)]
    if failed:
        errors.append(f"a unit of it failed: {failed}")
    elif not result.strip():
        errors.append("it left no result")
    state = CloudInitState.ERROR if errors else CloudInitState.DONE
    lines = clean(log).strip().splitlines()[-20:]
    return CloudInit(state, tuple(dict.fromkeys(errors)), stage, tuple(lines))


def errors_of(raw: bytes) -> list[str]:
    """All ``errors`` of one of cloud-init's JSON files, cleaned; nothing when it cannot be read."""
    try:
        top: Any = json.loads(raw.decode(errors="replace"))["v1"]
        parts = [top, *(part for part in top.values() if isinstance(part, dict))]
        return [clean_line(str(error), 500) for part in parts for error in part.get("errors") or []]
    except (ValueError, KeyError, AttributeError, TypeError):
        return []
