"""Pictures of screens: what is read, what is refused, what counts as another one."""

from __future__ import annotations

import struct
import zlib

import pytest

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.picture import Picture, decode, differs, fitting, png, shrink


def text_screen(*places: tuple[int, int, int, int]) -> Picture:
    """A dark screen of text mode with light boxes, each (x, y, width, height)."""
    rgb = bytearray(720 * 400 * 3)
    for x, y, width, height in places:
        for row in range(y, y + height):
            rgb[3 * (720 * row + x) : 3 * (720 * row + x + width)] = b"\xaa" * 3 * width
    return Picture(720, 400, bytes(rgb))


def test_png_and_ppm_are_read_as_they_were() -> None:
    picture = text_screen((9, 16, 90, 12))
    assert decode(png(picture)) == picture
    assert decode(b"P6\n# a remark\n720 400\n255\n" + picture.rgb) == picture


def _png_head(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = struct.pack(">I", 9) + b"IDAT" + bytes(13)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + data


@pytest.mark.parametrize(
    "data",
    [
        b"P6 60000 60000 255\n" + bytes(100),
        b"P6 4294967295 4294967295 255\n",
        b"P6 9000 9000 255\n" + bytes(9000),
        _png_head(50000, 50000),
        _png_head(9000, 9000),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_picture_of_absurd_size_is_refused_from_its_head(data: bytes) -> None:
    with pytest.raises(LabError, match="too large"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P6",
        b"P6 -3 4 255\n",
        b"P6 40 40 255\n" + bytes(9),
        png(text_screen())[:90],
        b"GIF89a" + bytes(99),
    ],
)
def test_what_is_no_picture_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(LabError, match="no picture"):
        decode(data)


def test_letters_make_another_picture_and_a_cursor_does_not() -> None:
    line = (9, 16, 90, 12)
    assert not differs(text_screen(line), text_screen(line))
    assert not differs(text_screen(line), text_screen(line, (99, 29, 9, 2)))
    assert differs(text_screen(line), text_screen(line, (9, 32, 60, 5)))
    assert differs(text_screen(line), Picture(2, 2, bytes(12)))


def test_a_picture_keeps_its_shape_and_its_light_when_it_shrinks() -> None:
    assert fitting(720, 400, (80, 44)) == (79, 44)
    assert fitting(100, 50, (800, 600)) == (100, 50)
    stripes = Picture(400, 200, (b"\xff" * 3 + bytes(3)) * (400 * 200 // 2))
    small = shrink(stripes, 40, 40)
    assert (small.width, small.height) == (40, 20)
    assert 170 < small.rgb[0] < 200, "half of the light, which is more than half of the number"
