"""The one script that looks at a guest: it changes nothing there, and no part of it may take long."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from vmlab_tui.base.text import clean

PART_SECONDS = 3
"""How long one part may take in the guest. A file system that hangs takes its part, not the rest."""
_LIMIT = 64 << 10
"""Bytes of one part that are kept."""

# cheap and telling ones first: what a slow guest does not get to is told as missing. Only names of processes
# and numbers in command lines go out, never the lines themselves: they may hold secrets
PARTS: dict[str, str] = {
    "time": "date +%s; cat /proc/uptime",
    "mounts": "cat /proc/mounts",
    "df": "df -Pkl",
    "inodes": "df -Pil",
    "memory": "cat /proc/meminfo | head -n 8",
    "dmesg": "dmesg | tail -n 150",
    "units": r"""
command -v systemctl >/dev/null || exit 0
systemctl list-units --state=failed,auto-restart --plain --no-legend --no-pager | grep -v '^vmlab-' |
head -n 4 | while read -r unit rest; do
  echo "unit $unit"
  systemctl show -p Result -p ExecMainStatus -p SubState "$unit"
  systemctl show -p ExecStart --value "$unit" | grep -oE '\b[0-9]{2,5}\b' | sed 's/^/number /'
  journalctl -u "$unit" -b -n 8 -q --no-pager -o cat | sed 's/^/| /'
done""",
    "listeners": "ss -Hltunp",
    "network": "ip -br addr; ip route",
    "resolver": "cat /etc/resolv.conf",
    "processes": "ps -eo pid=,etimes=,comm=",
    "locks": """
for file in lib/dpkg/lock-frontend lib/dpkg/lock lib/apt/lists/lock cache/apt/archives/lock
do stat -c 'file %i %n' /var/$file 2>/dev/null; done
cat /proc/locks""",
    "cloud-init": """
cd /run/cloud-init 2>/dev/null || exit 0
echo result; cat result.json; echo; echo status; cat status.json""",
    "apt": """
[ -d /var/lib/dpkg ] || exit 0
echo "interrupted $(ls /var/lib/dpkg/updates | wc -l)"
echo "lists $(ls /var/lib/apt/lists | grep -c _Packages)"
cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
grep -E '^(deb|URIs|Suites)' | sed 's,//[^/ ]*@,//,'""",
    "journal": """
command -v journalctl >/dev/null || exit 0
journalctl -b -p err -n 25 -q --no-pager -o short-iso""",
    "cloud-init-log": """
tail -n 25 /var/log/cloud-init-output.log 2>/dev/null
grep -aE 'ERROR|Traceback|failed' /var/log/cloud-init.log 2>/dev/null | tail -n 8; true""",
    "logins": """
home=$(getent passwd @USER@ | cut -d: -f6)
echo "user @USER@ $home"
[ -z "$home" ] || ls -ldn "$home" "$home/.ssh" "$home/.ssh/authorized_keys" 2>&1
command -v systemctl >/dev/null || exit 0
systemctl is-active ssh.service sshd.service | head -n 1
journalctl -u ssh -u sshd -b -n 6 -q --no-pager -o cat | sed 's/^/| /'""",
}
"""What is looked at, by name: a script for /bin/sh each."""


def script(key: str, user: str) -> str:
    """All parts, each between marks that carry ``key``. ``user``: who logs in by SSH."""
    parts = [
        f"part {name} {shlex.quote(text.strip().replace('@USER@', user))}\n" for name, text in PARTS.items()
    ]
    return _HEAD.replace("@KEY@", key) + "".join(parts)


# each part is a shell of its own under `timeout`; without that program parts run unbounded
_HEAD = f"""\
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
limit=
if timeout -s KILL 5 true 2>/dev/null; then limit='timeout -s KILL {PART_SECONDS}'; fi
part() {{
  echo "@KEY@ begin $1"
  $limit /bin/sh -c "$2" 2>&1 </dev/null; status=$?
  echo; echo "@KEY@ end $status"
}}
"""


@dataclass(frozen=True)
class Told:
    """``raw``: each part as it came. ``late``: the parts that were cut off."""

    raw: dict[str, bytes]
    late: tuple[str, ...]

    def texts(self) -> dict[str, str]:
        return {name: clean(raw) for name, raw in self.raw.items()}


def parse(output: bytes, key: str) -> Told:
    """Take the output of :func:`script` apart, also when it breaks off."""
    raw: dict[str, bytes] = {}
    late: list[str] = []
    mark = re.compile(rb"^%b (?:begin ([a-z-]+)|end (\d+))$" % key.encode(), re.M)
    open_, start = "", 0
    for found in mark.finditer(output):
        if found[1] is not None:
            open_, start = found[1].decode(), found.end() + 1
        elif open_:
            raw[open_] = output[start : max(start, found.start() - 1)][-_LIMIT:]
            if int(found[2]) == 137:
                late.append(open_)
            open_ = ""
    if open_:
        raw[open_] = output[start:][-_LIMIT:]
        late.append(open_)
    return Told(raw, tuple(late))
