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

SLACK = 0.05  # that floats of a range from 0 to 1 may lie outside, from resampling


class Span(NamedTuple):
    """The values of greys: what is shown as black, what as white."""

    low: float
    high: float


def values(image: Image.Image) -> npt.NDArray[np.float64] | None:
    """The greys of an image that has more than 8 bits of them, (height, width); None for every other.

    What is no number (satellites write NaN where they saw nothing) is the lowest value. Raises ValueError if
    there is no number at all.
    """
    if not (image.mode.startswith("I;16") or image.mode in ("I", "F")):
        return None
    found = np.array(image, dtype=np.float64)
    numbers = np.isfinite(found)
    if not numbers.all():
        if not numbers.any():
            raise ValueError("none of its values is a number")
        found[~numbers] = found[numbers].min()
    return found


def span(found: npt.NDArray[np.float64]) -> Span:
    """The lowest and the highest of an image's values."""
    return Span(float(found.min()), float(found.max()))


def scale(spans: Iterable[Span]) -> Span:
    """The scale for images of these spans together.

    From 0 to all bits that are in use, 8 at least (12 bits: 4095), or to 1 for floats that stay below it;
    where there are values below 0, as in computed tomography, from the lowest to the highest.
    """
    known = list(spans)
    low, high = min(one.low for one in known), max(one.high for one in known)
    if low > -SLACK and high < 1 + SLACK:
        return Span(0.0, 1.0)
    if low < 0:
        return Span(low, high)
    return Span(0.0, float(2 ** max(8, int(high).bit_length()) - 1))


def eight_bits(found: npt.NDArray[np.float64], shown: Span) -> Image.Image:
    """`found`, which is overwritten, with `shown` from black to white."""
    found -= shown.low
    found *= 255 / max(shown.high - shown.low, 1e-9)
    return Image.fromarray(found.clip(0, 255, out=found).astype(np.uint8))


def in_words(images: int, shown: Span) -> str:
    """What was done, for people."""
    return f"{images} images of more than 8 bits: in all, {shown.low:g} is black and {shown.high:g} white"
