"""Small images to train on, and files that only look like some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (180, 90, 90), "green": (90, 180, 90), "blue": (90, 90, 180)}
EACH = 14


def three_colours(root: Path) -> Path:
    """Noise in three colours, 14 images of each, told apart by their means alone."""
    random = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for n in range(EACH):
            pixels = random.normal(colour, 60, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{n}.png")
    return root


def cats_and_dogs(root: Path, tag: str = "") -> Path:
    """Two classes of five files for what never decodes them; with another `tag` they hold other bytes."""
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for n in range(5):
            (root / label / f"{n}.jpg").write_text(f"{label} {n} {tag}")
    return root


def fill(root: Path, counts: Mapping[str, int]) -> Path:
    """So many files in each folder, with content of their own, for what never decodes them."""
    for place, count in counts.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            (root / place / f"{n}.jpg").write_text(f"{place} {n}")
    return root
