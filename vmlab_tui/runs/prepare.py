"""From a request to a plan, with everything said that could be known before anything is touched."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from vmlab_tui import __version__
from vmlab_tui.base.errors import Exit, LabError, Refused, UsageError
from vmlab_tui.base.ids import is_name, new_mac, new_run_id, new_uuid
from vmlab_tui.base.units import size
from vmlab_tui.hosts.accel import choose_accel
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import HostFacts
from vmlab_tui.images.store import Image, get_image, image_file, open_store
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import now, whoami
from vmlab_tui.runs.plan import Plan, PlannedImage, PlannedVm, plan_steps
from vmlab_tui.runs.request import RunRequest
from vmlab_tui.spec.env import RunEnv, resolve_env
from vmlab_tui.spec.profile import LoadedProfile, Profile, load_profile

RESERVE = 1 << 30
"""Bytes of disk that must stay free beyond what a run needs."""


@dataclass(frozen=True)
class Finding:
    """One answer of the preflight. ``level``: ok, warn or refuse; ``fix`` says what to do."""

    level: str
    what: str
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Prepared:
    """A run that could be started, or the reasons why not."""

    plan: Plan
    loaded: LoadedProfile
    env: RunEnv
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.level == "refuse")

    def raise_if_refused(self) -> None:
        """Raise Refused naming every reason at once."""
        if self.refused:
            raise Refused(
                "preflight refuses:\n" + "\n".join(f"  {one.what}: {one.detail}" for one in self.refused),
                hint="\n".join(one.fix for one in self.refused if one.fix),
            )


async def prepare(
    lab: Lab,
    host: Host,
    request: RunRequest,
    loaded: LoadedProfile | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Prepared:
    """Load, resolve and plan. Only creates the store's own folders.

    ``loaded``: the request's profile, where the caller has loaded it already. ``environ``: where the
    variables come from.

    Raises UsageError for a bad profile or request and Refused for missing environment variables or a
    missing image; everything else that speaks against the run is in ``findings``.
    """
    loaded = loaded or load_profile(request.profile, request.sets)
    profile = _amend(loaded.profile, request)
    env = resolve_env(profile, request.env_names, request.env_file, environ)
    facts = await host.facts()
    open_store(lab.store, facts.qemu_uid, facts.qemu_gid, system=lab.system)
    try:
        image = get_image(lab.store, profile.image)
    except UsageError as error:
        raise MissingImage(profile.image, error) from error
    accel = await choose_accel(profile.vm.accel)
    time_travel = await host.can_time_travel(profile.vm.firmware, "qcow2")
    name = request.name or f"{profile.name[:50]}-{secrets.token_hex(2)}"
    if not is_name(name):
        raise UsageError(f"'{name}' cannot name a VM", hint="use letters, digits, dot, dash and underscore")
    vm = PlannedVm(
        uuid=new_uuid(),
        name=name,
        mac=new_mac(),
        cpus=profile.vm.cpus,
        memory=profile.vm.memory,
        disk=max(profile.vm.disk, image.virtual_size),
        accel=accel.accel.value,
        accel_reason=accel.reason,
        network=profile.vm.network,
        firmware=profile.vm.firmware,
        time_travel=time_travel,
    )
    plan = Plan(
        run_id=new_run_id(profile.name),
        created=now(),
        vmlab=__version__,
        owner=whoami(),
        uri=lab.uri,
        store=lab.store.root,
        profile=profile,
        profile_file=loaded.path,
        profile_sha=hashlib.sha256(loaded.text).hexdigest(),
        image=PlannedImage(
            name=image.name,
            file=image_file(lab.store, image),
            format=image.format,
            digest=image.digest,
            virtual_size=image.virtual_size,
            user=image.user,
        ),
        vm=vm,
        ports={"ssh": 22, **profile.ports},
        env=dict(env.public),
        secret_names=tuple(sorted(env.secret)),
        on_pass=profile.on_pass,
        on_fail=profile.on_fail or default_on_fail(interactive=request.interactive),
        ttl=profile.ttl,
        max_duration=profile.max_duration,
        pause_limit=profile.pause_limit,
        steps=plan_steps(profile),
    )
    taken = name in {domain.name for domain in await host.domains()}
    return Prepared(plan, loaded, env, tuple(preflight(lab, facts, plan, image, name_taken=taken)))


class MissingImage(Refused):
    """The profile's image is not in the store."""

    exit = Exit.REFUSED

    def __init__(self, name: str, cause: LabError) -> None:
        super().__init__(cause.message, hint=f"build it with: vmlab image build {name}")
        self.name = name


def default_on_fail(*, interactive: bool) -> str:
    """What happens to the VM of a failed run when neither flag nor profile says: see ``vmlab run --help``."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        return "destroy"
    return "pause" if interactive else "keep"


def _amend(profile: Profile, request: RunRequest) -> Profile:
    """A flag beats the profile."""
    changes: dict[str, object] = {
        field: value
        for field in ("image", "on_pass", "on_fail", "ttl", "max_duration")
        if (value := getattr(request, field)) is not None
    }
    if request.accel is not None:
        changes["vm"] = profile.vm.model_copy(update={"accel": request.accel})
    return profile.model_copy(update=changes)


def preflight(lab: Lab, facts: HostFacts, plan: Plan, image: Image, *, name_taken: bool) -> list[Finding]:
    """Everything that can be known now: image, permissions, space, memory, time travel."""
    vm, found = plan.vm, []
    if image_file(lab.store, image).exists():
        found.append(
            Finding("ok", "image", f"{image.name}, {size(image.disk_size)}, made {image.created[:10]}")
        )
    else:
        fix = f"build it again: vmlab image build {image.name}"
        found.append(Finding("refuse", "image", f"{image_file(lab.store, image)} is gone", fix))
    if name_taken:
        found.append(Finding("refuse", "name", f"a VM is called {vm.name} already", "choose another --name"))
    if not os.access(lab.store.vms, os.W_OK):
        fix = "run vmlab as root, or use --connect qemu:///session"
        found.append(Finding("refuse", "permissions", f"{lab.store.vms} cannot be written", fix))
    found.append(_space(lab, plan))
    if vm.memory > facts.memory_total:
        detail = f"the VM wants {size(vm.memory)}, the machine has {size(facts.memory_total)}"
        found.append(Finding("refuse", "memory", detail, "lower it with --set vm.memory=..."))
    elif vm.memory > facts.memory_free:
        detail = f"the VM wants {size(vm.memory)}, only {size(facts.memory_free)} are free"
        found.append(Finding("warn", "memory", detail, "end other VMs, or the host will swap"))
    else:
        found.append(Finding("ok", "memory", f"{size(vm.memory)} of {size(facts.memory_free)} free"))
    if vm.cpus > facts.cpus:
        detail = f"the VM wants {vm.cpus}, the machine has {facts.cpus}"
        found.append(Finding("warn", "cpus", detail, "lower it with --set vm.cpus=..."))
    found.append(Finding("ok", "accel", vm.accel_reason))
    if vm.time_travel:
        found.append(Finding("warn", "time travel", f"none: {vm.time_travel}"))
    else:
        found.append(Finding("ok", "time travel", "snapshots with memory"))
    return found


def _space(lab: Lab, plan: Plan) -> Finding:
    """A run writes the overlay, and the memory into it once for each of its two snapshots."""
    free = shutil.disk_usage(lab.store.root).free
    snapshots = 0 if plan.vm.time_travel else 2 * plan.vm.memory
    need = snapshots + RESERVE
    if free < need:
        detail = f"{size(free)} free in {lab.store.root}, {size(need)} needed for snapshots and reserve"
        return Finding("refuse", "space", detail, "free some space, or lower vm.memory")
    if free < need + plan.vm.disk:
        detail = f"{size(free)} free: the guest cannot fill its disk of {size(plan.vm.disk)}"
        return Finding("warn", "space", detail)
    return Finding("ok", "space", f"{size(free)} free")
