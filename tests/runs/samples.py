"""A plan and journals to test on, made without a host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vmlab_tui.journal.events import make
from vmlab_tui.journal.state import RunState
from vmlab_tui.runs.plan import Plan, PlannedImage, PlannedVm, plan_steps
from vmlab_tui.spec.profile import Profile

UUID = "0b0b0b0b-1111-2222-3333-444444444444"


def profile(**more: Any) -> Profile:
    base: dict[str, Any] = {
        "schema": 1,
        "name": "sample",
        "image": "tiny",
        "steps": [
            {
                "kind": "run",
                "name": "install desktop",
                "script": "true",
                "timeout": 60,
                "component": "desktop",
            },
            {"kind": "run", "name": "install rdp", "script": "true", "timeout": 60, "component": "rdp"},
        ],
        "checks": [
            {"kind": "service", "params": {"name": "xrdp"}, "component": "rdp"},
            {"kind": "command", "params": {"command": "true"}, "component": "ide"},
        ],
    }
    return Profile.model_validate({**base, **more})


def plan(store: Path = Path("/nowhere"), **more: Any) -> Plan:
    one = profile(**more)
    return Plan(
        run_id="sample-20260102-131415-7f3a",
        created="2026-01-02T13:14:15+00:00",
        vmlab="0",
        owner="me@here",
        uri="test:///default",
        store=store,
        profile=one,
        profile_file=Path("/nowhere/profile.yaml"),
        profile_sha="0" * 64,
        image=PlannedImage(
            name="tiny", file=Path("/i"), format="qcow2", digest="d" * 64, virtual_size=1, user="lab"
        ),
        vm=PlannedVm(
            uuid=UUID,
            name="sample-7f3a",
            mac="52:54:00:00:00:01",
            cpus=1,
            memory=1 << 28,
            disk=1 << 30,
            accel="tcg",
            accel_reason="TCG",
            network="isolated",
            firmware="bios",
        ),
        ports={"ssh": 22},
        env={},
        secret_names=(),
        on_pass="destroy",
        on_fail="keep",
        ttl=60,
        max_duration=60,
        pause_limit=60,
        steps=plan_steps(one),
    )


def told(*events: tuple[str, dict[str, Any]]) -> RunState:
    """The state after these events."""
    state = RunState()
    for number, (kind, data) in enumerate(events, 1):
        state = state.apply(make(number, kind, data)[0])
    return state


def worker() -> tuple[str, dict[str, Any]]:
    return "worker_started", {"pid": os.getpid(), "boot_id": "b", "start_ticks": 1, "resumed": False}
