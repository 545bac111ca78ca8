"""Rules on the network and on packages: what apt, dpkg, curl and friends say."""

from __future__ import annotations

import re

from vmlab_tui.runs.diagnosis.evidence import Evidence
from vmlab_tui.runs.diagnosis.finding import Finding, Weight, lines_of, now, said

_NO_NAME = re.compile(
    r"Temporary failure resolving|Temporary failure in name resolution|Could not resolve (?:host|')|"
    r"Name or service not known|bad address '|Name does not resolve|getaddrinfo \w*EAI_AGAIN|"
    r"server can't find|no servers could be reached|lookup \S+: .*(?:no such host|i/o timeout)"
)
_NO_ROUTE = re.compile(
    r"Network is unreachable|No route to host|Network unreachable|ENETUNREACH|EHOSTUNREACH|"
    r"Could not connect to \S+ .*timed out|Unable to connect to \S+:|Connection timed out"
)
_HOST = re.compile(r"(?:resolving|host:?|resolve) '?([A-Za-z0-9.-]+\.[a-z]{2,})")
_MIRROR = re.compile(
    r"(?:^(?:Err:|E: |W: |Error: | +)|Failed to fetch ).*404 +(?:File )?[Nn]ot [Ff]ound"
    r"|does not (?:have a|contain a) Release file|Release file .* is expired|no longer has a Release file"
    r"|is not signed\.|File has unexpected size|Hash Sum mismatch"
)
_URL = re.compile(r"https?://[^\s'\")]+")
_LOCKED = re.compile(
    r"Could not get lock (?P<file>/\S+?)\.? (?:.*held by process (?P<pid>\d+)(?: \((?P<who>[^)]*)\))?)?"
    r"|Unable to (?:lock directory|acquire the dpkg frontend lock)"
    r"|frontend lock was locked by another process(?: with pid (?P<pid2>\d+))?"
    r"|dpkg status database is locked by another process"
)
_NOT_ROOT = re.compile(r"Permission denied|are you root\?")
_MISSING = re.compile(
    r"E: Unable to locate package (?P<a>\S+)|E: Package '(?P<b>[^']+)' has no installation candidate"
    r"|E: Version '[^']*' for '(?P<c>[^']+)' was not found|E: Couldn't find any package by \w+ '(?P<d>[^']+)'"
    r"|No match for argument: (?P<e>\S+)|ERROR: No matching distribution found for (?P<f>\S+)"
)


def network(e: Evidence) -> Finding | None:
    """No way out of the guest, or nobody to resolve names."""
    names, routes = said(e, _NO_NAME), said(e, _NO_ROUTE)
    words = [*names, *routes]
    if not words:
        return None
    lines = lines_of(words)
    found = next((host for line in lines if (host := _HOST.search(line))), None)
    wanted = f" (it wanted {found[1]})" if found else ""
    if e.network == "isolated":
        return Finding.of(
            "network-isolated",
            f"the VM's network is isolated: there is no way out of it{wanted}",
            lines,
            [
                "give it one in the profile: vm: {network: user}; then run again",
                "or bring the files in with a copy step",
            ],
            weight=Weight.SAID,
        )
    resolver = [line for line in e.lines("resolver") if line.startswith("nameserver")]
    default = [line for line in e.lines("routes") if line.startswith("default ")]
    if e.answers and "routes" in e.parts and not default and "routes" not in e.late:
        return Finding.of(
            "no-route",
            f"no route out: the guest has no default route{wanted}",
            [*lines, *e.lines("routes")],
            ["in the guest: ip route; networkctl; see the interface's configuration"],
            weight=Weight.SAID,
        )
    if names:
        nobody = e.answers and "resolver" in e.parts and not resolver
        return Finding.of(
            "no-dns",
            "no DNS: "
            + ("no name server is set up in the guest" if nobody else f"names are not resolved{wanted}"),
            [*lines, *(f"resolv.conf: {line}" for line in resolver), *default],
            ["in the guest: cat /etc/resolv.conf; resolvectl status"],
            weight=Weight.SAID,
        )
    return Finding.of(
        "no-route",
        f"the network cannot be reached from the guest{wanted}",
        [*lines, *default],
        ["in the guest: ip route; and whether this machine itself gets there"],
        weight=Weight.SAID,
    )


def wrong_mirror(e: Evidence) -> Finding | None:
    """The package source answers, but does not have what it should."""
    found = said(e, _MIRROR)
    if not found:
        return None
    line = found[-1].string
    url = next((url for one in reversed(found) if (url := _URL.search(one.string))), None)
    where = f": {url[0]}" if url else ""
    what = "the package source does not have that"
    if "Release file" in line:
        what = (
            "the package source is out of date"
            if "expired" in line
            else "the package source is no such repository"
        )
    elif "404" in line and e.part("apt"):
        what = "the package source does not have that (any more): wrong mirror, or old package lists"
    sources = [f"source: {one}" for one in e.lines("apt") if one.startswith(("deb", "URIs", "Suites"))]
    return Finding.of(
        "wrong-mirror",
        what + where,
        [*lines_of(found), *sources[:3]],
        ["in the guest: see /etc/apt/sources.list*; apt-get update before installing"],
        weight=Weight.SAID,
    )


def _holders(e: Evidence) -> list[tuple[str, str]]:
    """(lock file, who holds it) for the locks of dpkg and apt."""
    files = dict(re.findall(r"^file (\d+) (\S+)$", e.part("locks"), re.M))
    held = []
    for line in e.lines("locks"):
        found = re.match(r"lock \S+:(\d+) \S+ \S+ (-?\d+) ?(.*)$", line)
        if found and found[1] in files:
            held.append((files[found[1]], f"{found[3] or 'a process'} (process {found[2]})"))
    return held


def dpkg_lock(e: Evidence) -> Finding | None:
    """Another package manager is at work."""
    words = [found for found in said(e, _LOCKED) if not _NOT_ROOT.search(found.string)]
    held = _holders(e)
    if not words and not held:
        return None
    told = next((found for found in reversed(words) if found["pid"] or found["pid2"]), None)
    who = ""
    if told:
        pid = told["pid"] or told["pid2"]
        who = f"{told['who'] or 'a process'} (process {pid})"
    if held and (not who or who.startswith("a process")):
        who = held[0][1]
    now_ = "" if held or not e.answers else "; it is free now"
    return Finding.of(
        "dpkg-lock",
        f"the package lock is held{' by ' + who if who else ''}{now_}",
        [*lines_of(words), *(f"{file}: {holder}" for file, holder in held)],
        [
            "wait for it in the script: apt-get -o DPkg::Lock::Timeout=120 ...",
            "or stop what updates by itself: systemctl disable --now apt-daily.timer apt-daily-upgrade.timer",
        ],
        # a step that installs packages holds it itself
        weight=Weight.SAID if words else Weight.BESIDE if e.step else now(e),
    )


def missing_package(e: Evidence) -> Finding | None:
    """The package source has no such package."""
    found = said(e, _MISSING)
    if not found:
        return None
    names = dict.fromkeys(name for one in found for name in one.groups() if name)
    lists = re.search(r"^lists (\d+)$", e.part("apt"), re.M)
    none = lists is not None and lists[1] == "0"
    why = lines_of(found)
    if none:
        why.append("/var/lib/apt/lists holds no package list")
    return Finding.of(
        "missing-package",
        f"no such package: {', '.join(names)}" + ("; the guest has no package lists at all" if none else ""),
        why,
        [
            "apt-get update before installing"
            if none
            else "look for its right name: apt-cache search; or another source"
        ],
        weight=Weight.SAID,
    )
