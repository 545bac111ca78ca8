"""From a request to a plan, with everything said that could be known before anything is touched."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vmlab_tui import __version__
from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.ids import is_name, new_mac, new_run_id, new_uuid
from vmlab_tui.base.paths import Store, existing
from vmlab_tui.base.units import size
from vmlab_tui.hosts.accel import choose_accel
from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import HostFacts
from vmlab_tui.images.store import NoImage, check_store, get_image, image_file
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import now, whoami
from vmlab_tui.runs import checkpoints
from vmlab_tui.runs.budget import RESERVE
from vmlab_tui.runs.plan import Plan, PlannedImage, PlannedVm, breaks_of, plan_steps
from vmlab_tui.runs.request import RunRequest
from vmlab_tui.runs.start import can_compare, keyed, look_back, told
from vmlab_tui.spec.env import GIVE_VARIABLES, RunEnv, collect_env, missing_variables
from vmlab_tui.spec.profile import LoadedProfile, Profile, load_profile
from vmlab_tui.spec.recipe import has_recipe
from vmlab_tui.spec.settings import load_settings


@dataclass(frozen=True)
class Finding:
    """One answer of the preflight. ``level``: ok, warn or refuse; ``fix`` says what to do."""

    level: str
    what: str
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Prepared:
    """A run that could be started, or the reasons why not.

    ``build``: the image that is missing, if there is a recipe for it and nothing else speaks against the run.
    """

    plan: Plan
    loaded: LoadedProfile
    env: RunEnv
    facts: HostFacts
    findings: tuple[Finding, ...]
    build: str = ""

    @property
    def refused(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.level == "refuse")

    def raise_if_refused(self) -> None:
        """Raise Refused naming every reason at once, each with its fix."""
        bad = self.refused
        if not bad:
            return
        if len(bad) == 1:
            raise Refused(f"preflight refuses: {bad[0].what}: {bad[0].detail}", hint=bad[0].fix)
        lines = ["preflight refuses, and nothing was touched:"]
        for finding in bad:
            lines.append(f"  {finding.what}: {finding.detail}")
            if finding.fix:
                lines.append(f"    -> {finding.fix}")
        raise Refused("\n".join(lines))


async def prepare(
    lab: Lab,
    host: Host,
    request: RunRequest,
    loaded: LoadedProfile | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Prepared:
    """Load, resolve and plan. Makes and changes nothing.

    ``loaded``: the request's profile, where the caller has loaded it already. ``environ``: where the
    variables come from.

    Raises UsageError for a bad profile or request, LabError without libvirt; everything that speaks against
    the run is in ``findings``.
    """
    loaded = loaded or load_profile(request.profile, request.sets)
    profile = _amend(loaded.profile, request)
    env = collect_env(profile, request.env_names, request.env_file, environ)
    name = request.name or f"{profile.name[:50]}-{secrets.token_hex(2)}"
    if not is_name(name):
        raise UsageError(f"'{name}' cannot name a VM", hint="use letters, digits, dot, dash and underscore")
    facts = await host.facts()
    image, about_image, buildable = await asyncio.to_thread(
        _image, lab.store, profile.image, profile.vm.firmware
    )
    accel, about_accel = await _accel(profile.vm.accel)
    vm = PlannedVm(
        uuid=new_uuid(),
        name=name,
        mac=new_mac(),
        cpus=profile.vm.cpus,
        memory=profile.vm.memory,
        disk=max(profile.vm.disk, image.virtual_size),
        accel=accel,
        accel_reason=about_accel.detail,
        network=profile.vm.network,
        firmware=profile.vm.firmware,
        time_travel=await host.can_time_travel(profile.vm.firmware, "qcow2"),
    )
    steps = plan_steps(profile)
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
        image=image,
        vm=vm,
        ports={"ssh": 22, **profile.ports},
        env=dict(env.public),
        secret_names=tuple(sorted(env.secret)),
        on_pass=profile.on_pass,
        on_fail=profile.on_fail or default_on_fail(interactive=request.interactive),
        ttl=profile.ttl,
        max_duration=profile.max_duration,
        pause_limit=profile.pause_limit,
        steps=steps,
        breaks=breaks_of(steps, request.breaks, stepwise=request.stepwise),
        checkpoints=profile.checkpoints,
        budget=load_settings().budget,
    )
    plan = await look_back(lab, host, plan, facts, env.secret, cold=request.cold)
    found = [about_image]
    if env.missing:
        found.append(Finding("refuse", "variables", missing_variables(env), GIVE_VARIABLES))
    if name in {domain.name for domain in await host.domains()}:
        fix = "choose another name for the VM (--name NAME)"
        found.append(Finding("refuse", "name", f"a VM is called {name} already", fix))
    found += await asyncio.to_thread(_machine, lab, facts, vm)
    found.append(about_accel)
    if vm.time_travel:
        found.append(Finding("warn", "time travel", f"none: {vm.time_travel}"))
    else:
        slow = await host.why_no_io_uring()
        told_slow = f", read the slow way: {slow}" if slow else ""
        found.append(Finding("ok", "time travel", f"snapshots with memory{told_slow}"))
        found.append(Finding("ok", "checkpoints", checkpoints.told(plan)))
    if image.digest:
        found.append(Finding("ok", "start", told(plan)))
    prepared = Prepared(plan, loaded, env, facts, tuple(found))
    if buildable and prepared.refused == (about_image,):
        return replace(prepared, build=image.name)
    return prepared


def lasting(lab: Lab, prepared: Prepared) -> Prepared:
    """With keys that later runs can compare theirs with: in a new store there was no secret to hash by."""
    if not prepared.plan.keys or not prepared.env.secret or can_compare(lab):
        return prepared
    plan = keyed(lab, prepared.plan, prepared.facts, prepared.env.secret, make=True)
    return replace(prepared, plan=plan)


def default_on_fail(*, interactive: bool) -> str:
    """What happens to the VM of a failed run when neither flag nor profile says: see ``vmlab run --help``."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        return "destroy"
    return "pause" if interactive else "keep"


def _amend(profile: Profile, request: RunRequest) -> Profile:
    """A flag beats the profile."""
    changes: dict[str, object] = {
        field: value
        for field in ("image", "on_pass", "on_fail", "ttl", "max_duration", "checkpoints")
        if (value := getattr(request, field)) is not None
    }
    if request.accel is not None:
        changes["vm"] = profile.vm.model_copy(update={"accel": request.accel})
    return profile.model_copy(update=changes)


def _image(store: Store, name: str, firmware: str) -> tuple[PlannedImage, Finding, bool]:
    """The image, what there is to say of it, and whether it is missing but could be built.

    One that cannot be used has no digest. Raises UsageError for what cannot be a name.
    """
    none = PlannedImage(name=name, file=store.images / name, format="", digest="", virtual_size=0, user="")
    try:
        image = get_image(store, name)
    except NoImage as error:
        if has_recipe(name):
            return (
                none,
                Finding("refuse", "image", error.message, f"build it: vmlab image build {name}"),
                True,
            )
        detail = f"{error.message}, and no recipe of that name"
        fix = f"import it (vmlab image add FILE --name {name}), or boot another (--image NAME)"
        return none, Finding("refuse", "image", detail, fix), False
    except UsageError:
        raise
    except LabError as error:
        return none, Finding("refuse", "image", error.message, error.hint), False
    planned = PlannedImage(
        name=image.name,
        file=image_file(store, image),
        format=image.format,
        digest=image.digest,
        virtual_size=image.virtual_size,
        user=image.user,
    )
    if planned.file.exists():
        about = f"{image.name}, {size(image.disk_size)}, made {image.created[:10]}"
        # of an imported one nobody has looked how it boots
        if image.recipe and firmware != image.firmware:
            about += f"; it boots by {image.firmware}, so {firmware} will find nothing to boot"
            fix = f"leave vm.firmware at {image.firmware}, or import an image that boots by {firmware}"
            return planned, Finding("warn", "image", about, fix), False
        return planned, Finding("ok", "image", about), False
    fix = f"build it again: vmlab image build {image.name}"
    return planned, Finding("refuse", "image", f"{planned.file} is gone", fix), False


async def _accel(wish: str) -> tuple[str, Finding]:
    """What the VM is run with, and why; the wish itself where this machine cannot do it."""
    try:
        choice = await choose_accel(wish)
    except UsageError:
        raise
    except LabError as error:
        return wish, Finding("refuse", "accel", error.message, error.hint)
    return choice.accel.value, Finding("ok", "accel", choice.reason)


def _machine(lab: Lab, facts: HostFacts, vm: PlannedVm) -> list[Finding]:
    """What can be known of this machine: permissions, space, memory, processors."""
    found = []
    try:
        check_store(lab.store, facts.qemu_uid, facts.qemu_gid, system=lab.system)
    except Refused as error:
        found.append(Finding("refuse", "store", error.message, error.hint))
    found.append(_space(lab, vm))
    lower = "lower the VM's memory (--set vm.memory=...)"
    if vm.memory > facts.memory_total:
        detail = f"the VM wants {size(vm.memory)}, the machine has {size(facts.memory_total)}"
        found.append(Finding("refuse", "memory", detail, lower))
    elif vm.memory > facts.memory_free:
        detail = f"the VM wants {size(vm.memory)}, only {size(facts.memory_free)} are free"
        found.append(Finding("warn", "memory", detail, f"end other VMs, or {lower}: the host will swap"))
    else:
        found.append(Finding("ok", "memory", f"{size(vm.memory)} of {size(facts.memory_free)} free"))
    if vm.cpus > facts.cpus:
        detail = f"the VM wants {vm.cpus}, the machine has {facts.cpus}"
        fix = "lower the VM's CPUs (--set vm.cpus=...)"
        found.append(Finding("warn", "cpus", detail, fix))
    return found


def _space(lab: Lab, vm: PlannedVm) -> Finding:
    """A run writes the overlay, and the memory into it once for each of its two snapshots."""
    free = shutil.disk_usage(existing(lab.store.root)).free
    snapshots = 0 if vm.time_travel else 2 * vm.memory
    need = snapshots + RESERVE
    if free < need:
        detail = f"{size(free)} free in {lab.store.root}, {size(need)} needed for snapshots and reserve"
        fix = "free some space, or lower the VM's memory (--set vm.memory=...)"
        return Finding("refuse", "space", detail, fix)
    if free < need + vm.disk:
        detail = f"{size(free)} free: the guest cannot fill its disk of {size(vm.disk)}"
        return Finding("warn", "space", detail)
    return Finding("ok", "space", f"{size(free)} free")
