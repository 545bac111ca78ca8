"""Sizes and durations as people write them, and back."""

from __future__ import annotations

import re

_SIZE = {"": 1, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE |= {"KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "TIB": 1024**4}
_SIZE |= {"KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_TIME = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str | int) -> int:
    """Bytes from ``"1GiB"``, ``"512M"`` (binary), ``"20GB"`` (decimal) or a plain number of bytes.

    Raises ValueError saying what is allowed.
    """
    if isinstance(text, bool):
        raise ValueError("a size such as 1GiB or 512MiB")
    if isinstance(text, int):
        return text
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in _SIZE:
        raise ValueError("a size such as 1GiB, 512MiB or 20GB")
    return int(float(found[1]) * _SIZE[found[2].upper()])


def parse_duration(text: str | int | float) -> float:
    """Seconds from ``"2m"``, ``"1h30m"``, ``"500ms"`` or a plain number of seconds.

    Raises ValueError saying what is allowed.
    """
    if isinstance(text, bool):
        raise ValueError("a duration such as 30s, 2m or 1h30m")
    if isinstance(text, int | float):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.replace(" ", ""))
    if not parts or "".join(a + b for a, b in parts) != text.replace(" ", ""):
        raise ValueError("a duration such as 30s, 2m or 1h30m")
    return sum(float(number) * _TIME[unit] for number, unit in parts)


def size(count: int) -> str:
    """``1.0G`` style, four to six characters."""
    value = float(count)
    for unit in ("B", "K", "M", "G"):
        if value < 1024 or (unit == "B" and value < 1000):
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


def duration(seconds: float) -> str:
    """``0.3s``, ``41.2s``, ``2:14``, ``1:02:14``: short enough for a column."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(seconds: float) -> str:
    """A coarse age or remaining time: ``40 s``, ``12 min``, ``22 h``, ``3 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and unit != "d"):
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
