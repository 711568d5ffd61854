"""What drawn objects are made of: sprites, shapes, colours, creases and prints.

Lengths count from the centre in half sides: u and v run from -1 to 1, v downwards. All arrays are
(SIDE, SIDE), or (SIDE, SIDE, 3) where coloured.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[Any]  # float32 or float64
Corners = Sequence[tuple[float, float]]

SIDE = 256  # of a sprite, pixels
V, U = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
WORDS = [
    "COLA", "TUNA", "SOUP", "500ml", "MILK", "OLIVE",
    "CRISPS", "BIO", "1BJ", "FRAGILE", "SALE", "50%", "NEWS",
]  # fmt: skip
INKS = np.array([
    (0.76, 0.12, 0.14), (0.10, 0.25, 0.60), (0.05, 0.45, 0.30), (0.95, 0.75, 0.12), (0.92, 0.45, 0.10),
    (0.36, 0.16, 0.45), (0.10, 0.10, 0.12), (0.50, 0.72, 0.88), (0.90, 0.62, 0.70), (0.50, 0.70, 0.30),
    (0.48, 0.30, 0.16), (0.94, 0.91, 0.84), (0.12, 0.50, 0.55), (0.62, 0.64, 0.66),
], np.float32)  # fmt: skip


class Sprite(NamedTuple):
    """An object as what it does to light: seen = behind * through + own. Both (SIDE, SIDE, 3), 0 to 1."""

    through: Array
    own: Array

    def under(self, top: Sprite) -> Sprite:
        return Sprite(self.through * top.through, self.own * top.through + top.own)

    def moved(self, down: float) -> Sprite:
        shift = int(down * SIDE / 2)
        return Sprite(np.roll(self.through, shift, 0), np.roll(self.own, shift, 0))


def to_image(values: Array) -> Image.Image:
    return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))


def noise(rng: Generator, cells: int, size: tuple[int, int] = (SIDE, SIDE)) -> Array:
    """Smooth noise in about -1 to 1; `cells` bumps a side."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))


def ink(rng: Generator) -> Array:
    varied: Array = INKS[rng.integers(len(INKS))] * rng.uniform(0.8, 1.2) + rng.normal(0, 0.04, 3)
    return varied.clip(0.03, 0.97).astype(np.float32)


def hsv(rng: Generator, *ranges: tuple[float, float]) -> Array:
    """A colour from ranges of hue, saturation and value."""
    hue, saturation, value = (rng.uniform(low, high) for low, high in ranges)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)


def bump(values: Array, centre: float, width: float) -> Array:
    bump: Array = np.exp(-(((values - centre) / width) ** 2))
    return bump


def polygon(corners: Corners | Array, rng: Generator | None = None, torn: float = 0.0) -> Array:
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


def rectangle(rng: Generator, width: float, height: float) -> Array:
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width, height) + rng.normal(0, 0.05, (4, 2))


def blob(rng: Generator, size: float, points: int = 14, spread: float = 0.14) -> Array:
    radii, squash = size * rng.uniform(1 - 2 * spread, 1 + spread, points), rng.uniform(0.6, 1)
    turns = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([radii * np.cos(turns), squash * radii * np.sin(turns)], 1)


def disc(radius: float, squash: float = 1.0, centre: float = 0.0) -> tuple[Array, Array]:
    """Coverage of an ellipse, and every point's distance from its centre as a part of its radius."""
    distance = np.hypot(U / radius, (V - centre) / (radius * squash))
    return np.clip((1 - distance) * radius * squash * SIDE / 2, 0, 1), distance


def creases(rng: Generator, folds: int) -> tuple[Array, Array]:
    """The slopes (along u, along v) of something folded along random lines, of about unit variance."""
    u, v = (axis[::2, ::2] + 0.1 * noise(rng, 7, (SIDE // 2, SIDE // 2)) for axis in (U, V))
    du, dv = np.zeros_like(u), np.zeros_like(u)
    for _ in range(folds):
        turn, weight = rng.uniform(0, np.pi), rng.exponential(folds**-0.5)
        side = np.clip((u * math.cos(turn) + v * math.sin(turn) - rng.uniform(-0.9, 0.9)) * 30, -1, 1)
        du += side * (weight * math.cos(turn))
        dv += side * (weight * math.sin(turn))
    du, dv = (np.asarray(Image.fromarray(slope).resize((SIDE, SIDE))) for slope in (du, dv))
    return du, dv


def solid(mask: Array, colour: Array, shade: Array | float = 1.0) -> Sprite:
    cover = mask.astype(np.float32)[..., None]
    own = (cover * np.asarray(shade, np.float32)[..., None]) * colour.astype(np.float32)
    return Sprite(np.broadcast_to(1 - cover, own.shape), own)


def transparent(mask: Array, tint: Array, thickness: Array | float, glare: Array | float) -> Sprite:
    """A body that lets light through: `tint` is what a thickness of 1 passes, `glare` what it mirrors."""
    depth = np.broadcast_to(np.asarray(thickness, np.float32), mask.shape)[..., None]
    passed = np.exp(depth * np.log(tint).astype(np.float32))
    own = np.broadcast_to((mask * glare).astype(np.float32)[..., None], passed.shape)
    return Sprite(1 - mask[..., None].astype(np.float32) * (1 - passed), own)


def mirror(slope: Array) -> Array:
    """What polished metal shows where its surface leans by `slope`: a room of bright and dark bands."""
    room: Array = 0.5 + 0.3 * np.sin(2.6 * slope + 0.6) + 0.2 * np.sin(6.3 * slope)
    return room


def creased_sheet(
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
    du, dv = creases(rng, folds)
    turn = rng.uniform(0, 2 * np.pi)
    lean = du * np.cos(turn) + dv * np.sin(turn)
    flat = solid(polygon(corners, rng, torn), surface, 1 + depth * lean)
    glint = gloss * bump(lean, rng.normal(), 0.3)
    return Sprite(flat.through, flat.own + (1 - flat.through) * glint[..., None])


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def printed_surface(
    rng: Generator, paper: Array, *, blocks: int = 0, lines: int = 0, photos: int = 0, words: int = 1
) -> Array:
    """A printed surface, coloured: blocks of ink, photographs, lines of small text and big words."""
    scheme = [tuple(int(255 * c) for c in ink(rng)) for _ in range(3)]
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
        light = noise(rng, 4, (w, h)) + 0.5 * noise(rng, 12, (w, h))
        corner = tuple(rng.integers(10, SIDE - 60, 2).tolist())
        sheet.paste(to_image(ink(rng) + 0.35 * light[..., None]), corner)
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
