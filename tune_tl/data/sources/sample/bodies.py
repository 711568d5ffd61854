"""Bodies that drawn objects share: turned ones, such as bottles and cans, boxes and packets."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from tune_tl.data.sources.sample.surfaces import (
    SIDE,
    Array,
    Corners,
    Sprite,
    U,
    V,
    blob,
    bump,
    creased_sheet,
    disc,
    ink,
    noise,
    polygon,
    printed_surface,
    solid,
    transparent,
)

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


class Turned(NamedTuple):
    """A body of revolution seen from the side and a little from above."""

    mask: Array
    across: Array  # -1 at its left edge, 1 at its right
    along: Array  # v, bent as rings around the body are
    foot: float  # v of its lower end
    mouth: tuple[float, float, float]  # v, radius and squash of its upper end

    def top(self, shrink: float = 1.0) -> tuple[Array, Array]:
        v, radius, squash = self.mouth
        return disc(radius * shrink, squash, v)

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
            glare += rng.uniform(0.25, 0.8) * bump(self.across, rng.uniform(-0.8, 0.8), width)
        return glare


def turned_body(rng: Generator, shape: str, ribs: float = 0.0, dents: float = 0.0) -> Turned:
    heights, radii = np.array(PROFILES[shape]).T
    radii = radii * rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, len(radii))
    heights = heights * rng.uniform(0.88, 1)
    smoothed = np.convolve(np.pad(np.interp(V[:, 0], heights, radii), 6, "edge"), np.ones(13) / 13, "valid")
    smoothed += ribs * np.sin(V[:, 0] * rng.uniform(30, 50)) * (smoothed > 0.2)
    rows = smoothed[:, None].astype(np.float32)
    first, last, squash = float(heights[0]), float(heights[-1]), rng.uniform(0.06, 0.35)
    across = (U + dents * noise(rng, 5)) / rows
    along = V - squash * rows * np.sqrt(np.clip(1 - across**2, 0, 1)) + dents * noise(rng, 4)
    inside = np.minimum((1 - np.abs(across)) * rows, np.minimum(along - first, last - along))
    mask = np.clip(inside * SIDE / 2, 0, 1)
    return Turned(mask, np.clip(across, -1, 1), along, last, (first, float(radii[0]), squash))


def wrapped(rng: Generator, body: Turned, top: float, bottom: float, printed: Array) -> Sprite:
    """`printed` as a label around `body` between two heights."""
    turned = np.arcsin(body.across) * (1 / math.pi) + rng.uniform(0.5, 1.5)
    x = (turned * (SIDE - 1)).astype(int) % SIDE
    y = np.clip((body.along - top) / (bottom - top) * (SIDE - 1), 0, SIDE - 1).astype(int)
    return solid(body.band(top, bottom), printed[y, x], body.round(rng.uniform(-0.4, 0.4)))


def opaque_body(
    rng: Generator, body: Turned, surface: Array, *, gloss: float = 0.0, open_: bool = True
) -> Sprite:
    """Something turned with one surface all over, such as a cup, a jug or a cardboard roll."""
    side = wrapped(rng, body, -1, 1, surface)
    glare = gloss * body.mask * body.streaks(rng, 2, 0.8)
    side = Sprite(side.through, side.own + glare[..., None])
    colour = surface[::64, ::64].mean((0, 1))
    vessel = side.under(solid(body.top()[0], colour, 1.1))
    return vessel.under(solid(body.top(0.9)[0], colour, 0.6 - 0.4 * V)) if open_ else vessel


def transparent_body(
    rng: Generator, body: Turned, tint: Array, *, wall: float, foot: float, sharp: float
) -> Sprite:
    """Something transparent with mirrored lamps, perhaps half full, perhaps with a label."""
    thickness = wall * (0.35 + 1.2 * np.abs(body.across) ** 5 + foot * bump(body.along, body.foot, 0.08))
    glare = body.streaks(rng, int(rng.integers(2, 5)), sharp) * (0.7 + 0.4 * noise(rng, 3))
    uneven = thickness + 0.12 * np.abs(noise(rng, 7))
    vessel = transparent(body.mask, tint, uneven, 0.75 * np.clip(glare, 0, 1))
    if rng.random() < 0.2:
        vessel = transparent(body.band(rng.uniform(-0.1, 0.4), 1), ink(rng), 1.0, 0.0).under(vessel)
    if rng.random() < 0.5:
        top = rng.uniform(-0.2, 0.1)
        printed = printed_surface(rng, ink(rng), blocks=3, lines=3)
        vessel = vessel.under(wrapped(rng, body, top, top + rng.uniform(0.3, 0.7), printed))
    rim, radius = body.top()
    return vessel.under(transparent(rim * bump(radius, 0.9, 0.07), tint, wall, 0.3 * np.clip(U + 0.5, 0, 1)))


def cap(rng: Generator, body: Turned) -> Sprite:
    colour = ink(rng)
    knurls = 0.8 + 0.12 * np.sin(np.arcsin(body.across) * 40) + 0.3 * bump(body.across, -0.3, 0.3)
    side = solid(body.band(-1, body.mouth[0] + rng.uniform(0.1, 0.16)), colour, knurls)
    return side.under(solid(body.top()[0], colour, 1.05 + 0.15 * U))


def box(rng: Generator, surface: Array) -> Sprite:
    """A box seen from above one corner, shut with tape or open."""
    a, b, h = rng.uniform(0.35, 0.6, 3)
    top = np.array([(0, -h), (a, a / 2 - h), (a - b, a / 2 + b / 2 - h), (-b, b / 2 - h)])
    shut = rng.random() < 0.5
    box = solid(polygon(top), surface, rng.uniform(0.98, 1.1) if shut else 0.4)
    for (i, j), light in zip(((3, 2), (2, 1)), rng.permutation([0.84, 0.62]), strict=True):
        box = box.under(solid(polygon([*top[[i, j]], *(top[[j, i]] + (0, h))]), surface, light))
    if shut:
        near, far = (
            top[3] + np.outer((0.42, 0.58), top[2] - top[3]),
            top[0] + np.outer((0.58, 0.42), top[1] - top[0]),
        )
        return box.under(solid(0.6 * polygon([*near, *far]), np.array([0.85, 0.76, 0.55])))
    for i, j, out in ((0, 3, (-0.25, -0.15)), (0, 1, (0.25, -0.15)), (3, 2, (-0.2, 0.2))):
        flap = polygon([*top[[i, j]], *(top[[j, i]] + out + rng.normal(0, 0.02, (2, 2)))])
        box = box.under(solid(flap, surface, rng.uniform(0.8, 1.1)))
    return box


def packet_outline(width: float, height: float) -> Array:
    """The outline of something sealed with serrated ends."""
    teeth = [(u, height - 0.05 * (i % 2)) for i, u in enumerate(np.linspace(-width, width, 17))]
    return np.array([*((u, -v) for u, v in teeth), *reversed(teeth)])


def wrapper(rng: Generator, film: Array, width: float, height: float) -> Sprite:
    """Printed film; torn open, it is silver inside."""
    depth = rng.uniform(0.1, 0.25)
    packet = creased_sheet(rng, packet_outline(width, height), film, folds=14, depth=depth, gloss=0.35)
    if rng.random() < 0.4:
        return packet
    silver = np.full((1, 1, 3), 0.6, np.float32)
    inside = creased_sheet(rng, blob(rng, width * 0.9, 9), silver, folds=24, depth=0.35, torn=0.01, gloss=0.3)
    return packet.under(inside.moved(rng.choice([-1, 1]) * height * 0.66))
