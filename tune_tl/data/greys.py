"""Greys of more than 8 bits: one scale for all of a dataset's images, so that equal values stay equal.

Microscopes, satellites and X-rays give 10 to 16 bits, or floats. Scaled each by its own range, a dark
image and a bright one become the same picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

NO_DATA, NO_DATA_ABOVE = (-9999.0, -32768.0), 1e30
SAMPLES = 1_000_000  # values of an image that its range is taken of
TAIL = 0.001  # of an image's values, at either end, that are no measure of its range
SLACK = 0.05  # that floats of a range from 0 to 1 may lie outside, from resampling


class Span(NamedTuple):
    """The values of greys: what is shown as black, what as white."""

    low: float
    high: float


def values(image: Image.Image) -> npt.NDArray[np.float64] | None:
    """The greys of an image that has more than 8 bits of them, (height, width); None for every other.

    What is no value (NaN, or what satellites write where they saw nothing) is the lowest one. Raises
    ValueError if there is no value at all.
    """
    if not (image.mode.startswith("I;16") or image.mode in ("I", "F")):
        return None
    found = np.array(image, dtype=np.float64)
    if image.mode.startswith("I;16"):  # each of its 65,536 is one
        return found
    there = np.isfinite(found) & (np.abs(found) < NO_DATA_ABOVE) & ~np.isin(found, NO_DATA)
    if not there.all():
        if not there.any():
            raise ValueError("none of its values is a number")
        found[~there] = found[there].min()
    return found


def span(found: npt.NDArray[np.float64]) -> Span:
    """The lowest and the highest of an image's values, less the thousandth at either end."""
    some = found.ravel()[:: max(1, found.size // SAMPLES)]
    low, high = np.quantile(some, (TAIL, 1 - TAIL), method="nearest")
    return Span(float(low), float(high))


def scale(spans: Iterable[Span]) -> Span:
    """The scale for images of these spans together.

    From 0 to all bits that are in use, 8 at least (12 bits: 4095), or to 1 for floats that stay below it.
    Where the values take less than an eighth of that, or lie below 0 (computed tomography, elevations), from
    the lowest to the highest.
    """
    known = list(spans)
    low, high = min(one.low for one in known), max(one.high for one in known)
    if low > -SLACK and high < 1 + SLACK:
        usual = Span(0.0, 1.0)
    else:
        usual = Span(0.0, float(2 ** max(8, int(max(high, 0)).bit_length()) - 1))
    narrow = 0 < high - low < (usual.high - usual.low) / 8
    return Span(low, high) if narrow or (low < 0 and usual.high > 1) else usual


def eight_bits(found: npt.NDArray[np.float64], shown: Span) -> Image.Image:
    """`found`, which is overwritten, in RGB, with `shown` from black to white."""
    found -= shown.low
    found *= 255 / max(shown.high - shown.low, 1e-9)
    return Image.fromarray(found.clip(0, 255, out=found).astype(np.uint8)).convert("RGB")


def in_words(images: int, shown: Span) -> str:
    """What was done, for people."""
    of = "image of more than 8 bits" if images == 1 else "images of more than 8 bits"
    return f"{images} {of}: in all, {shown.low:g} is black and {shown.high:g} white"
