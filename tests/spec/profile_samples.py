"""What the tests of profiles start from: all that there can be, as little as there can be, and a bad one."""

from __future__ import annotations

from typing import Any

from vmlab_tui.base.paths import shipped

SHIPPED = sorted(shipped().glob("*/profile.yaml"))

EVERYTHING: dict[str, Any] = {
    "schema": 1,
    "name": "all-of-it",
    "description": "Every field there is",
    "image": "debian-12",
    "vm": {
        "cpus": 4,
        "memory": "2GiB",
        "disk": 9000000000,
        "accel": "tcg",
        "network": "default",
        "firmware": "uefi",
    },
    "ports": {"web": 8080, "db": 5432},
    "env": {"GREETING": "hello", "COUNT": 3, "RATIO": 1.5, "DEBUG": True},
    "required": ["USER_ID", "TOKEN"],
    "secret": ["TOKEN"],
    "cloud_init": {"packages": ["nginx"], "write_files": [{"path": "/x", "content": "text"}], "locale": None},
    "boot_timeout": "5m",
    "steps": [
        {"copy": {"from": "./site", "to": "/srv"}, "name": "files", "component": "web", "timeout": 90},
        {
            "copy": {
                "from": "site/a.txt",
                "to": "/srv/a",
                "exclude": ["*.log"],
                "delete": True,
                "owner": "lab:lab",
            }
        },
        {"run": "set -e\n# comment\necho hi\n", "user": "lab", "env": {"A": "b"}, "timeout": "2m 30s"},
        {"run": {"file": "x.sh"}, "component": "web"},
        {"reboot": True, "timeout": "5m"},
        {"wait": "5s"},
        {"wait": 1.5},
        {"wait": {"seconds": 3}},
        {"wait": {"port": 8080}},
        {"wait": {"command": "test -e /x"}, "timeout": "1h"},
        {"wait": {"service": "web"}},
    ],
    "checks": [
        {"service": "web", "within": "30s"},
        {"service": {"name": "web.service", "active": False, "enabled": None}},
        {"port": 8080, "name": "the port", "component": "web"},
        {"port": {"port": 53, "protocol": "udp"}},
        {"command": "true"},
        {"command": "echo a", "expect": "a", "user": "lab", "timeout": "10s"},
        {"command": "echo a", "expect": {"regex": "^a", "status": 0, "contains": "a"}},
        {"file": "/etc/passwd"},
        {
            "file": {
                "path": "/etc/passwd",
                "type": "file",
                "contains": "root",
                "mode": "0644",
                "owner": "root",
                "group": "root",
                "absent": False,
            }
        },
        {"package": "curl"},
        {"package": {"name": "curl", "version": "7."}},
        {"user": "lab"},
        {"user": {"name": "lab", "groups": ["sudo"], "shell": "/bin/sh", "home": "/home/lab", "sudo": True}},
    ],
    "artifacts": ["/var/log/*.log"],
    "on_pass": "keep",
    "on_fail": "pause",
    "ttl": "2h",
    "max_duration": "3h",
    "pause_limit": "30m",
    "allow_outside": False,
}

BAD = """\
schema: 1
name: x
image: debian-12
vm: {cpu: 2, memory: 1GX, accel: kvn, cpus: 0}
ports: {ssh: 22}
env: {A: on, TOKEN: x}
secret: [TOKEN]
cloud_init: {users: []}
steps:
  - cpoy: {from: ./site, to: /srv/site}
  - copy: {from: ../secret.txt, to: /srv}
  - run: 'true'
    timout: 2m
  - wait: {prot: 80}
checks:
  - {port: '80', within: soon}
  - {command: x, expect: {regex: '('}}
on_fail: pasue
name: y
stepps: []
"""


def minimal(**more: Any) -> dict[str, Any]:
    return {"schema": 1, "name": "x", "image": "debian-12", **more}
