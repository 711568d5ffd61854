"""The embedded default: a small stand-in for TrashNet that the program draws itself.

Six classes of single objects on a pale, unevenly lit board. Nothing is downloaded and nothing is
shipped: where the real photographs cannot be had, a first search still has something to search on.
A painter draws one object as a `Sprite`; `_photograph` poses it on the board and takes the picture.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from tune_tl.data.sources.sample.painters import PAINTERS
from tune_tl.data.sources.sample.surfaces import SIDE, Array, Sprite, noise, to_image

# How many of each, in about TrashNet's proportions.
COUNTS = {"cardboard": 66, "glass": 74, "metal": 68, "paper": 80, "plastic": 74, "trash": 50}
SIZE = (256, 192)  # of a picture: width, height in pixels; TrashNet's 4:3
Y, X = np.mgrid[-1 : 1 : SIZE[1] * 1j, -1 : 1 : SIZE[0] * 1j].astype(np.float32)


def version() -> str:
    """Eight hex digits over the code of this folder, all of which decides what the pictures are."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def draw(
    folder: Path,
    seed: int = 0,
    *,
    counts: Mapping[str, int] = COUNTS,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the sample as `folder/<class>/<class>NNN.jpg`: RGB JPEGs of `SIZE`, `counts[class]` of each.

    The same seed gives the same bytes on one machine. `folder` appears complete or not at all.
    `progress` is told (drawn, total) after every picture. Raises FileExistsError if `folder` holds
    something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} is not empty; draw the sample into a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    jobs = [(label, number) for label, count in counts.items() for number in range(1, count + 1)]
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        unfinished = Path(scratch) / folder.name
        for done, (label, number) in enumerate(jobs, start=1):
            # Seeded one by one: a picture does not depend on how many were drawn before it.
            rng = np.random.default_rng([seed, list(PAINTERS).index(label), number])
            picture = _photograph(rng, PAINTERS[label](rng))
            path = unfinished / label / f"{label}{number:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=int(rng.integers(70, 93)))
            if progress:
                progress(done, len(jobs))
        unfinished.rename(folder)


def _photograph(rng: Generator, sprite: Sprite) -> Image.Image:
    across, down = rng.normal(0, 0.08, 2).tolist()
    level = 1 + across * X + down * Y - rng.uniform(0.02, 0.14) * (X**2 + Y**2)
    light = level[..., None] * (1 + rng.normal(0, 0.07) * np.array([1, 0.1, -1.3], np.float32))
    board = rng.uniform(0.7, 0.92) * light + 0.02 * noise(rng, 5, SIZE)[..., None]

    pose = _pose(rng)
    through, own = _posed(sprite.through, pose, fill=255), _posed(sprite.own, pose, fill=0)
    shadow = _shadow(through, rng.uniform(1, 4), rng.normal(0, 7, 2).tolist())
    seen = board * (1 - rng.uniform(0.25, 0.6) * shadow) * through + own * light
    grain = rng.standard_normal((*SIZE[::-1], 1), np.float32) * rng.uniform(0.01, 0.045)
    picture = to_image(seen + grain)
    exposure, gamma = rng.uniform(0.6, 1.1), rng.uniform(0.75, 1.35)
    picture = picture.point([min(255, round(255 * exposure * (i / 255) ** gamma)) for i in range(256)] * 3)
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 1.1)))


def _pose(rng: Generator) -> list[float]:
    """The 8 coefficients of PIL's PERSPECTIVE, from picture to sprite pixels."""
    reach = SIZE[1] * rng.uniform(0.3, 0.7)  # half a side of the sprite, in picture pixels
    turn = rng.uniform(0, 2 * np.pi)
    centre = np.array(SIZE) / 2 + rng.normal(0, 0.12, 2) * SIZE
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    spun = square @ np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    seen = centre + reach * (spun + rng.normal(0, 0.1, (4, 2)))
    drawn = (square + 1) * SIDE / 2
    rows = [(x, y, 1, 0, 0, 0, -u * x, -u * y) for (x, y), (u, _) in zip(seen, drawn, strict=True)]
    rows += [(0, 0, 0, x, y, 1, -v * x, -v * y) for (x, y), (_, v) in zip(seen, drawn, strict=True)]
    return [float(c) for c in np.linalg.solve(np.array(rows), drawn.T.ravel())]


def _posed(layer: Array, pose: list[float], fill: int) -> Array:
    how = (Image.Transform.PERSPECTIVE, pose, Image.Resampling.BILINEAR)
    return np.asarray(to_image(layer).transform(SIZE, *how, fillcolor=(fill,) * 3), np.float32) / 255


def _shadow(through: Array, radius: float, shift: list[float]) -> Array:
    """What light is missing around an object, coloured as the object is; drawn at a quarter of `SIZE`."""
    small = to_image(1 - through).reduce(4)
    moved = small.transform(small.size, Image.Transform.AFFINE, (1, 0, shift[0] / 4, 0, 1, shift[1] / 4))
    return np.asarray(moved.filter(ImageFilter.GaussianBlur(radius)).resize(SIZE), np.float32) / 255
