"""What is going on while somebody waits."""

from __future__ import annotations

import asyncio
import io

from vmlab_tui.cli.status import Status
from vmlab_tui.cli.style import Style


def test_where_lines_stay_a_phase_says_its_first_line_and_then_one_every_ten_seconds() -> None:
    out, now = io.StringIO(), [0.0]
    status = Status(Style(out, live=False, colour=False), clock=lambda: now[0])
    for second, line in enumerate(
        ["packages: a", "packages: b", *["packages: c"] * 9, "packages: d", "disk"]
    ):
        now[0] = float(second)
        status.show(f"image x: {line}")
    status.close()
    assert out.getvalue().splitlines() == [
        "   0.0s image x: packages: a",
        "  10.0s image x: packages: c",
        "  12.0s image x: disk",
    ]


async def test_a_terminal_keeps_one_line_a_phase() -> None:
    out = io.StringIO()
    status = Status(Style(out, live=True, colour=False), clock=lambda: 5.0)
    status.show("image x: packages: a")
    await asyncio.sleep(0.01)
    status.show("image x: packages: b")
    await asyncio.sleep(0.15)
    status.show("image x: disk: writing")
    await asyncio.sleep(0.01)
    status.close()
    shown = out.getvalue()
    assert "packages: a" in shown
    assert "packages: b" in shown
    stays = [row.rpartition("\r\x1b[K")[2] for row in shown.split("\n")]
    assert stays == ["   0.0s image x: packages", "   0.0s image x: disk", ""]
