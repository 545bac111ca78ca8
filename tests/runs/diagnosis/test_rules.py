"""The rules on evidence that was recorded in real guests, and against each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.runs.diagnosis import bed
from tests.runs.diagnosis.faults import INSIDE
from vmlab_tui.hosts.model import Power
from vmlab_tui.runs.diagnosis.evidence import Evidence, Ssh, Step, Way
from vmlab_tui.runs.diagnosis.finding import Weight
from vmlab_tui.runs.diagnosis.rules import RULES, judge

MACHINE = {
    "cloud-init": "cloud-init",
    "out-of-memory": "out-of-memory",
    "ssh-key-refused": "ssh-key-refused",
    "guest-hung": "guest-hung",
    "kernel-panic": "kernel-panic",
    "qemu-killed": "qemu-killed",
}
"""What was recorded besides `faults.INSIDE`: the name, and the fault it is."""
FAULTS = {fault.name: fault.fault for fault in INSIDE} | MACHINE | {"healthy": ""}


def fault_of(evidence: Evidence) -> str:
    cause = judge(evidence).cause
    return cause.fault if cause else ""


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_by_what_was_recorded_of_it(name: str) -> None:
    assert fault_of(bed.load(name)) == FAULTS[name]


@pytest.mark.parametrize("name", FAULTS)
def test_only_the_named_one_explains_it_directly_but_for_its_consequences(name: str) -> None:
    """What a fault brings about may be told as well; nothing else."""
    follows = {
        "network-isolated": {"missing-package"},
        "clock": {"wrong-mirror"},
        "port-in-use": {"unit-failed"},
        "qemu-killed": {"kernel-panic"},
        "out-of-memory-group": set(),
    }
    also = {one.fault for one in judge(bed.load(name)).also if one.weight is not Weight.BESIDE}
    assert also <= follows.get(name, set())


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_with_the_guest_is_no_cause_of_an_assertion_that_failed_elsewhere(name: str) -> None:
    """The step came to an end and says nothing of it: only what spoils everything may be named then."""
    recorded = bed.load(name)
    other = replace(recorded, step=bed.load("exit-7").step)
    spoils = {"disk-full", "read-only", "out-of-memory"}
    assert fault_of(other) in ({FAULTS[name]} & spoils) | {""}


HALF = {"out-of-memory", "out-of-memory-group", "clock", "no-route", "port-in-use"}
"""What only words and state together tell."""
SPEAKING = [fault.name for fault in INSIDE if fault.fault and not fault.fault.startswith("disk-full")]
"""On a full disk not even what a step has printed is kept."""


@pytest.mark.parametrize("state", FAULTS)
@pytest.mark.parametrize("words", [name for name in SPEAKING if name not in HALF])
def test_what_the_step_says_goes_before_what_else_is_wrong(words: str, state: str) -> None:
    """The matrix: the words of one failure in the guest of another one."""
    said, there = bed.load(words), bed.load(state)
    assert said.step is not None
    mixed = replace(there, step=replace(said.step, status=1, ended=True), network=said.network)
    if (state == "clock" and words == "wrong-mirror") or (words == "no-dns" and not has_route(there)):
        return  # there the other one is the cause indeed
    assert fault_of(mixed) == FAULTS[words]


def has_route(evidence: Evidence) -> bool:
    """Whether the guest was seen, and has a way out."""
    return "routes" not in evidence.parts or "default" in evidence.part("routes")


def test_nothing_is_known_nothing_is_said() -> None:
    assert judge(Evidence("vm")).cause is None
    assert all(rule(Evidence("vm")) is None for rule in RULES)
    assert judge(Evidence("vm", step=Step(10, "x", "run", status=1, ended=True))).cause is None


def step(*lines: str, status: int | None = 1, text: str = "", user: str = "root", kind: str = "run") -> Step:
    return Step(10, "x", kind, status=status, ended=status is not None, lines=lines, text=text, user=user)


@pytest.mark.parametrize(
    "lines",
    [
        ("cat: /root/x: Permission denied", "now the real work", "assertion failed: 3 != 4", "1 failed"),
        ("sh: 3: frob: not found", "going on without frob", "built", "tests: 1 failed"),
        ("test_permission_denied ... ok", "test_address ... FAILED"),
        ("checking what is not found", "exit"),
        ("<html>404 Not Found</html>",),
        ("curl: (22) The requested URL returned error: 404",),
        ("Process 12 Killed the mood",),
        ("page 404 says: package locked",),
    ],
)
def test_words_alone_accuse_nobody(lines: tuple[str, ...]) -> None:
    healthy = bed.load("healthy")
    assert judge(replace(healthy, step=step(*lines))).cause is None


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("bash: line 3: frob: command not found",), "command-not-found"),
        (("/run/vmlab/s/script: 12: frob: not found",), "command-not-found"),
        (("env: 'node': No such file or directory",), "command-not-found"),
        (("cp: cannot create regular file '/etc/x': Permission denied",), "permission-denied"),
        (("PermissionError: [Errno 13] Permission denied: '/etc/x'",), "permission-denied"),
        (("E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)",
          "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?"),
         "permission-denied"),
        (("E: Package 'firefox' has no installation candidate",), "missing-package"),
        (("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)",
          "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process "
          "using it?"), "dpkg-lock"),
        (("dpkg: error: dpkg frontend lock was locked by another process with pid 1234",), "dpkg-lock"),
        (("Err:5 http://deb.debian.org/debian bookworm/main amd64 xrdp amd64 0.9.21",
          "  404  Not Found [IP: 151.101.2.132 80]",
          "E: Failed to fetch http://deb.debian.org/debian/pool/x.deb  404  Not Found [IP: 1.2.3.4 80]"),
         "wrong-mirror"),
        (("tar: x: Cannot write: No space left on device", "tar: Exiting with failure status"), "disk-full"),
        (("fatal: unable to access 'https://x.org/': Could not resolve host: x.org",), "no-dns"),
        (("ssh: connect to host 10.1.1.1 port 22: No route to host",), "no-route"),
        (("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",), "port-in-use"),
        (("Error: listen EADDRINUSE: address already in use :::3000",), "port-in-use"),
        (("cc1plus: out of memory allocating 65536 bytes", "fork: Cannot allocate memory"),
         "out-of-memory"),
        (("Failed to start xrdp.service: Unit xrdp.service not found.",), "unit-failed"),
        (("Job for nginx.service failed because the control process exited with error code.",
          'See "systemctl status nginx.service" and "journalctl -xeu nginx.service" for details.'),
         "unit-failed"),
        (("touch: cannot touch 'x': Read-only file system",), "read-only"),
    ],
)  # fmt: skip
def test_the_words_of_other_programs_and_distributions(lines: tuple[str, ...], fault: str) -> None:
    there = bed.load("healthy")
    routes = {"routes": "default via 10.0.2.2 dev eth0\n"}
    healthy = replace(there, network="user", parts={**there.parts, **routes})
    assert fault_of(replace(healthy, step=step(*lines, status=100))) == fault
    blind = Evidence("vm", step=step(*lines, status=100))
    assert fault_of(blind) == fault, "also when nothing of the guest is left to be seen"


def test_a_traced_command_is_not_its_own_message() -> None:
    """`set -x` prints what a script would say; the collector leaves such lines out, so rules see none."""
    assert not any(line.startswith("+ ") for name in FAULTS for line in (bed.load(name).step or step()).lines)


@pytest.mark.parametrize(
    ("reason", "fault"), [("shutdown", "vm-off"), ("destroyed", "vm-off"), ("crashed", "qemu-killed")]
)
def test_a_vm_that_is_off_is_the_cause_of_what_broke_off_only(reason: str, fault: str) -> None:
    off = Evidence("vm", power=Power.OFF, reason=reason)
    assert fault_of(off) == fault
    assert fault_of(replace(off, step=step(status=None))) == fault
    assert fault_of(replace(off, step=step("cp: x: Permission denied"))) == "permission-denied"
    assert fault_of(replace(off, step=step("1 of 3 failed"))) == ""
    assert fault_of(replace(off, step=step(status=None, kind="define"))) == "", "no guest had a part in it"


def test_a_signal_of_somebody_elses_is_not_libvirts_own() -> None:
    log = "2026-01-02 10:00:00.000+0000: starting up libvirt version: 9.0.0\n"
    ours = log + "2026-01-02T10:00:09Z qemu-system-x86_64: terminating on signal 15 from pid 9 (libvirtd)\n"
    other = log + "2026-01-02T10:00:09Z qemu-system-x86_64: terminating on signal 15 from pid 77 (bash)\n"
    assert fault_of(Evidence("vm", power=Power.OFF, reason="destroyed", qemu_log=ours)) == "vm-off"
    assert fault_of(Evidence("vm", power=Power.OFF, reason="shutdown", qemu_log=other)) == "qemu-killed"
    again = other + log
    assert fault_of(Evidence("vm", power=Power.OFF, reason="shutdown", qemu_log=again)) == "vm-off", (
        "an older start"
    )


def test_a_guest_that_is_busy_starting_does_not_hang() -> None:
    silent = replace(bed.load("guest-hung"), step=None)
    assert fault_of(silent) == "guest-hung"
    booting = "[    1.0] Linux version 6.1.0\n[    9.1] systemd[1]: Starting things\n"
    assert fault_of(replace(silent, console=booting, silent=30.0)) == ""
    assert fault_of(replace(silent, console=booting, silent=300.0)) == "guest-hung"
    assert fault_of(replace(silent, console=booting + "web login: ", silent=30.0)) == "guest-hung"
    assert fault_of(replace(silent, ssh=Ssh.UNTRIED)) == "", "nobody has asked it"
    assert fault_of(replace(silent, agent=True)) == "no-ssh-server"
    assert fault_of(replace(silent, power=Power.PAUSED, reason="user")) == "vm-paused"
    assert fault_of(replace(silent, power=Power.PAUSED, reason="I/O error")) == "vm-stopped"


def test_a_panic_that_is_over_is_told_beside() -> None:
    panicked = replace(bed.load("kernel-panic"), step=None)
    assert fault_of(panicked) == "kernel-panic"
    since = panicked.console + "\n[    0.0] Linux version 6.1.0\nweb login: "
    judged = judge(replace(panicked, console=since, way=Way.SSH, ssh=Ssh.IN))
    assert judged.cause is None
    assert [one.fault for one in judged.also] == ["kernel-panic"]


def test_a_failed_unit_explains_what_speaks_of_it() -> None:
    broken = bed.load("unit-failed")
    for words in ("service broken: it is failed", "curl: (7) Failed to connect to localhost port 80"):
        assert fault_of(replace(broken, step=step(words))) == "unit-failed"
    assert fault_of(replace(broken, step=None)) == "unit-failed", "of a VM without a run it is what is wrong"
    assert fault_of(replace(broken, step=step("2 of 3 failed"))) == ""


def test_read_only_by_design_is_no_cause() -> None:
    """Some systems mount / read-only: nothing but the kernel's word for an error makes it one."""
    recorded = bed.load("read-only")
    quiet = replace(recorded, step=step("2 of 3 failed"), parts={**recorded.parts, "dmesg": ""})
    assert fault_of(quiet) == ""
    assert fault_of(replace(quiet, step=None)) == "read-only"
