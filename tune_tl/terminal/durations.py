"""Durations as people write them."""

from __future__ import annotations

import math
import re

from tune_tl.errors import BadInput


def seconds(text: str | int | float, what: str = "budget") -> float:
    """A duration such as `90s`, `10m`, `1h30m` or a number of seconds; raises BadInput."""
    word = str(text).strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", word):  # alone only: 1h30 is not said to mean 30 seconds
        word += "s"
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", word)
    hours, minutes, rest = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    total = hours * 3600 + minutes * 60 + rest
    if not total > 0 or math.isinf(total):
        raise BadInput(f"{what} {str(text)!r} is no duration above zero; write it as 90s, 10m or 1h30m")
    return total
