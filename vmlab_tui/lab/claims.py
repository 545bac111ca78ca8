"""The rules: what counts as garbage, and what lives for itself. Values in, claims out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size, span
from vmlab_tui.hosts.model import Power
from vmlab_tui.images.store import Image
from vmlab_tui.lab.leases import Lease
from vmlab_tui.lab.reach import Action
from vmlab_tui.lab.trash import Entry

GRACE = 600.0
"""Seconds within which a thing without an owner is one that is just being made."""
_ON = (Power.ON, Power.PAUSED, Power.SLEEPING, Power.STOPPING, Power.UNKNOWN)


@dataclass(frozen=True)
class ImageRule:
    """Images whose name begins with ``prefix``: all but the newest ``keep``, once ``older`` seconds old."""

    prefix: str
    keep: int
    older: float


@dataclass(frozen=True)
class Policy:
    """What a person's settings call garbage. Sizes in bytes, ages in seconds."""

    watch: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()
    images: tuple[ImageRule, ...] = ()
    templates: int = 20 << 30
    runs_keep: int = 200
    runs_older: float = 30 * 86400
    trash_older: float = 7 * 86400
    trash_size: int = 20 << 30


@dataclass(frozen=True)
class RunFact:
    """A run's directory. Times in seconds since 1970. ``problem``: why it cannot be read."""

    id: str
    live: bool = False
    over: bool = False
    made: float = 0.0
    updated: float = 0.0
    paused_until: float = 0.0
    """When its pause ends by itself: until then it can be taken up again also if its worker died. 0: none."""
    image: str = ""
    """The file that its plan stands on."""
    uuids: frozenset[str] = field(default=frozenset())
    """VMs that it owns or is about to make."""
    problem: str = ""


@dataclass(frozen=True)
class Claim:
    """What a rule says of a thing; see `reach.Thing`."""

    rule: str = ""
    why: str = ""
    root: str = ""
    action: Action = Action.TRASH
    since: float | None = None
    yields: bool = False


def seconds(text: str | None) -> float | None:
    """Seconds since 1970 of an ISO time; None for nothing or nonsense."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def ago(when: float | None, now: float) -> str:
    return f"{span(now - when)} ago" if when is not None else "at a time that is not known"


def of_vm(lease: Lease, power: Power | None, run: RunFact | None, now: float) -> Claim:
    """A VM under our lease. ``power`` None: it has no domain. ``run``: None where its directory is gone."""
    if run and run.live:
        return Claim(root=f"run {run.id} is at work on it")
    expires = seconds(lease.expires)
    if lease.expires and expires is None:
        return Claim(root=f"its lease has an expiry that makes no sense: {clean_line(lease.expires, 40)}")
    if expires is not None and expires > now:
        return Claim(root=f"its lease keeps it for another {span(expires - now)}", yields=True)
    if lease.keep and expires is None:
        return Claim(root="its lease keeps it for good", yields=True)
    if run and not run.problem and (waits := waits_for_worker(run, now)):
        return Claim(root=waits, yields=True)
    if power is None:
        claim = Claim("no-domain", "it has no domain any more, only files", since=expires)
    elif expires is not None:
        past = f"its lease ended {ago(expires, now)}"
        if power in _ON:
            return Claim("expired", f"{past} and it is {power.value}", action=Action.STOP, since=expires)
        claim = Claim("expired-off", f"{past} and it is off", since=expires)
    else:
        claim = Claim()
    made = seconds(lease.created) or now
    if run is None and claim.rule.startswith("expired"):
        return claim
    if run is None:
        # between a run's directory and its first event lies little time, but some
        if now - made < GRACE:
            return Claim(root=f"it was made only {span(now - made)} ago", yields=True)
        what = f"its run {clean_line(lease.run_id, 80)} is not there"
        return claim if claim.rule else Claim("dead-run", what, since=made)
    if run.problem:
        return Claim(root=f"its run {run.id} cannot be read: {run.problem}")
    if claim.rule:
        return Claim(claim.rule, claim.why, since=claim.since or run.updated)
    if not run.over:
        why = f"its run {run.id} was interrupted {ago(run.updated, now)} and nobody works on it"
        return Claim("dead-run", why, since=run.updated)
    return Claim("ended-run", f"its run {run.id} ended {ago(run.updated, now)}", since=run.updated)


def waits_for_worker(run: RunFact, now: float) -> str:
    """Why a run without a worker is not dead yet; empty if it is, has a worker, or is over."""
    if run.live or run.over:
        return ""
    if run.paused_until > now:
        return f"its run {run.id} is paused for another {span(run.paused_until - now)} and may be resumed"
    if now - run.updated < GRACE:
        return f"its run {run.id} was interrupted only {ago(run.updated, now)} and may be resumed"
    return ""


def of_images(images: Iterable[Image], policy: Policy, now: float) -> Mapping[str, Claim]:
    """Claims on images by name: those that a rule calls disposable, but for the newest of each."""
    claims: dict[str, Claim] = {}
    known = list(images)
    for rule in policy.images:
        fitting = sorted(
            (image for image in known if image.name.startswith(rule.prefix)),
            key=lambda image: (seconds(image.created) or now, image.name),
            reverse=True,
        )
        for image in fitting[rule.keep :]:
            made = seconds(image.created)
            if made is not None and now - made >= rule.older:
                why = (
                    f"the settings call images '{rule.prefix}*' disposable but for the newest {rule.keep}, "
                    f"and it was made {ago(made, now)}"
                )
                claims.setdefault(image.name, Claim("image", why, since=made))
    return claims


def of_runs(runs: Iterable[RunFact], policy: Policy, now: float) -> Mapping[str, Claim]:
    """Claims on run directories: ended ones that are neither among the newest nor young."""
    ended = sorted((run for run in runs if run.over and not run.live and not run.problem), key=_by_age)
    return {
        run.id: Claim(
            "run", f"it ended {ago(run.updated, now)}; the newest {policy.runs_keep} stay", since=run.updated
        )
        for run in ended[policy.runs_keep :]
        if now - run.updated >= policy.runs_older
    }


def _by_age(run: RunFact) -> tuple[float, str]:
    return -run.made, run.id


def of_templates(templates: Mapping[str, tuple[float, int]], policy: Policy) -> Mapping[str, Claim]:
    """Claims on templates, given (last used, bytes) by name: the longest unused beyond the budget."""
    total = sum(used for _, used in templates.values())
    claims: dict[str, Claim] = {}
    for name, (when, used) in sorted(templates.items(), key=lambda one: (one[1][0], one[0])):
        if total <= policy.templates:
            break
        total -= used
        why = f"templates take more than {size(policy.templates)}, and it was longest unused"
        claims[name] = Claim("template", why, since=when)
    return claims


def of_trash(entries: Iterable[Entry], policy: Policy, now: float) -> Mapping[str, Claim]:
    """Claims on what lies in the trash: too old, or the oldest beyond its size."""
    newest = sorted(entries, key=lambda entry: entry.id, reverse=True)
    claims: dict[str, Claim] = {}
    total = 0
    for entry in newest:
        total += entry.size
        when = seconds(entry.when)
        if when is not None and now - when >= policy.trash_older:
            claims[entry.id] = Claim("trash", f"it was moved there {ago(when, now)}", "", Action.EMPTY, when)
        elif total > policy.trash_size:
            why = f"the trash holds more than {size(policy.trash_size)}, and newer things come first"
            claims[entry.id] = Claim("trash", why, "", Action.EMPTY, when)
    return claims
