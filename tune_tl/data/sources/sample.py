"""The embedded default: a small stand-in for TrashNet that the program draws itself.

Six classes of single objects on a pale, unevenly lit board. Nothing is downloaded and nothing is
shipped: where the real photographs cannot be had, a first search still has something to search on.
The classes share shapes, colours and prints on purpose (a glass and a PET bottle, foil and a silver
wrapper, a carton and a cardboard box) and differ by material, so that how deep a network is unfrozen
makes a difference.

A painter draws one object as a `Sprite`; `_photograph` poses it on the board and takes the picture.
Lengths in sprites count from the centre in half sides: u and v run from -1 to 1, v downwards.
"""

from __future__ import annotations

import colorsys
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Array = NDArray[Any]  # float32 or float64
Corners = Sequence[tuple[float, float]]

# How many of each, in about TrashNet's proportions.
COUNTS = {"cardboard": 66, "glass": 74, "metal": 68, "paper": 80, "plastic": 74, "trash": 50}
SIZE = (256, 192)  # of a picture: width, height in pixels; TrashNet's 4:3
SIDE = 256  # of a sprite, pixels
V, U = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
Y, X = np.mgrid[-1 : 1 : SIZE[1] * 1j, -1 : 1 : SIZE[0] * 1j].astype(np.float32)
WORDS = [
    "COLA", "TUNA", "SOUP", "500ml", "MILK", "OLIVE",
    "CRISPS", "BIO", "1BJ", "FRAGILE", "SALE", "50%", "NEWS",
]  # fmt: skip
INKS = np.array([
    (0.76, 0.12, 0.14), (0.10, 0.25, 0.60), (0.05, 0.45, 0.30), (0.95, 0.75, 0.12), (0.92, 0.45, 0.10),
    (0.36, 0.16, 0.45), (0.10, 0.10, 0.12), (0.50, 0.72, 0.88), (0.90, 0.62, 0.70), (0.50, 0.70, 0.30),
    (0.48, 0.30, 0.16), (0.94, 0.91, 0.84), (0.12, 0.50, 0.55), (0.62, 0.64, 0.66),
], np.float32)  # fmt: skip
# What a lathe would follow, (v, radius) from top to bottom. One shape serves several classes.
PROFILES: dict[str, Corners] = {
    "beer": [(-0.95, 0.12), (-0.6, 0.12), (-0.2, 0.31), (0.95, 0.31)],
    "wine": [(-0.97, 0.1), (-0.35, 0.11), (-0.12, 0.27), (0.97, 0.27)],
    "soda": [(-0.95, 0.1), (-0.8, 0.1), (-0.72, 0.13), (-0.4, 0.3), (0.92, 0.3)],
    "jug": [(-0.9, 0.14), (-0.66, 0.14), (-0.5, 0.36), (0.9, 0.4)],
    "jar": [(-0.65, 0.38), (-0.52, 0.38), (-0.4, 0.46), (0.65, 0.46)],
    "cup": [(-0.7, 0.46), (-0.62, 0.43), (0.7, 0.32)],
    "goblet": [(-0.9, 0.33), (-0.5, 0.42), (-0.15, 0.3), (0.02, 0.04), (0.7, 0.04), (0.76, 0.3), (0.8, 0.32)],
    "can": [(-0.7, 0.3), (-0.58, 0.37), (0.58, 0.37), (0.7, 0.31)],
    "tin": [(-0.55, 0.46), (0.6, 0.46)],
    "roll": [(-0.8, 0.27), (0.8, 0.27)],
    "tube": [(-0.9, 0.09), (-0.75, 0.09), (-0.7, 0.22), (0.8, 0.3), (0.85, 0.3)],
}


class Sprite(NamedTuple):
    """An object as what it does to light: seen = behind * through + own. Both (SIDE, SIDE, 3), 0 to 1."""

    through: Array
    own: Array

    def under(self, top: Sprite) -> Sprite:
        return Sprite(self.through * top.through, self.own * top.through + top.own)

    def moved(self, down: float) -> Sprite:
        shift = int(down * SIDE / 2)
        return Sprite(np.roll(self.through, shift, 0), np.roll(self.own, shift, 0))


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


# --- the camera -----------------------------------------------------------------------------------


def _photograph(rng: Generator, sprite: Sprite) -> Image.Image:
    across, down = rng.normal(0, 0.08, 2).tolist()
    level = 1 + across * X + down * Y - rng.uniform(0.02, 0.14) * (X**2 + Y**2)
    light = level[..., None] * (1 + rng.normal(0, 0.07) * np.array([1, 0.1, -1.3], np.float32))
    board = rng.uniform(0.7, 0.92) * light + 0.02 * _noise(rng, 5, SIZE)[..., None]

    pose = _pose(rng)
    through, own = _posed(sprite.through, pose, fill=255), _posed(sprite.own, pose, fill=0)
    shadow = _shadow(through, rng.uniform(1, 4), rng.normal(0, 7, 2).tolist())
    seen = board * (1 - rng.uniform(0.25, 0.6) * shadow) * through + own * light
    grain = rng.standard_normal((*SIZE[::-1], 1), np.float32) * rng.uniform(0.01, 0.045)
    picture = _to_image(seen + grain)
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
    return np.asarray(_to_image(layer).transform(SIZE, *how, fillcolor=(fill,) * 3), np.float32) / 255


def _shadow(through: Array, radius: float, shift: list[float]) -> Array:
    """What light is missing around an object, coloured as the object is; drawn at a quarter of `SIZE`."""
    small = _to_image(1 - through).reduce(4)
    moved = small.transform(small.size, Image.Transform.AFFINE, (1, 0, shift[0] / 4, 0, 1, shift[1] / 4))
    return np.asarray(moved.filter(ImageFilter.GaussianBlur(radius)).resize(SIZE), np.float32) / 255


def _to_image(values: Array) -> Image.Image:
    return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))


# --- shapes and surfaces: all arrays (SIDE, SIDE), or (SIDE, SIDE, 3) where coloured ----------------


def _noise(rng: Generator, cells: int, size: tuple[int, int] = (SIDE, SIDE)) -> Array:
    """Smooth noise in about -1 to 1; `cells` bumps a side."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))


def _ink(rng: Generator) -> Array:
    varied: Array = INKS[rng.integers(len(INKS))] * rng.uniform(0.8, 1.2) + rng.normal(0, 0.04, 3)
    return varied.clip(0.03, 0.97).astype(np.float32)


def _hsv(rng: Generator, *ranges: tuple[float, float]) -> Array:
    """A colour from ranges of hue, saturation and value."""
    hue, saturation, value = (rng.uniform(low, high) for low, high in ranges)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)


def _bump(values: Array, centre: float, width: float) -> Array:
    bump: Array = np.exp(-(((values - centre) / width) ** 2))
    return bump


def _polygon(corners: Corners | Array, rng: Generator | None = None, torn: float = 0.0) -> Array:
    """Coverage of a polygon; `torn` frays its edges by so much."""
    points = np.array(corners, float)
    if rng is not None and torn:
        steps = np.linspace(0, 1, max(2, 80 // len(points)), endpoint=False)[:, None]
        ends = zip(points, np.roll(points, -1, 0), strict=True)
        points = np.concatenate([a + (b - a) * steps for a, b in ends])
        points += rng.normal(0, torn, points.shape)
    mask = Image.new("L", (2 * SIDE, 2 * SIDE))
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in (points + 1) * SIDE], fill=255)
    return np.asarray(mask.reduce(2), np.float32) / 255


def _rectangle(rng: Generator, width: float, height: float) -> Array:
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width, height) + rng.normal(0, 0.05, (4, 2))


def _blob(rng: Generator, size: float, points: int = 14, spread: float = 0.14) -> Array:
    radii, squash = size * rng.uniform(1 - 2 * spread, 1 + spread, points), rng.uniform(0.6, 1)
    turns = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([radii * np.cos(turns), squash * radii * np.sin(turns)], 1)


def _disc(radius: float, squash: float = 1.0, centre: float = 0.0) -> tuple[Array, Array]:
    """Coverage of an ellipse, and every point's distance from its centre as a part of its radius."""
    distance = np.hypot(U / radius, (V - centre) / (radius * squash))
    return np.clip((1 - distance) * radius * squash * SIDE / 2, 0, 1), distance


def _creases(rng: Generator, folds: int) -> tuple[Array, Array]:
    """The slopes (along u, along v) of something folded along random lines, of about unit variance."""
    u, v = (axis[::2, ::2] + 0.1 * _noise(rng, 7, (SIDE // 2, SIDE // 2)) for axis in (U, V))
    du, dv = np.zeros_like(u), np.zeros_like(u)
    for _ in range(folds):
        turn, weight = rng.uniform(0, np.pi), rng.exponential(folds**-0.5)
        side = np.clip((u * math.cos(turn) + v * math.sin(turn) - rng.uniform(-0.9, 0.9)) * 30, -1, 1)
        du += side * (weight * math.cos(turn))
        dv += side * (weight * math.sin(turn))
    du, dv = (np.asarray(Image.fromarray(slope).resize((SIDE, SIDE))) for slope in (du, dv))
    return du, dv


def _solid(mask: Array, colour: Array, shade: Array | float = 1.0) -> Sprite:
    cover = mask.astype(np.float32)[..., None]
    own = (cover * np.asarray(shade, np.float32)[..., None]) * colour.astype(np.float32)
    return Sprite(np.broadcast_to(1 - cover, own.shape), own)


def _clear(mask: Array, tint: Array, thickness: Array | float, glare: Array | float) -> Sprite:
    """A body that lets light through: `tint` is what a thickness of 1 passes, `glare` what it mirrors."""
    depth = np.broadcast_to(np.asarray(thickness, np.float32), mask.shape)[..., None]
    passed = np.exp(depth * np.log(tint).astype(np.float32))
    own = np.broadcast_to((mask * glare).astype(np.float32)[..., None], passed.shape)
    return Sprite(1 - mask[..., None].astype(np.float32) * (1 - passed), own)


def _mirror(slope: Array) -> Array:
    """What polished metal shows where its surface leans by `slope`: a room of bright and dark bands."""
    room: Array = 0.5 + 0.3 * np.sin(2.6 * slope + 0.6) + 0.2 * np.sin(6.3 * slope)
    return room


def _sheet(
    rng: Generator,
    corners: Array,
    surface: Array,
    *,
    folds: int,
    depth: float,
    torn: float = 0.0,
    gloss: float = 0.0,
) -> Sprite:
    """A flat thing with creases: `depth` is how much they shade, `gloss` how much they glint."""
    du, dv = _creases(rng, folds)
    turn = rng.uniform(0, 2 * np.pi)
    lean = du * np.cos(turn) + dv * np.sin(turn)
    flat = _solid(_polygon(corners, rng, torn), surface, 1 + depth * lean)
    glint = gloss * _bump(lean, rng.normal(), 0.3)
    return Sprite(flat.through, flat.own + (1 - flat.through) * glint[..., None])


class Turned(NamedTuple):
    """A body of revolution seen from the side and a little from above."""

    mask: Array
    across: Array  # -1 at its left edge, 1 at its right
    along: Array  # v, bent as rings around the body are
    foot: float  # v of its lower end
    mouth: tuple[float, float, float]  # v, radius and squash of its upper end

    def top(self, shrink: float = 1.0) -> tuple[Array, Array]:
        v, radius, squash = self.mouth
        return _disc(radius * shrink, squash, v)

    def band(self, top: float, bottom: float) -> Array:
        return self.mask * np.clip((self.along - top) * 60, 0, 1) * np.clip((bottom - self.along) * 60, 0, 1)

    def round(self, light: float) -> Array:
        shade: Array = 0.6 + 0.42 * np.sqrt(np.clip(1 - (self.across - light) ** 2, 0, 1))
        return shade

    def streaks(self, rng: Generator, count: int, sharp: float) -> Array:
        """Windows and lamps mirrored in its side."""
        glare = np.zeros_like(self.across)
        for _ in range(count):
            width = rng.uniform(0.03, 0.15) / sharp
            glare += rng.uniform(0.25, 0.8) * _bump(self.across, rng.uniform(-0.8, 0.8), width)
        return glare


def _turn(rng: Generator, shape: str, ribs: float = 0.0, dents: float = 0.0) -> Turned:
    heights, radii = np.array(PROFILES[shape]).T
    radii = radii * rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, len(radii))
    heights = heights * rng.uniform(0.88, 1)
    smoothed = np.convolve(np.pad(np.interp(V[:, 0], heights, radii), 6, "edge"), np.ones(13) / 13, "valid")
    smoothed += ribs * np.sin(V[:, 0] * rng.uniform(30, 50)) * (smoothed > 0.2)
    rows = smoothed[:, None].astype(np.float32)
    first, last, squash = float(heights[0]), float(heights[-1]), rng.uniform(0.06, 0.35)
    across = (U + dents * _noise(rng, 5)) / rows
    along = V - squash * rows * np.sqrt(np.clip(1 - across**2, 0, 1)) + dents * _noise(rng, 4)
    inside = np.minimum((1 - np.abs(across)) * rows, np.minimum(along - first, last - along))
    mask = np.clip(inside * SIDE / 2, 0, 1)
    return Turned(mask, np.clip(across, -1, 1), along, last, (first, float(radii[0]), squash))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _print(
    rng: Generator, paper: Array, *, blocks: int = 0, lines: int = 0, photos: int = 0, words: int = 1
) -> Array:
    """A printed surface, coloured: blocks of ink, photographs, lines of small text and big words."""
    scheme = [tuple(int(255 * c) for c in _ink(rng)) for _ in range(3)]
    sheet = Image.new("RGB", (SIDE, SIDE), tuple(int(255 * c) for c in paper))
    pen = ImageDraw.Draw(sheet)
    for i in range(blocks):
        (x, y), (w, h) = rng.integers(0, SIDE, 2).tolist(), rng.integers(20, 90, 2).tolist()
        if rng.random() < 0.4:
            x, w = 0, SIDE  # a stripe all around
        shape = pen.ellipse if rng.random() < 0.4 else pen.rectangle
        shape((x - w, y - h // 2, x + w, y + h // 2), fill=scheme[i % 3])
    for _ in range(photos):
        w, h = rng.integers(60, 140, 2).tolist()
        light = _noise(rng, 4, (w, h)) + 0.5 * _noise(rng, 12, (w, h))
        corner = tuple(rng.integers(10, SIDE - 60, 2).tolist())
        sheet.paste(_to_image(_ink(rng) + 0.35 * light[..., None]), corner)
    left, top = rng.integers(6, 30, 2).tolist()
    dark = tuple(rng.integers(10, 90, 3).tolist())
    for row in range(lines):
        text = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), 7)).lower()
        pen.text((left, top + 11 * row), text[: rng.integers(24, 42)], dark, _font(9))
    for i in range(words):
        corner = tuple(rng.integers(0, SIDE - 90, 2).tolist())
        size = (28, 46, 64)[rng.integers(3)]
        pen.text(corner, WORDS[rng.integers(len(WORDS))], scheme[i % 3] if blocks else dark, _font(size))
    return np.asarray(sheet, np.float32) / 255


def _wrapped(rng: Generator, body: Turned, top: float, bottom: float, printed: Array) -> Sprite:
    """`printed` as a label around `body` between two heights."""
    turned = np.arcsin(body.across) * (1 / math.pi) + rng.uniform(0.5, 1.5)
    x = (turned * (SIDE - 1)).astype(int) % SIDE
    y = np.clip((body.along - top) / (bottom - top) * (SIDE - 1), 0, SIDE - 1).astype(int)
    return _solid(body.band(top, bottom), printed[y, x], body.round(rng.uniform(-0.4, 0.4)))


def _opaque(
    rng: Generator, body: Turned, surface: Array, *, gloss: float = 0.0, open_: bool = True
) -> Sprite:
    """Something turned with one surface all over, such as a cup, a jug or a cardboard roll."""
    side = _wrapped(rng, body, -1, 1, surface)
    glare = gloss * body.mask * body.streaks(rng, 2, 0.8)
    side = Sprite(side.through, side.own + glare[..., None])
    colour = surface[::64, ::64].mean((0, 1))
    vessel = side.under(_solid(body.top()[0], colour, 1.1))
    return vessel.under(_solid(body.top(0.9)[0], colour, 0.6 - 0.4 * V)) if open_ else vessel


def _vessel(rng: Generator, body: Turned, tint: Array, *, wall: float, foot: float, sharp: float) -> Sprite:
    """Something transparent with mirrored lamps, perhaps half full, perhaps with a label."""
    thickness = wall * (0.35 + 1.2 * np.abs(body.across) ** 5 + foot * _bump(body.along, body.foot, 0.08))
    glare = body.streaks(rng, int(rng.integers(2, 5)), sharp) * (0.7 + 0.4 * _noise(rng, 3))
    uneven = thickness + 0.12 * np.abs(_noise(rng, 7))
    vessel = _clear(body.mask, tint, uneven, 0.75 * np.clip(glare, 0, 1))
    if rng.random() < 0.2:
        vessel = _clear(body.band(rng.uniform(-0.1, 0.4), 1), _ink(rng), 1.0, 0.0).under(vessel)
    if rng.random() < 0.5:
        top = rng.uniform(-0.2, 0.1)
        printed = _print(rng, _ink(rng), blocks=3, lines=3)
        vessel = vessel.under(_wrapped(rng, body, top, top + rng.uniform(0.3, 0.7), printed))
    rim, radius = body.top()
    return vessel.under(_clear(rim * _bump(radius, 0.9, 0.07), tint, wall, 0.3 * np.clip(U + 0.5, 0, 1)))


def _cap(rng: Generator, body: Turned) -> Sprite:
    colour = _ink(rng)
    knurls = 0.8 + 0.12 * np.sin(np.arcsin(body.across) * 40) + 0.3 * _bump(body.across, -0.3, 0.3)
    side = _solid(body.band(-1, body.mouth[0] + rng.uniform(0.1, 0.16)), colour, knurls)
    return side.under(_solid(body.top()[0], colour, 1.05 + 0.15 * U))


def _box(rng: Generator, surface: Array) -> Sprite:
    """A box seen from above one corner, shut with tape or open."""
    a, b, h = rng.uniform(0.35, 0.6, 3)
    top = np.array([(0, -h), (a, a / 2 - h), (a - b, a / 2 + b / 2 - h), (-b, b / 2 - h)])
    shut = rng.random() < 0.5
    box = _solid(_polygon(top), surface, rng.uniform(0.98, 1.1) if shut else 0.4)
    for (i, j), light in zip(((3, 2), (2, 1)), rng.permutation([0.84, 0.62]), strict=True):
        box = box.under(_solid(_polygon([*top[[i, j]], *(top[[j, i]] + (0, h))]), surface, light))
    if shut:
        near, far = (
            top[3] + np.outer((0.42, 0.58), top[2] - top[3]),
            top[0] + np.outer((0.58, 0.42), top[1] - top[0]),
        )
        return box.under(_solid(0.6 * _polygon([*near, *far]), np.array([0.85, 0.76, 0.55])))
    for i, j, out in ((0, 3, (-0.25, -0.15)), (0, 1, (0.25, -0.15)), (3, 2, (-0.2, 0.2))):
        flap = _polygon([*top[[i, j]], *(top[[j, i]] + out + rng.normal(0, 0.02, (2, 2)))])
        box = box.under(_solid(flap, surface, rng.uniform(0.8, 1.1)))
    return box


def _packet(width: float, height: float) -> Array:
    """The outline of something sealed with serrated ends."""
    teeth = [(u, height - 0.05 * (i % 2)) for i, u in enumerate(np.linspace(-width, width, 17))]
    return np.array([*((u, -v) for u, v in teeth), *reversed(teeth)])


def _pick(rng: Generator, **chances: float) -> str:
    weights = np.array(list(chances.values()))
    return str(rng.choice(list(chances), p=weights / weights.sum()))


# --- six classes ----------------------------------------------------------------------------------


def _cardboard(rng: Generator) -> Sprite:
    kind = _pick(rng, sheet=30, torn=25, box=25, roll=20)
    base = _hsv(rng, (0.06, 0.1), (0.2, 0.5), (0.45, 0.8)) if rng.random() < 0.65 else _ink(rng)
    style = _pick(rng, plain=40, stamped=25, colourful=35)
    if style == "colourful":
        printed = _print(rng, base, blocks=4, lines=4, photos=int(rng.integers(2)))
    else:
        printed = _print(rng, base, words=int(style == "stamped"))
    flutes = np.sin(V * rng.uniform(40, 90) + 2 * _noise(rng, 3)) * rng.uniform(0.04, 0.09)
    surface = printed * (1 + flutes + 0.04 * _noise(rng, 60) + 0.05 * _noise(rng, 6))[..., None]
    if kind == "box":
        return _box(rng, surface)
    if kind == "roll":
        return _opaque(rng, _turn(rng, _pick(rng, roll=60, can=20, cup=20), dents=0.02), surface)
    folds, depth = int(rng.integers(1, 7)), rng.uniform(0.05, 0.16)
    if kind == "torn":
        return _sheet(rng, _blob(rng, 0.75, 7), surface, folds=folds, depth=depth, torn=0.012)
    corners = _rectangle(rng, *rng.uniform(0.35, 0.95, 2).tolist())
    sheet = _sheet(rng, corners, surface, folds=folds, depth=depth)
    if rng.random() < 0.6:
        return sheet
    tape = np.clip((rng.uniform(0.06, 0.12) - np.abs(V + rng.uniform(-0.2, 0.2))) * 90, 0, 0.55)
    return sheet.under(_solid(tape * _polygon(corners), np.array([0.85, 0.78, 0.6])))


def _glass(rng: Generator) -> Sprite:
    kind = _pick(rng, beer=25, wine=15, soda=10, jar=25, cup=15, goblet=10)
    tints = np.array(
        [(0.2, 0.45, 0.15), (0.45, 0.2, 0.05), (0.12, 0.2, 0.08), (0.4, 0.5, 0.6), (0.84, 0.88, 0.86)]
    )
    bottle = kind in ("beer", "wine", "soda")
    tint = tints[rng.choice(5, p=[0.22, 0.22, 0.08, 0.08, 0.4] if bottle else [0.03, 0.06, 0, 0.06, 0.85])]
    body = _turn(rng, kind)
    vessel = _vessel(rng, body, tint, wall=1.0, foot=2.0, sharp=1.5)
    capped = rng.random() < {"jar": 0.75, "beer": 0.3, "soda": 0.5}.get(kind, 0)
    return vessel.under(_cap(rng, body)) if capped else vessel


def _plastic(rng: Generator) -> Sprite:
    kind = _pick(rng, soda=28, jar=16, jug=14, cup=16, film=12, tub=14)
    clear = np.array([0.86, 0.9, 0.92])
    if rng.random() < 0.35:
        clear = _hsv(rng, (0, 1), (0.2, 0.7), (0.6, 0.95))
    if kind == "film":
        du, dv = _creases(rng, 16)
        mask = _polygon(_blob(rng, 0.85, 12, 0.12), rng, 0.006)
        glare = 0.6 * _bump(du, rng.normal(), 0.4) * _bump(dv, rng.normal(), 0.4)
        return _clear(mask, clear, np.clip(0.5 + 0.5 * np.hypot(du, dv) + 0.3 * _noise(rng, 5), 0, 3), glare)
    if kind == "tub":
        return _tub(rng, clear)
    ribs, dents = rng.uniform(0.008, 0.02), (0.012, 0.03, 0.06)[rng.integers(3)]
    body = _turn(rng, kind, ribs, dents)
    capped = kind == "jug" or (kind != "cup" and rng.random() < 0.75)
    if kind == "jug" or rng.random() < 0.2:
        surface = _print(rng, _ink(rng), blocks=int(rng.choice([0, 4])), lines=int(rng.choice([0, 6])))
        vessel = _opaque(rng, body, surface, gloss=0.5)
    else:
        vessel = _vessel(rng, body, clear, wall=0.55, foot=0.3, sharp=0.8)
    return vessel.under(_cap(rng, body)) if capped else vessel


def _tub(rng: Generator, tint: Array) -> Sprite:
    """A food tray from above: nested rounded rectangles with ribbed walls."""
    width, height, power = rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.8), rng.uniform(2, 7)
    level = (np.abs(U / width) ** power + np.abs(V / height) ** power) ** (1 / power)
    mask = np.clip((1 - level) * SIDE * 0.3, 0, 1)
    wall = ((level > 0.68) & (level < 0.93)).astype(np.float32)
    ribs = wall * np.sin(np.arctan2(V, U) * int(rng.integers(20, 50)))
    edges = np.sum([_bump(level, at, 0.025) for at in (0.97, 0.88, 0.66, 0.3)], 0)
    glare = 0.35 * edges * np.clip(0.5 + U * rng.normal() + V * rng.normal(), 0, 1)
    glare += 0.12 * np.clip(ribs, 0, 1) + 0.2 * np.abs(_noise(rng, 5))
    if rng.random() < 0.35:
        return _solid(mask, _ink(rng), 0.75 + 0.2 * ribs + 0.5 * glare - 0.15 * wall)
    return _clear(mask, tint, 0.5 + 0.7 * edges + 0.4 * wall + 0.2 * ribs, glare)


def _metal(rng: Generator) -> Sprite:
    kind = _pick(rng, can=32, tin=24, bottle=10, foil=18, round=16)
    hue = np.array([1.0, 1, 1] if rng.random() < 0.75 else [1.05, 0.92, 0.65], np.float32)
    if kind == "foil":
        du, dv = _creases(rng, int(rng.integers(18, 40)))
        mask = _polygon(_blob(rng, rng.uniform(0.5, 0.85), 16), rng, 0.01)
        return _solid(mask, hue, 0.1 + 0.9 * _mirror(du + 0.4 * dv))
    if kind == "round":
        return _lid_or_tray(rng, hue)
    crushed = rng.choice([0.0, 0.01, 0.07], p=[0.5, 0.25, 0.25]).item()
    shape = _pick(rng, beer=1, soda=1, jug=1) if kind == "bottle" else kind
    body = _turn(rng, shape, ribs=0.008 * (kind == "tin" and rng.random() < 0.5), dents=crushed)
    bands = _mirror(1.4 * body.across + rng.uniform(-0.5, 0.5))
    rolled = 0.1 * np.sin(body.along * 45) * (kind == "tin")
    metal = _solid(body.mask, hue, 0.15 + 0.7 * bands + rolled - 0.2 * body.across**8)
    if rng.random() < 0.7:
        top, bottom = {"can": (-0.54, 0.56), "tin": (-0.42, 0.5)}.get(shape, (-0.4, 0.8))
        sleeve = _wrapped(rng, body, top, bottom, _print(rng, _ink(rng), blocks=5, lines=4))
        metal = metal.under(Sprite(sleeve.through, sleeve.own * (0.65 + 0.7 * bands)[..., None]))
    if kind == "bottle":
        return metal.under(_cap(rng, body))
    lid, radius = body.top()
    sheen = 0.55 + 0.2 * np.sin(2 * np.arctan2(V - body.mouth[0], U) + rng.uniform(0, 6))
    return metal.under(_solid(lid, hue, sheen + 0.25 * np.sin(radius * 18) * (radius > 0.6)))


def _lid_or_tray(rng: Generator, hue: Array) -> Sprite:
    mask, radius = _disc(rng.uniform(0.45, 0.8), rng.uniform(0.65, 1))
    angle = np.arctan2(V, U)
    sheen = 0.55 + 0.2 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.12 * np.sin(3 * angle + rng.uniform(0, 6))
    if rng.random() < 0.5:  # a baking tray, its rim crinkled
        rim = np.clip((radius - 0.6) * 20, 0, 1)
        crinkles = rim * np.sin(angle * int(rng.integers(40, 70))) + (1 - rim) * _noise(rng, 6)
        return _solid(mask, hue, sheen + 0.25 * crinkles)
    lid = _solid(mask, hue, sheen + 0.2 * np.sin(radius * rng.uniform(20, 40)) * (radius > 0.55))
    printed = _print(rng, _ink(rng), blocks=3)
    return lid.under(_solid(_disc(0.4)[0] * mask, printed, sheen + 0.4)) if rng.random() < 0.5 else lid


def _paper(rng: Generator) -> Sprite:
    kind = _pick(rng, page=24, magazine=20, ball=20, scrap=14, carton=8, cup=8, bag=6)
    base = _hsv(rng, (0.05, 0.17), (0, 0.1), (0.8, 0.97))
    if rng.random() < 0.35:  # kraft paper, or dyed
        base = _hsv(rng, (0.06, 0.1), (0.2, 0.5), (0.5, 0.8)) if rng.random() < 0.6 else _ink(rng)
    folds, depth = int(rng.integers(1, 7)), rng.uniform(0.03, 0.1)
    if kind == "ball":
        printed = _print(rng, base, lines=int(rng.choice([0, 20])), words=0)
        return _sheet(rng, _blob(rng, rng.uniform(0.5, 0.8), 16), printed, folds=36, depth=0.16, torn=0.008)
    if kind in ("carton", "cup"):
        printed = _print(
            rng, _ink(rng) if rng.random() < 0.6 else base, blocks=int(rng.choice([0, 4])), lines=4
        )
        return (
            _box(rng, printed) if kind == "carton" else _opaque(rng, _turn(rng, "cup", dents=0.01), printed)
        )
    printed = _print(
        rng,
        base,
        blocks=int(rng.integers(0, 4)) * (kind != "page"),
        lines=int(rng.integers(8, 21)) * (kind in ("page", "magazine")),
        photos=int(rng.integers(1, 4)) * (kind == "magazine"),
    )
    if kind == "scrap":
        return _sheet(rng, _blob(rng, 0.75, 7), printed, folds=6, depth=depth, torn=0.012)
    corners = _packet(0.55, 0.85) if kind == "bag" else _rectangle(rng, *rng.uniform(0.5, 0.9, 2).tolist())
    return _sheet(rng, corners, printed, folds=folds + 6 * (kind == "bag"), depth=depth)


def _trash(rng: Generator) -> Sprite:
    kind = _pick(rng, wrapper=36, crisps=22, foam=18, peel=12, tissue=6, tube=6)
    film = _print(rng, _ink(rng), blocks=4, lines=3)
    if kind in ("wrapper", "crisps"):
        return _wrapper(rng, film, *((rng.uniform(0.25, 0.45), 0.85) if kind == "wrapper" else (0.6, 0.8)))
    if kind == "foam":
        beads = (
            0.9 * (1 + 0.09 * _noise(rng, 40) + 0.06 * _noise(rng, 20))[..., None] * np.ones(3, np.float32)
        )
        shape = _pick(rng, box=30, cup=30, broken=40)
        if shape == "broken":
            return _sheet(rng, _blob(rng, 0.75, 9), beads, folds=2, depth=0.06, torn=0.015)
        return _box(rng, beads) if shape == "box" else _opaque(rng, _turn(rng, "cup", dents=0.01), beads)
    if kind == "peel":
        flesh = _hsv(rng, (0.05, 0.2), (0.4, 0.8), (0.45, 0.85))
        mottled = flesh * (1 + 0.2 * _noise(rng, 9) + 0.15 * _noise(rng, 30))[..., None]
        return _sheet(rng, _blob(rng, 0.55, 11, 0.25), mottled, folds=6, depth=0.15, torn=0.01, gloss=0.1)
    if kind == "tissue":
        stain = 0.92 - 0.35 * np.clip(_noise(rng, 4), 0, 1)[..., None] * np.array([0.3, 0.6, 1], np.float32)
        return _sheet(rng, _blob(rng, 0.7, 20, 0.2), stain, folds=24, depth=0.07, torn=0.015)
    body = _turn(rng, "tube", dents=0.06)
    return _opaque(rng, body, film, gloss=0.3).under(_cap(rng, body))


def _wrapper(rng: Generator, film: Array, width: float, height: float) -> Sprite:
    """Printed film; torn open, it is silver inside."""
    depth = rng.uniform(0.1, 0.25)
    packet = _sheet(rng, _packet(width, height), film, folds=14, depth=depth, gloss=0.35)
    if rng.random() < 0.4:
        return packet
    silver = np.full((1, 1, 3), 0.6, np.float32)
    inside = _sheet(rng, _blob(rng, width * 0.9, 9), silver, folds=24, depth=0.35, torn=0.01, gloss=0.3)
    return packet.under(inside.moved(rng.choice([-1, 1]) * height * 0.66))


PAINTERS: dict[str, Callable[[Generator], Sprite]] = {
    "cardboard": _cardboard,
    "glass": _glass,
    "metal": _metal,
    "paper": _paper,
    "plastic": _plastic,
    "trash": _trash,
}
