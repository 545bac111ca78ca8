"""Pictures of screens: read within bounds, made smaller, compared, written as PNG. The one user of Pillow.

Pillow rather than code of our own, because libvirt sends PNG where QEMU can make it (from QEMU 7.1 on), and
undoing its filters takes Python half a second for a text screen; scaling and comparing would take as long.
What a picture shows is the guest's: it chooses the pixels and how many there are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 5120 * 2880
"""A picture of more is refused unread."""
BYTES = 3 * PIXELS + 4096
"""What a picture takes at most as it is sent: plain PPM of so many pixels."""

_CHANGED = 2e-4
"""Part of all the light that must differ. A cursor that blinks in text mode is 4e-5, twenty letters 1e-3."""
_GAMMA = 2.2


@dataclass(frozen=True)
class Picture:
    """``rgb``: three bytes for each pixel, row by row."""

    width: int
    height: int
    rgb: bytes


def decode(data: bytes) -> Picture:
    """A picture from PNG or PPM, nothing else. Raises LabError for what is neither, damaged or too large."""
    from PIL import Image

    # else it is printed, over whatever is on the screen
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    try:
        with Image.open(BytesIO(data), formats=("PNG", "PPM")) as image:
            width, height = image.size
            if width * height > PIXELS:  # known from the header: no pixel has been looked at
                raise LabError(f"a picture of {width}x{height} pixels is refused: too large")
            return Picture(width, height, image.convert("RGB").tobytes())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LabError("a picture is refused: far too large") from error
    # Pillow's readers of damaged files raise what they run into
    except (OSError, ValueError, TypeError, SyntaxError, EOFError, IndexError, KeyError) as error:
        raise LabError("what the host sent is no picture, or not all of one") from error


def _image(picture: Picture) -> Image.Image:
    from PIL import Image

    return Image.frombuffer("RGB", (picture.width, picture.height), picture.rgb, "raw", "RGB", 0, 1)


def png(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    out = BytesIO()
    _image(picture).save(out, "PNG")
    return out.getvalue()


@cache
def _curve(power: float) -> list[int]:
    return [round(255 * (value / 255) ** power) for value in range(256)] * 3


def fitting(width: int, height: int, within: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture made to fit ``within``, its shape kept; never larger than it is."""
    scale = min(1.0, within[0] / width, within[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(picture: Picture, width: int, height: int) -> Picture:
    """The picture made to fit into ``width`` times ``height`` pixels; as it is if it does."""
    from PIL import Image

    size = fitting(picture.width, picture.height, (width, height))
    if size == (picture.width, picture.height):
        return picture
    # the mean of light, not of the numbers that stand for it: else thin bright letters all but vanish
    light = _image(picture).point(_curve(_GAMMA)).resize(size, Image.Resampling.HAMMING)
    return Picture(*size, light.point(_curve(1 / _GAMMA)).tobytes())


def differs(one: Picture, other: Picture) -> bool:
    """Whether a person would call it another picture: a cursor that blinks makes none."""
    from PIL import ImageChops

    if (one.width, one.height) != (other.width, other.height):
        return True
    if one.rgb == other.rgb:
        return False
    apart = ImageChops.difference(_image(one).convert("L"), _image(other).convert("L")).histogram()
    light = sum(level * count for level, count in enumerate(apart))
    return light > _CHANGED * 255 * one.width * one.height
