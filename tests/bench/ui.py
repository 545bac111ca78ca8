"""The TUI: first frame, logs taken in, keys while logs run at full speed, a libvirtd that hangs.

Frames and keys are timed at a real terminal of 120x40: from the start of the process, or the writing of a
key, to the byte that completes the text waited for. The two runs are played: their journals and locks are
real, and a process each writes their step logs at some 20 MB/s.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import random
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure, show
from tests.bench.ui_log import take_in
from tests.runs.samples import plan
from tests.support.daemon import own_daemon
from vmlab_tui.journal.log import Journal
from vmlab_tui.runs.plan import write_plan

_BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("[1 Lab]")
Bare().run()
"""
_WRITER = """
import sys, time
line = b"2026-01-02 13:14:15 unpacking package number %d of many, and setting it up\\n"
count, begun = 0, time.monotonic()
with open(sys.argv[1], "ab", buffering=0) as log:
    while time.monotonic() - begun < float(sys.argv[2]):
        log.write(b"".join(line % number for number in range(count, count + 3000)))
        count += 3000
        time.sleep(max(0, begun + count * 72 / 20e6 - time.monotonic()))
"""


_VM = """
<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os></domain>
"""


class Screen:
    """A program at a terminal of 120x40; what it writes is looked at as it comes."""

    def __init__(self, argv: list[str], **env: str) -> None:
        self.begun = time.monotonic()
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ.update(env, TERM="xterm-256color", COLUMNS="120", LINES="40")
            os.execv(argv[0], argv)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.seen = b""

    def wait(self, wanted: bytes, seconds: float = 30) -> float:
        """When ``wanted`` had been written, by the monotonic clock."""
        limit = time.monotonic() + seconds
        while wanted not in self.seen:
            if not select.select([self.master], [], [], max(0.0, limit - time.monotonic()))[0]:
                raise TimeoutError(f"no {wanted!r} within {seconds} s; last: {self.seen[-3000:]!r}")
            self.seen += os.read(self.master, 1 << 16)
        return time.monotonic()

    def drain(self, seconds: float) -> None:
        """Read and forget for so long."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                os.read(self.master, 1 << 16)
        self.seen = b""

    def key(self, key: bytes, wanted: bytes, seconds: float = 30) -> float:
        """Milliseconds from pressing ``key`` to ``wanted`` on the screen."""
        self.seen = b""
        begun = time.monotonic()
        os.write(self.master, key)
        return (self.wait(wanted, seconds) - begun) * 1000

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.master)


@contextlib.contextmanager
def screen(*argv: str, **env: str) -> Iterator[Screen]:
    shown = Screen([sys.executable, *argv], **env)
    try:
        yield shown
    finally:
        shown.close()


def keys(shown: Screen, name: bytes, count: int, seconds: float = 1e9) -> list[float]:
    """Milliseconds from an arrow key to the moved cursor on the screen, to and from the row of ``name``."""
    times: list[float] = []
    limit = time.monotonic() + seconds
    while len(times) < count and time.monotonic() < limit:
        times.append(shown.key(b"\x1b[B" if len(times) % 2 else b"\x1b[A", name))
        shown.drain(0.05 + 0.1 * random.random())  # people do not type in time with anything
    return times


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else values[0]


def first_frame(env: dict[str, str]) -> tuple[float, float]:
    """Milliseconds to the first frame of vmlab and of an app that does nothing."""
    found = []
    for argv in (["-m", "vmlab_tui"], ["-c", _BARE]):
        with screen(*argv, **env) as shown:
            found.append((shown.wait(b"1 Lab") - shown.begun) * 1000)
            shown.drain(0.5)
    return found[0], found[1]


@contextlib.contextmanager
def two_runs(store: Path, seconds: float) -> Iterator[list[str]]:
    """Two live runs in the store whose first step writes its log all the time."""
    with contextlib.ExitStack() as stack:
        ids = []
        for number in (1, 2):
            one = plan(store).model_copy(update={"run_id": f"sample-20260102-13141{number}-7f3a"})
            folder = store / "runs" / one.run_id
            (folder / "steps").mkdir(parents=True)
            write_plan(folder, one)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            journal = stack.enter_context(Journal.append(folder / "journal.jsonl"))
            journal.write("run_created", run_id=one.run_id, profile="sample", plan_sha="0")
            journal.write("worker_started", pid=os.getpid(), boot_id="b", start_ticks=1, resumed=False)
            step = next(step for step in one.steps if step.index is not None)
            journal.write("step_started", number=step.number, attempt=1)
            log = folder / "steps" / step.log_name(1)
            writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(log), str(seconds)])
            stack.callback(writer.wait)
            stack.callback(writer.kill)
            ids.append(one.run_id)
        yield ids


def busy_keys(root: Path, count: int) -> list[float]:
    """Key to paint on a run's screen while it and another log at full speed."""
    env = {"VMLAB_STORE": str(root / "busy"), "LIBVIRT_DEFAULT_URI": "test:///default"}
    with two_runs(root / "busy", 300), screen("-m", "vmlab_tui", **env) as shown:
        shown.wait(b"1 Lab")
        shown.drain(3)
        shown.key(b"2", b"sample-2026")
        shown.drain(0.5)
        shown.key(b"\r", b"unpacking package")
        shown.drain(1)
        return keys(shown, b"install desktop", count)


def hung_host(root: Path) -> tuple[list[float], float, float]:
    """Key to paint while libvirtd stands still for 15 s; seconds until that shows, and until all is right."""
    with own_daemon() as daemon:
        for name in ("web-1", "web-2"):
            (root / "vm.xml").write_text(_VM.format(name=name))
            subprocess.run(["virsh", "-q", "-c", daemon.uri, "define", root / "vm.xml"], check=True)
        env = {"VMLAB_STORE": str(root / "hung"), "LIBVIRT_DEFAULT_URI": daemon.uri}
        with screen("-m", "vmlab_tui", **env) as shown:
            shown.wait(b"web-2", 30)
            os.write(shown.master, b"\x1b[F")
            shown.drain(1)
            daemon.signal(signal.SIGSTOP)
            begun = time.monotonic()
            said = shown.wait(b"busy", 15) - begun
            times = keys(shown, b"web-2", 1000, 15 - (time.monotonic() - begun))
            daemon.signal(signal.SIGCONT)
            begun = time.monotonic()
            shown.seen = b""
            right = shown.wait(b" ok", 30) - begun
    return times, said, right


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench ui", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the first frame (default 5)")
    parser.add_argument("--keys", type=int, default=200, help="keys pressed under load (default 200)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vmlab-bench-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        env = {"VMLAB_STORE": str(root / "empty"), "LIBVIRT_DEFAULT_URI": "test:///default"}
        first_frame(env)  # compiles what was never run
        frames = [first_frame(env) for _ in range(options.rounds)]
        logs = [take_in() for _ in range(3)]
        pressed = busy_keys(root, options.keys)
        hung, said, right = hung_host(root)
    bare = f"beside {statistics.median(one[1] for one in frames):.0f} ms of an empty Textual app"
    figures = [
        Figure("first frame", tuple(one[0] for one in frames), "ms", 400, bare),
        Figure("log lines taken in", tuple(one[0] / 1e6 for one in logs), "M/s", 1.0, at_least=True),
        Figure("loop lag meanwhile, maximum", tuple(one[1] * 1000 for one in logs), "ms", 50),
        Figure("key to paint, two runs logging, p99", (p99(pressed),), "ms", 50, f"{len(pressed)} keys"),
        Figure("key to paint, two runs logging, median", (statistics.median(pressed),), "ms"),
        Figure("key to paint, libvirtd stopped, p99", (p99(hung),), "ms", 50, f"{len(hung)} keys"),
        Figure("libvirtd stopped: shown as busy after", (said,), "s"),
        Figure("libvirtd goes on: shown as ok after", (right,), "s"),
    ]
    condition = f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, terminal 120x40"
    return show("ui", condition, figures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
