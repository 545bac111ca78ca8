"""vmlab in a tmux of its own: what a person does, key by key, and what they see."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Tmux:
    """A private tmux server with one window of ``columns`` x ``rows`` that runs ``words``."""

    def __init__(self, words: list[str], columns: int = 80, rows: int = 24) -> None:
        self._folder = tempfile.mkdtemp(prefix="vmlab-tmux-")
        self._base = ["tmux", "-f", "/dev/null", "-S", f"{self._folder}/socket"]
        # the window stays when the program has ended, so that its last words can be read
        quoted = " ".join(f"'{word}'" for word in words)
        line = f"{quoted}; printf 'exit %s.\\n' $?; exec sleep 1000"
        size = ["-x", str(columns), "-y", str(rows)]
        self._tmux("new-session", "-d", *size, "sh", "-c", line)

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._base, "kill-server"], capture_output=True, check=False)
        for path in Path(self._folder).iterdir():
            path.unlink()
        Path(self._folder).rmdir()

    def _tmux(self, *words: str) -> str:
        env = {**os.environ, "TERM": "xterm-256color"}
        return subprocess.run(
            [*self._base, *words], capture_output=True, text=True, check=True, env=env
        ).stdout

    def screen(self) -> str:
        """What is on the screen now."""
        return self._tmux("capture-pane", "-p")

    def resize(self, columns: int, rows: int) -> None:
        """Make the terminal larger or smaller."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def keys(self, *keys: str) -> None:
        """Press keys by tmux's names (``Enter``, ``Escape``, ``C-s``); other words are typed."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.15)

    def sees(self, wanted: str, seconds: float = 30) -> str:
        """Wait until ``wanted`` is on the screen; returns the screen."""
        limit = time.monotonic() + seconds
        while wanted not in (shown := self.screen()):
            assert time.monotonic() < limit, f"no {wanted!r} on the screen:\n{shown}"
            time.sleep(0.1)
        return shown

    def press(self, key: str, wanted: str, seconds: float = 30) -> str:
        """Press a key and wait for what it brings."""
        self.keys(key)
        return self.sees(wanted, seconds)


def vmlab(columns: int = 80, rows: int = 24) -> Tmux:
    """vmlab as a person starts it."""
    return Tmux([sys.executable, "-m", "vmlab_tui"], columns, rows)
