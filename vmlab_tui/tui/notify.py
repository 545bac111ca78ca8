"""Telling a person who looks elsewhere: by the terminal (OSC 9) or by the desktop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vmlab_tui.base.text import clean_line

_STATES = {
    "passed": "passed",
    "failed": "failed",
    "error": "failed: the lab, not the profile",
    "paused": "pauses and waits for you",
    "interrupted": "was interrupted: its worker died",
    "ended": "was ended",
}


def news(before: Sequence[Any] | None, now: Sequence[Any]) -> list[tuple[str, bool]]:
    """What has happened to runs: (sentence, whether it is bad), for those that ended or pause now."""
    if before is None:
        return []
    was = {view.run_id: view.status for view in before}
    told = []
    for view in now:
        old = was.get(view.run_id)
        if old is None or old == view.status or view.status in ("running", "starting"):
            continue
        words = _STATES.get(view.status, view.status)
        told.append((clean_line(f"run {view.run_id} {words}", 160), view.status != "passed"))
    return told


def osc9(text: str) -> str:
    """The sequence by which many terminals show a notification; the others ignore it."""
    # a semicolon would make it another sequence: OSC 9;4 sets a progress bar
    words = clean_line(text, 160).replace(";", ",")
    return f"\x1b]9;{words}\x1b\\"


def desktop_command(text: str, environment: Mapping[str, str] = os.environ) -> list[str] | None:
    """How to show it on the desktop; None without one."""
    if not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        return None
    program = shutil.which("notify-send", path=environment.get("PATH"))
    return [program, "--app-name=vmlab", "--", "vmlab", clean_line(text, 160)] if program else None


async def tell_away(text: str, how: str, write: Callable[[str], object]) -> None:
    """Tell it by ``how`` (terminal, desktop, off); ``write`` writes to the terminal. Never raises."""
    if how == "terminal":
        write(osc9(text))
    elif how == "desktop" and (argv := desktop_command(text)):
        with contextlib.suppress(OSError, TimeoutError):
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(*argv, stdin=quiet, stdout=quiet, stderr=quiet)
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
