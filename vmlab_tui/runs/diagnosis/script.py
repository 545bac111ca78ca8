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

# cheap and telling ones first: what a slow guest does not get to is told as missing. Each process counts
# there: it takes 30 to 100 ms under emulation. Of processes only names and numbers go out, never their
# command lines as a whole: they may hold secrets
PARTS: dict[str, str] = {
    "time": "date +%s; show /proc/uptime",
    "mounts": "show /proc/mounts",
    "memory": "show /proc/meminfo 8",
    "resolver": "show /etc/resolv.conf",
    "cloud-init": "for of in result status; do echo $of; show /run/cloud-init/$of.json; done",
    "locks": """
(cd /var && stat -c 'file %i /var/%n' lib/dpkg/lock-frontend lib/dpkg/lock lib/apt/lists/lock \\
  cache/apt/archives/lock)
while read -r number kind how mode pid rest; do
  [ "$mode" != WRITE ] || echo "lock $rest $pid $(show /proc/$pid/comm)"
done </proc/locks""",
    "df": "df -Pkl; df -Pil",
    "dmesg": "dmesg -l emerg,alert,crit,err,warn || dmesg | tail -n 150",
    "units": r"""
systemctl list-units --state=failed,auto-restart --plain --no-legend --no-pager | while read -r unit rest; do
  case $unit in vmlab-*) continue;; esac
  n=$((n + 1)); [ $n -le 4 ] || break
  echo "unit $unit"
  systemctl show -p Result -p ExecMainStatus "$unit"
  systemctl show -p ExecStart --value "$unit" | grep -oE '\b[0-9]{2,5}\b' | sed 's/^/number /'
  journalctl -u "$unit" -b -n 8 -q --no-pager -o cat | sed 's/^/| /'
done""",
    "listeners": "ss -Hltunp",
    "routes": "ip route",
    "cloud-init-log": "tail -n 40 /var/log/cloud-init-output.log",
    "apt": """
cd /var/lib/apt/lists || exit 0
set -- *_Packages*; [ -e "$1" ] || shift
echo "lists $#"
grep -rhE '^(deb|URIs|Suites)' /etc/apt/sources.list /etc/apt/sources.list.d | sed 's,//[^/ ]*@,//,'""",
    "journal": "journalctl -b -p err -n 25 -q --no-pager -o short-iso",
}
"""What is looked at, by name: a script for /bin/sh each."""

LOGINS = """
home=$(getent passwd @USER@ | cut -d: -f6)
echo "user @USER@ $home"
[ -z "$home" ] || ls -ldn "$home" "$home/.ssh" "$home/.ssh/authorized_keys"
systemctl is-active ssh.service sshd.service
journalctl -u ssh -u sshd -b -n 6 -q --no-pager -o cat | sed 's/^/| /'"""
"""One more where SSH lets nobody in: the part ``logins``."""

_QUICK = frozenset({"time", "mounts", "memory", "resolver", "cloud-init", "locks"})
"""They read what the kernel or a memory disk has at hand: no process and no time limit of their own."""


def script(key: str, login: str = "", seconds: float = PART_SECONDS) -> str:
    """All parts, each between marks that carry ``key``, and given ``seconds``.

    ``login``: whom SSH should let in, and does not.
    """
    parts = dict(PARTS)
    if login:
        parts["logins"] = LOGINS.replace("@USER@", login)
    lines = [
        f"{'quick' if name in _QUICK else 'part'} {name} {shlex.quote(text.strip())}\n"
        for name, text in parts.items()
    ]
    return _HEAD.replace("@KEY@", key).replace("@SECONDS@", f"{max(1, seconds):.0f}") + "".join(lines)


# without the program `timeout` parts run unbounded
_HEAD = """\
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
show() {
  [ ! -r "$1" ] || while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\\n' "$line"
    [ -z "$2" ] || set -- "$1" $(($2 - 1)); [ "$2" != 0 ] || break
  done <"$1"
}
quick() {
  echo "@KEY@ begin $1"; eval "$2" 2>/dev/null; echo; echo "@KEY@ end 0"
}
limit=
! command -v timeout >/dev/null || limit='timeout -s KILL @SECONDS@'
part() {
  echo "@KEY@ begin $1"
  $limit /bin/sh -c "$2" </dev/null 2>&1; status=$?
  echo; echo "@KEY@ end $status"
}
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
