"""A guest of one's own under a lease, and a run directory by hand in which one step of it failed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.runs.samples import plan
from tests.support.lab import Vm
from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.units import UnitSpec, run_unit
from vmlab_tui.hosts.model import Power
from vmlab_tui.journal.log import Journal
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import Lease, PortLease, now, write_lease
from vmlab_tui.runs.client import get_run
from vmlab_tui.runs.diagnosis.collect import Subject
from vmlab_tui.runs.diagnosis.evidence import Evidence, Ssh, Step, Way
from vmlab_tui.runs.plan import write_plan

STEP = 10
"""The number of the sample's first own step."""
RECORDED = Path(__file__).parent / "recorded"


def lease(vm: Vm) -> None:
    """Make a fork of a template one of ours."""
    vm.folder.known_host.write_text(vm.endpoint.host_key)
    write_lease(
        vm.store,
        Lease(
            uuid=vm.uuid,
            name=vm.spec.name,
            run_id="none-20260102-131415-7f3a",
            profile="none",
            image="debian-12",
            owner="me@here",
            created=now(),
            user=vm.endpoint.user,
            network="isolated",
            ports=tuple(PortLease(**asdict(port)) for port in vm.spec.forwards),
        ),
    )


def subject(vm: Vm, *, network: str = "isolated") -> Subject:
    """The VM without a run."""
    return Subject(vm.spec.name, vm.uuid, True, vm.endpoint.user, network)


class FailedRun:
    """A run whose first own step is ``script``; it is really run in the guest."""

    def __init__(self, lab: Lab, vm: Vm, number: int, script: str, user: str = "root") -> None:
        step = {"kind": "run", "name": "install", "script": script, "timeout": 60, "user": user}
        made = plan(lab.store.root, steps=[step], checks=[])
        self.lab = lab
        self.vm = vm
        self.plan = made.model_copy(
            update={
                "run_id": f"sample-20260102-131415-{number:04x}",
                "uri": lab.uri,
                "vm": made.vm.model_copy(update={"uuid": vm.uuid, "name": vm.spec.name}),
            }
        )
        self.script = script
        self.user = user
        self.folder = lab.store.run(self.plan.run_id)
        (self.folder / "steps").mkdir(parents=True)
        write_plan(self.folder, self.plan)
        self.journal = Journal.append(self.folder / "journal.jsonl")
        self.journal.write("run_created", run_id=self.plan.run_id, profile="sample", plan_sha="0")
        self.journal.write("step_started", number=STEP, attempt=1)

    async def run(self, guest: Guest) -> int | None:
        """The step as runs do it; its exit status, None when it did not come to one."""
        unit = UnitSpec(self.plan.run_id, STEP, 1, self.script, user=self.user)
        log = self.folder / "steps" / self.plan.step(STEP).log_name(1)
        with log.open("ab") as out:

            def write(raw: bytes) -> None:
                out.write(raw)

            try:
                status = await run_unit(guest, unit, write, Deadline(60))
            except LabError as error:
                self.finish(None, error.message)
                return None
        self.finish(status, f"step 'install' exited with {status}")
        return status

    def finish(self, status: int | None, detail: str = "the connection dropped") -> None:
        """``status`` None: it broke off."""
        self.journal.write(
            "step_finished",
            number=STEP,
            attempt=1,
            state="failed",
            seconds=1.0,
            detail=detail,
            exit_status=status,
        )
        self.journal.close()

    def subject(self, *, network: str = "isolated") -> Subject:
        view = get_run(self.lab, self.plan.run_id)
        return Subject(self.vm.spec.name, self.vm.uuid, True, self.vm.endpoint.user, network, view)


# -- evidence as files -----------------------------------------------------------------------------------


def save(fault: str, evidence: Evidence) -> None:
    """Keep it as the evidence of that fault: what rules read, nothing of the test's own machine."""
    RECORDED.mkdir(exist_ok=True)
    parts = {name: text for name, text in evidence.parts.items() if name != "journal"}
    for name in ("dmesg", "cloud-init-log"):
        parts[name] = _end(parts.get(name, ""))
    log = [
        re.sub(r"(starting up libvirt version: [\d.]+).*", r"\1", line) for line in _told(evidence.qemu_log)
    ]
    data = asdict(evidence) | {
        "parts": parts,
        "console": _end(evidence.console),
        "qemu_log": "".join(log),
    }
    (RECORDED / f"{fault}.json").write_text(json.dumps(data, indent=1, default=str) + "\n")


def _end(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[-25:])


def _told(log: str) -> list[str]:
    """QEMU's log since its last start, less its command line."""
    lines = log[max(0, log.rfind(": starting up") - 40) :].splitlines(keepends=True)
    return [line for line in lines if line.startswith(("-loadvm", "2")) or "qemu-system" in line]


def load(fault: str) -> Evidence:
    """What was kept of that fault."""
    data: dict[str, Any] = json.loads((RECORDED / f"{fault}.json").read_text())
    step = data.pop("step")
    if step:
        step["lines"] = tuple(step["lines"])
    return Evidence(
        **{
            **data,
            "step": Step(**step) if step else None,
            "way": Way(data["way"]),
            "ssh": Ssh(data["ssh"]),
            "late": tuple(data["late"]),
            "power": Power(data["power"]) if data["power"] else None,
        }
    )
