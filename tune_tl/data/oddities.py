"""What makes an image odd among the others of its dataset: its size, its mode, how much it shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Oddity = Literal["tiny", "odd shape", "odd mode", "blank"]

TINY = 32  # pixels of the shorter side: below, there is less than the smallest network here looks at
LONG = 4.0  # times as long as wide
BLANK = 4.0  # standard deviation of the pixels, of 255, in every channel
SAMPLE = 32  # pixels a side that an image's spread is taken of
FEW = 0.2  # of all images: what fewer share is odd, what more do is how these images are


class Appearance(NamedTuple):
    """What an image looks like from outside."""

    width: int
    height: int
    mode: str  # Pillow's
    spread: float  # standard deviation of its pixels, of 255, in the channel with the largest
    frames: int = 1


def spread(pixels: npt.NDArray[np.uint8]) -> float:
    """Of (size, size, 3) pixels, as `Appearance` has it: of a sample, for all of them take 2 ms."""
    step = max(1, len(pixels) // SAMPLE)
    return float(pixels[::step, ::step].std(axis=(0, 1)).max())


def oddities(one: Appearance, modes: Mapping[str, int]) -> dict[Oddity, str]:
    """What is odd about an image, and why in a few words; `modes` counts the images of each mode."""
    odd: dict[Oddity, str] = {}
    short, long = sorted((one.width, one.height))
    if short < TINY:
        odd["tiny"] = f"{one.width}x{one.height}"
    if long > LONG * short:
        odd["odd shape"] = f"{one.width}x{one.height}"
    rare = modes[one.mode] <= FEW * sum(modes.values())
    if (rare and one.mode != "L") or one.frames > 1:
        odd["odd mode"] = one.mode + (f", {one.frames} frames" if one.frames > 1 else "")
    if one.spread < BLANK:
        odd["blank"] = "nearly one colour"
    return odd


def count(images: Iterable[Appearance]) -> int:
    """How many of these images are odd among each other; what many share, such as 28 pixels, is not."""
    known = list(images)
    modes = Counter(one.mode for one in known)
    found: dict[Oddity, set[int]] = defaultdict(set)
    for number, one in enumerate(known):
        for kind in oddities(one, modes):
            found[kind].add(number)
    return len(set().union(*(which for which in found.values() if len(which) <= FEW * len(known))))
