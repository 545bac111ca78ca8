"""The hostile corpus through the log view at a real terminal: only our own bytes come out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hostile import BYTES, log
from tests.support.ptyapp import PtyApp, assert_only_ours

APP = """
from pathlib import Path
from textual.app import App
from vmlab_tui.tui.logs.source import FileSource
from vmlab_tui.tui.widgets.logview import LogView

class Bed(App):
    BINDINGS = [("Q", "quit", "quit")]
    def compose(self):
        yield LogView()
    def on_mount(self):
        view = self.query_one(LogView)
        view.focus()
        view.show(FileSource(Path({path!r})))

Bed().run()
print("left by the key")
"""
DOWN, HOME, END, RIGHT = b"\x1b[6~", b"\x1b[H", b"\x1b[F", b"\x1b[C"


def test_only_our_own_bytes_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(log())
    with PtyApp(APP.format(path=str(path))) as app:
        app.until(b"\x1b[?1049h")
        app.settle()
        app.press(HOME, *[DOWN] * 8, RIGHT, RIGHT, b"w", HOME, *[DOWN] * 12, END)
        app.press(b"/", b"PAYLOAD", b"\r", b"n", b"n", b"\x1b", b"!", b"!")
        app.press(b"/", b"\x1b[200~\x1b]0;PAYLOAD\x07pasted\x1b[201~", b"\r")
        drawn = app.output
        assert b"[@click=app.quit]x[/]" in drawn  # it was on the screen, as text
        app.press(b"Q")
        assert app.status() == 0
    before, _, after = app.output.partition(b"left by the key")
    assert after
    assert_only_ours(before)


HARMLESS = (b"31mred", b"38;5;1m", b"1049l", b"9" * 500, b"1;2;3;4")
"""Of these our own are just like them: colours, and leaving the screen once."""


@pytest.mark.parametrize(
    "raw",
    [raw for raw in BYTES if (b"\x1b" in raw or b"\x9b" in raw) and not any(one in raw for one in HARMLESS)],
)
def test_the_judge_would_notice(raw: bytes) -> None:
    """The corpus itself, unclean, must not pass."""
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        assert_only_ours(b"\x1b[1;1H" + raw)
