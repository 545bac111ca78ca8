"""Whether this terminal draws pixels (kitty's protocol or sixel), by textual-image where that is installed.

textual-image asks the terminal when it is imported, so that has to be before Textual reads the keys. A
terminal that does not know the question may swallow the first key: only those are asked that say what they
are in their environment, or when ``VMLAB_PIXELS=1``; ``VMLAB_PIXELS=0`` asks none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.widget import Widget

_TERMS = ("xterm-kitty", "xterm-ghostty", "foot", "mlterm", "contour", "yaft")
_PROGRAMS = ("WezTerm", "ghostty", "iTerm.app", "mintty", "contour", "rio", "WarpTerminal")
_widget: type[Any] | None = None


def draws_pixels(environ: Mapping[str, str]) -> bool:
    """Whether the terminal is of a kind that can, as far as its environment tells."""
    if chosen := environ.get("VMLAB_PIXELS"):
        return chosen == "1"
    if "NO_COLOR" in environ:
        return False
    return (
        "KITTY_WINDOW_ID" in environ
        or environ.get("TERM", "").startswith(_TERMS)
        or environ.get("TERM_PROGRAM", "") in _PROGRAMS
    )


def prepare() -> None:
    """Find out; to be called before the app starts. Without textual-image nothing happens."""
    global _widget
    if not (sys.__stdin__ and sys.__stdin__.isatty() and draws_pixels(os.environ)):
        return
    try:
        from textual_image.widget import Image, SixelImage, TGPImage
    except ImportError:
        return
    except Exception:
        return  # what it asks at import fails in odd terminals (without a size, for one): half blocks then
    if issubclass(Image, SixelImage):
        _widget = SixelImage
    elif getattr(Image, "_Renderable", None) is TGPImage._Renderable:
        _widget = TGPImage


def pixel_widget() -> type[Widget] | None:
    """The widget that draws pixels here: its ``image`` takes a stream with a PNG. None: half blocks."""
    return _widget
