"""Keys: one digest for each step's end, of everything that led there.

Two runs with the same key at a step have a guest in the same state there, as far as vmlab can know: a step
that does not depend only on what it is told (the network, the time of day) is the profile's business.
What is not in a key does not change the guest: names, components, time limits, checks, the VM's own name,
its ports on this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store, locked, write_durably
from vmlab_tui.guests.transfer import listed
from vmlab_tui.hosts.model import Accel, Forward, HostFacts, VmSpec
from vmlab_tui.hosts.xml import domain_xml
from vmlab_tui.images.seed import SeedSpec, user_data
from vmlab_tui.runs.plan import Plan, PlannedImage, PlannedKey, PlannedVm
from vmlab_tui.spec.model import CopyStep, Profile, RunStep, Step

MOST_FILES = 500
"""Files of one copied folder that are told apart by name when something differs; more are one digest."""

_KEY = 32
"""Bytes of the key for secrets."""

Parts = dict[str, str]
"""What goes into one step's key: a digest for each thing that a person can name."""


def digest(value: JsonValue) -> str:
    """SHA-256 of a value's canonical JSON, hex, shortened to 32 digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


class SecretHash:
    """A keyed hash of secrets, so that a plan shows whether one changed and nothing else.

    The key lies beside the lab's SSH key (0600) and never leaves the store. Where there is none yet and
    ``make`` is false, one for this moment does: nothing to compare with can exist. Raises LabError when it is
    damaged.
    """

    def __init__(self, store: Store, *, make: bool = False) -> None:
        path = store.keys / "plan.key"
        self.lasting = make or path.exists()
        if not self.lasting:
            self._key = os.urandom(_KEY)
            return
        if not path.exists():
            with locked(store.keys / ".lock"):
                if not path.exists():
                    write_durably(path, os.urandom(_KEY))
        self._key = path.read_bytes()
        if len(self._key) != _KEY:
            raise LabError(f"{path} is damaged", hint="remove it: no checkpoint is reused once after that")

    def __call__(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:32]


def boot_parts(image: PlannedImage, vm: PlannedVm, profile: Profile, facts: HostFacts) -> Parts:
    """What the clean boot depends on, but for the lab's own SSH key, which is as old as the store."""
    nowhere = Path("/")
    spec = VmSpec(
        uuid="00000000-0000-0000-0000-000000000000",
        name="x",
        cpus=vm.cpus,
        memory=vm.memory,
        accel=Accel(vm.accel),
        disk=nowhere / "disk",
        disk_format="qcow2",
        chain=((nowhere / "image", image.format),),
        seed=nowhere / "seed",
        console_log=nowhere / "console",
        mac="52:54:00:00:00:00",
        network=vm.network,
        firmware=vm.firmware,
    )
    forwards = (Forward("ssh", 1, 22),) if vm.network in ("isolated", "user") else ()
    seed = SeedSpec("x", "x", image.user, (), "", "", profile.cloud_init)
    return {
        "image": image.digest,
        "cpus": str(vm.cpus),
        "memory": str(vm.memory),
        "disk size": str(vm.disk),
        "network": vm.network,
        "accel": vm.accel,
        "firmware": vm.firmware,
        "QEMU": ".".join(map(str, facts.qemu)),
        # everything else that vmlab tells libvirt of such a VM: another vmlab may tell it otherwise
        "hardware": digest(domain_xml(replace(spec, forwards=forwards))),
        "cloud-init": digest(user_data(seed)),
    }


def step_parts(step: Step, env: Mapping[str, str], secrets: Mapping[str, str]) -> Parts:
    """What one step of the profile depends on by itself. ``secrets``: hashes, not values.

    Blocks: reads every file that is copied. Raises LabError when one cannot be read.
    """
    if isinstance(step, RunStep):
        parts = {"script": digest(step.script), "user": step.user}
        parts |= {f"env {name}": digest(value) for name, value in {**env, **step.env}.items()}
        return parts | {f"env {name}": value for name, value in secrets.items() if name not in step.env}
    if isinstance(step, CopyStep):
        how: JsonValue = [step.to, list(step.exclude), step.delete, step.owner]
        return {"copy options": digest(how), **files_parts(step)}
    what = step.model_dump(mode="json", exclude={"name", "timeout", "component", "checkpoint"})
    return {step.kind: digest(what)}


def files_parts(step: CopyStep) -> Parts:
    """The content and modes of the files of one copy step, as they are now."""
    try:
        there = listed(step.src, step.to, step.exclude)
        files = {name: digest([mode, content, link]) for name, mode, content, link in there}
    except OSError as error:
        raise LabError(f"step '{step.name}': {error.filename}: {error.strerror}") from error
    if len(files) > MOST_FILES:
        return {f"{len(files)} files of {step.src.name}": digest(dict(files))}
    return {f"file {name}": value for name, value in files.items()}


def plan_keys(plan: Plan, facts: HostFacts, secrets: Mapping[str, str]) -> Iterator[PlannedKey]:
    """The key after the clean boot and after each step of the profile, in order.

    ``secrets``: their hashes. Blocks as :func:`step_parts`, and raises what that does.
    """
    key = ""
    for step in plan.steps:
        if step.kind == "clean-boot":
            parts = boot_parts(plan.image, plan.vm, plan.profile, facts)
        elif step.index is not None:
            parts = step_parts(plan.profile.steps[step.index], plan.env, secrets)
        else:
            continue
        key = digest([key, step.kind, dict(parts)])
        yield PlannedKey(number=step.number, key=key, parts=parts)


def differences(ours: Parts, theirs: Parts) -> list[str]:
    """The names of what differs between two steps' parts, in words."""
    found = [f"{name} is new" for name in ours if name not in theirs]
    found += [f"{name} is gone" for name in theirs if name not in ours]
    return [*(f"{name} changed" for name in ours if theirs.get(name, ours[name]) != ours[name]), *found]
