"""Faults that a Debian guest is really given, and how each is taken away again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """``seed`` and ``undo`` are run by root; ``step`` is the script that then fails, as ``user``.

    ``fault``: what it must be called, empty for none. ``says``: parts of the line that names the cause.
    """

    name: str
    fault: str
    step: str
    says: tuple[str, ...] = ()
    seed: str = ""
    undo: str = ""
    user: str = "root"
    network: str = "isolated"


# a web server would be more like it, and takes seconds to start in an emulated guest
_LISTEN = "import socket, time; s = socket.socket(); s.bind(('', 8080)); s.listen(); time.sleep(600)"
_EAT = "a = []\nwhile True: a.append(b'x' * (16 << 20))"
_REPO = """
mkdir -p /srv/repo /root/kept
mv /etc/apt/sources.list /etc/apt/sources.list.d/* /root/kept/ 2>/dev/null || true
echo 'deb {0}' >/etc/apt/sources.list
"""
_NO_REPO = "rm -rf /srv/repo /etc/apt/sources.list; mv /root/kept/*.list /etc/apt/ 2>/dev/null; true"
_RELEASE = """
cd /srv/repo; touch Packages
printf 'Date: %s\\nMD5Sum:\\n %s 0 Packages\\nSHA256:\\n %s 0 Packages\\n' "$(date -Ru)" \
 "$(md5sum <Packages | cut -c1-32)" "$(sha256sum <Packages | cut -c1-64)" >Release
"""

INSIDE: tuple[Fault, ...] = (
    Fault("assertion", "", "echo checking\ntest -e /srv/nowhere"),
    Fault("exit-7", "", "echo working; exit 7"),
    Fault(
        "command-not-found",
        "command-not-found",
        "echo begin\nfrobnicate --all",
        ("frobnicate",),
    ),
    Fault(
        "permission-denied",
        "permission-denied",
        "cat /etc/shadow",
        ("runs as lab", "/etc/shadow"),
        user="lab",
    ),
    Fault("missing-package", "missing-package", "apt-get install -y xrdpp", ("xrdpp",)),
    Fault(
        "network-isolated",
        "network-isolated",
        # name servers that do not answer are given up quickly; apt-get update itself ends with 0 then
        "export RES_OPTIONS='timeout:1 attempts:1'\napt-get update\napt-get install -y xrdpp",
        ("network is isolated",),
        seed=_REPO.format("http://deb.debian.org/debian bookworm main"),
        undo=_NO_REPO,
    ),
    Fault(
        "no-dns",
        "no-dns",
        "export RES_OPTIONS='timeout:1 attempts:1'\n"
        "python3 -c \"import socket; socket.create_connection(('deb.debian.org', 80))\"",
        ("no DNS",),
        seed="ip route add default via 10.0.2.2",
        undo="ip route del default",
        network="user",
    ),
    Fault(
        "no-route",
        "no-route",
        "python3 -c \"import socket; socket.create_connection(('192.0.2.1', 80))\"",
        ("no default route",),  # a network that lets nothing out tells of none
        network="user",
    ),
    Fault(
        "wrong-mirror",
        "wrong-mirror",
        "apt-get update",
        ("no such repository", "127.0.0.1:8001"),
        seed=_REPO.format("http://127.0.0.1:8001/debian bookworm main")
        + "systemd-run -q --unit=mirror -p WorkingDirectory=/srv/repo python3 -m http.server 8001\n"
        "for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q :8001 && break; sleep 0.5; done",
        undo="systemctl stop mirror; " + _NO_REPO,
    ),
    Fault(
        "dpkg-lock",
        "dpkg-lock",
        "apt-get install -y xrdpp",
        ("held by", "python3 (process"),
        seed='systemd-run -q --unit=holder python3 -c "import fcntl, time; '
        "f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "open('/run/held', 'w'); time.sleep(600)\"\n"
        "for i in 1 2 3 4 5 6 7 8 9; do [ -e /run/held ] && break; sleep 0.5; done",
        undo="systemctl stop holder; rm /run/held",
    ),
    Fault(
        "port-in-use",
        "port-in-use",
        f'python3 -c "{_LISTEN}"',
        ("port 8080", "python3 (process"),
        seed=f'systemd-run -q --unit=first python3 -c "{_LISTEN}"\n'
        "for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q :8080 && break; sleep 0.5; done",
        undo="systemctl stop first",
    ),
    Fault(
        "unit-failed",
        "unit-failed",
        "systemctl start broken",
        ("broken.service failed", "status 3"),
        seed="printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo no config; exit 3\"\\n' "
        ">/run/systemd/system/broken.service",  # systemd looks for a unit that it does not know yet
        undo="systemctl reset-failed broken; rm /run/systemd/system/broken.service",
    ),
    Fault(
        "clock",
        "clock",
        "apt-get update",
        ("clock is", "behind"),
        seed=_REPO.format("[trusted=yes] file:/srv/repo ./") + _RELEASE + "\ndate -s '2020-01-01'",
        undo="date -s @$(stat -c %Y /srv/repo/Release); " + _NO_REPO,
    ),
    Fault(
        "out-of-memory-group",
        "out-of-memory",
        f'systemd-run -q --wait --collect -p MemoryMax=48M -p MemorySwapMax=0 python3 -c "{_EAT}"',
        ("killed python3", "control group"),
    ),
    # the step itself does it: afterwards not even its script can be brought into the guest
    Fault(
        "disk-full",
        "disk-full",
        "fallocate -l $(($(stat -f -c '%f*%S' /))) /root/fill || true\n"
        "cat /dev/zero >/root/rest || true\n"
        "dd if=/dev/zero of=/root/more bs=64k count=4",
        ("/ has 0B free",),
        undo="rm -f /root/fill /root/rest /root/more",
    ),
    Fault(
        "read-only",
        "read-only",
        "echo u >/proc/sysrq-trigger\n"
        "for i in 1 2 3 4 5 6 7 8 9; do grep -q ' / ext4 ro' /proc/mounts && break; sleep 0.5; done\n"
        "echo hello >/root/hello",
        ("root file system is read-only",),
        undo="mount -o remount,rw /",
    ),
    # a later step of such a guest says nothing itself
    Fault(
        "disk-full-later",
        "disk-full",
        "true",
        ("/ has 0B free",),
        seed="fallocate -l $(($(stat -f -c '%f*%S' /))) /root/fill; cat /dev/zero >/root/rest; true",
        undo="rm -f /root/fill /root/rest",
    ),
)
