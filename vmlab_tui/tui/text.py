"""Text in cells: wide characters take two of them, combining ones none."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells

_TAIL = 6


def fit(text: str, width: int, *, right: bool = False, middle: bool = False) -> str:
    """``text`` in exactly ``width`` cells: padded, or cut with a mark where something is missing.

    ``middle``: its last characters, which tell such texts apart, are kept.
    """
    if width <= 0:
        return ""
    have = cell_len(text)
    if have > width and middle and width > 2 * _TAIL:
        text = fit(text[:-_TAIL], width - cell_len(text[-_TAIL:])).rstrip() + text[-_TAIL:]
        have = cell_len(text)
    elif have > width:
        kept = chop_cells(text, width - 1)[0] if width > 1 else ""
        text, have = kept + "…", cell_len(kept) + 1
    pad = " " * (width - have)
    return pad + text if right else text + pad
