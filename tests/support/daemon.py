"""A libvirtd of one's own: nobody else's domains, and it may be stopped, killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


class Daemon:
    """An unprivileged libvirtd with its socket, configuration and state below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process: subprocess.Popen[bytes] | None = None
        self.uid = NOBODY if os.geteuid() == 0 else os.geteuid()

    @property
    def socket(self) -> Path:
        return self.root / "run/libvirt/libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///session?socket={self.socket}"

    def start(self) -> None:
        """Start it and wait for its socket."""
        self.socket.unlink(missing_ok=True)
        env = {
            **os.environ,
            "HOME": str(self.root),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "XDG_DATA_HOME": str(self.root / "data"),
        }
        more = {"user": self.uid, "group": self.uid, "extra_groups": ()} if os.geteuid() == 0 else {}
        self.process = subprocess.Popen(
            ["/usr/sbin/libvirtd"], env=env, cwd=self.root, stderr=subprocess.DEVNULL, **more
        )  # type: ignore[call-overload]
        for _ in range(400):
            if self.socket.exists():
                return
            time.sleep(0.05)
        raise RuntimeError("a libvirtd of our own does not start")

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            self.process = None


@contextlib.contextmanager
def own_daemon() -> Iterator[Daemon]:
    """A running one; its folder is readable to the user it runs as and goes away afterwards."""
    # a socket's path has room for some hundred characters, pytest's folders are longer and closed
    root = Path(tempfile.mkdtemp(prefix="vmlab-daemon-", dir="/var/tmp"))
    daemon = Daemon(root)
    try:
        for folder in (root, root / "run", root / "config", root / "cache", root / "data", root / "disks"):
            folder.mkdir(mode=0o755, exist_ok=True)
            folder.chmod(0o755)
            os.chown(folder, daemon.uid, daemon.uid if os.geteuid() == 0 else -1)
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(root)
