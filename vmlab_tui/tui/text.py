"""Text in cells: wide characters take two of them, combining ones none."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells


def fit(text: str, width: int, *, right: bool = False) -> str:
    """``text`` in exactly ``width`` cells: padded, or cut with a mark where something is missing."""
    if width <= 0:
        return ""
    have = cell_len(text)
    if have > width:
        kept = chop_cells(text, width - 1)[0] if width > 1 else ""
        text, have = kept + "…", cell_len(kept) + 1
    pad = " " * (width - have)
    return pad + text if right else text + pad
