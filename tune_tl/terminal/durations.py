"""Durations as people write and read them."""

from __future__ import annotations

import math
import re

from tune_tl.errors import BadInput


def seconds(text: str | int | float, what: str = "budget") -> float:
    """A duration such as `90s`, `10m` or `1h30m`; raises BadInput."""
    word = str(text).strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", word) and float(word):  # 5 may be meant as minutes
        raise BadInput(f"{what} {str(text)!r} has no unit; write {word}s, {word}m or {word}h")
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", word)
    hours, minutes, rest = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    total = hours * 3600 + minutes * 60 + rest
    if not total > 0 or math.isinf(total):
        raise BadInput(f"{what} {str(text)!r} is no duration above zero; write it as 90s, 10m or 1h30m")
    return total


def in_words(seconds: float) -> str:
    """A wall time to read: `8.4 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 60:
        return f"{amount(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def as_clock(seconds: float) -> str:
    """A wall time that runs, in a few characters: `0:08`, `12:05`, `3h20m`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}:{rest:02d}"


def amount(value: float) -> str:
    """A number of seconds, of whatever: `8.4`, `12`."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
