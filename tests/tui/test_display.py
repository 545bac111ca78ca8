"""A VM's screen in the terminal: libvirt's test driver has one; the pictures of a boot lie in the run."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import sys
import termios
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.conftest import lines, opened, opened_run, text, until
from tests.tui.run_samples import MadeRun
from tests.tui.world import domain
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.picture import Picture, decode, png
from vmlab_tui.hosts.host import Host
from vmlab_tui.tui import graphics, looking
from vmlab_tui.tui.screens import display
from vmlab_tui.tui.screens.display import DisplayScreen
from vmlab_tui.tui.widgets.picture import PictureView, cells

UUID = "0d0d0d0d-1111-4222-8333-000000000000"


def plain(red: int, green: int = 0, blue: int = 0, size: tuple[int, int] = (64, 40)) -> Picture:
    return Picture(*size, bytes((red, green, blue)) * size[0] * size[1])


def colours(pilot: Pilot[None]) -> set[tuple[str, str]]:
    """Those that the picture is made of."""
    view = pilot.app.screen.query_one(PictureView)
    strips = [view.render_line(y) for y in range(view.size.height)]
    return {
        (segment.style.color.get_truecolor().hex, segment.style.bgcolor.get_truecolor().hex)
        for strip in strips
        for segment in strip
        if "▀" in segment.text and segment.style and segment.style.color and segment.style.bgcolor
    }


def test_half_blocks_show_two_pixels_and_letters_how_bright_they_are() -> None:
    picture = Picture(3, 3, bytes([255, 0, 0] * 3 + [0, 0, 255] * 3 + [255] * 9))
    first, last = cells(picture)
    ((text_, style, _),) = first
    assert (text_, first.cell_length) == ("▀▀▀", 3)
    assert style and style.color and style.bgcolor
    assert (style.color.triplet, style.bgcolor.triplet) == ((255, 0, 0), (0, 0, 255))
    assert [strip.text for strip in cells(picture, colour=False)] == [":::", "+++"]
    assert "".join(strip.text for strip in cells(plain(255, 255, 255), colour=False)).strip("@") == ""
    assert "".join(strip.text for strip in cells(plain(0), colour=False)).strip() == ""
    assert last.cell_length == 3


async def test_the_screen_of_a_vm_is_shown_anew_and_says_why_when_there_is_none(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows: list[Picture | LabError] = [plain(255, size=(1024, 768))]

    async def screenshot(self: Host, uuid: str, *, timeout: float = 10) -> Picture:
        if isinstance(shows[0], LabError):
            raise shows[0]
        return shows[0]

    monkeypatch.setattr(Host, "screenshot", screenshot)
    monkeypatch.setattr(looking, "EVERY", 0.1)
    monkeypatch.setattr(looking, "_AGAIN", 0.1)
    monkeypatch.setattr(display, "_LATE", 0.5)
    monkeypatch.chdir(lab_dir.parent)
    async with opened() as (app, pilot):
        await pilot.press("end", "V")
        await until(pilot, lambda: colours(pilot) == {("#ff0000", "#ff0000")})
        assert isinstance(app.screen, DisplayScreen)
        # on a busy machine it may be "1 s old" at this very moment
        await until(pilot, lambda: lines(app)[0].split() == ["Screen", "of", "test", "1024x768", "live"])
        assert "esc back" in lines(app)[-1]
        assert "boot pictures" not in lines(app)[-1]
        shows[0] = plain(0, 255)
        await until(pilot, lambda: colours(pilot) == {("#00ff00", "#00ff00")})
        shows[0] = LabError("libvirt is busy", hint="it is tried again")
        await until(pilot, lambda: "libvirt is busy. it is tried again" in text(app))
        assert colours(pilot) == {("#00ff00", "#00ff00")}, "the last one stays"
        await until(pilot, lambda: "s old" in lines(app)[0])
        shows[0] = plain(0, 0, 255)
        await until(pilot, lambda: colours(pilot) == {("#0000ff", "#0000ff")} and "live" in lines(app)[0])
        assert "busy" not in text(app)
        await pilot.press("question_mark")
        await until(pilot, lambda: "Save the picture that is shown" in text(app))
        await pilot.press("escape")
        target = lab_dir.parent / "saved.png"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Save screen of" in text(app))
        await pilot.press("ctrl+u", *target.name, "enter")
        await until(pilot, lambda: target.exists() and "saved in" in text(app))
        assert decode(target.read_bytes()) == shows[0]
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, DisplayScreen))


async def test_a_real_driver_gives_a_picture_and_a_vm_that_is_off_none(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node = tmp_path / "node.xml"
    both = domain(UUID, "runs") + domain(UUID.replace("d", "e"), "stands", state=5)
    node.write_text(f"<node><cpu><mhz>1</mhz></cpu>{both}</node>")
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", f"test://{node}")
    async with opened((120, 40)) as (app, pilot):
        await pilot.press("end", "V")
        await until(pilot, lambda: "VM stands is off" in text(app) and "vmlab start stands" in text(app))
        await pilot.press("escape", "up", "V")
        await until(pilot, lambda: colours(pilot) and "Screen of runs" in lines(app)[0])


async def test_the_pictures_of_a_boot_are_gone_through_step_by_step(made: MadeRun) -> None:
    made.steps(1, 6)
    screens = made.folder / "screens"
    screens.mkdir()
    for number, red in enumerate((60, 120, 180)):
        (screens / f"20260102-10300{number}-250.png").write_bytes(png(plain(red)))
    (screens / "20260102-103009-000.png").write_bytes(b"torn")
    async with opened() as (app, pilot):
        await opened_run(pilot, made.id)
        await pilot.press("V")
        # its VM is not there: the newest picture is what there is
        await until(pilot, lambda: "no picture" in text(app))
        (screens / "20260102-103009-000.png").unlink()
        await pilot.press("left")
        await until(pilot, lambda: "boot picture 3 of 3" in lines(app)[0])
        assert colours(pilot) == {("#b40000", "#b40000")}
        await pilot.press("left", "left", "left")
        await until(pilot, lambda: "boot picture 1 of 3" in lines(app)[0])
        assert colours(pilot) == {("#3c0000", "#3c0000")}
        await pilot.press("right")
        await until(pilot, lambda: "boot picture 2 of 3" in lines(app)[0])
        await pilot.press("end")
        await until(pilot, lambda: "has no VM any more" in text(app))
        await pilot.press("escape")
        await asyncio.sleep(0)


def test_only_terminals_that_say_so_are_asked_for_pixels() -> None:
    draws = graphics.draws_pixels
    assert draws({"TERM": "xterm-kitty"})
    assert draws({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"})
    assert not draws({"TERM": "xterm-256color"})
    assert not draws({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux"})
    assert not draws({"TERM": "xterm-kitty", "NO_COLOR": "1"})
    assert not draws({"TERM": "xterm-kitty", "VMLAB_PIXELS": "0"})
    assert draws({"TERM": "xterm", "VMLAB_PIXELS": "1"})
    assert graphics.pixel_widget() is None


_ASK = """
import textual_image._posix as posix
read = posix.read
posix.read = lambda handle, length, timeout: read(handle, length, 20)  # a busy machine takes its time
from vmlab_tui.tui import graphics
graphics.prepare()
print("got", graphics.pixel_widget(), flush=True)
"""


@pytest.mark.parametrize(
    ("features", "kitty", "size", "found"),
    [
        (b"62;4", False, (24, 80), b"widget.sixel.Image"),
        (b"62", True, (24, 80), b"TGPImage"),
        (b"62", False, (24, 80), b"None"),
        (b"62", True, (0, 0), b"None"),
    ],
)
def test_a_terminal_that_is_asked_says_how_it_draws(
    features: bytes, kitty: bool, size: tuple[int, int], found: bytes
) -> None:
    """Another process on a terminal that answers as kitty and others do."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", _ASK], {**os.environ, "TERM": "xterm-kitty"})
    termios.tcsetwinsize(terminal, size)
    answers = [
        (b"\x1b[c", b"\x1b[?" + features + b"c"),
        (b"\x1b_G", b"\x1b_Gi=1;" + (b"OK" if kitty else b"ENOTSUP") + b"\x1b\\"),
        (b"\x1b[16t", b"\x1b[6;20;10t"),
    ]
    said = b""
    try:
        while not said.partition(b"got")[2].endswith(b"\n") and select.select([terminal], [], [], 30)[0]:
            said += os.read(terminal, 4096)
            for question, answer in answers[:]:
                if question in said:
                    answers.remove((question, answer))
                    os.write(terminal, answer)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert found in said.partition(b"got")[2], said


@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")
async def test_pixels_go_to_the_widget_that_draws_them(
    lab_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textual_image.widget import HalfcellImage

    async def screenshot(self: Host, uuid: str, *, timeout: float = 10) -> Picture:
        return plain(255, size=(1024, 768))

    monkeypatch.setattr(Host, "screenshot", screenshot)
    monkeypatch.setattr(graphics, "_widget", HalfcellImage)
    async with opened() as (app, pilot):
        await pilot.press("end", "V")
        await until(pilot, lambda: "live" in lines(app)[0])
        image = app.screen.query_one("#pixels")
        await until(pilot, lambda: image.display and 40 < image.size.width <= 80 and image.size.height <= 22)
        assert not app.screen.query_one(PictureView).display
