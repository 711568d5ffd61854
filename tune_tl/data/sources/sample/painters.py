"""The painters of the six classes: each draws one object, of a kind that chance picks, as a `Sprite`.

The classes share shapes, colours and prints on purpose (a glass and a PET bottle, foil and a silver
wrapper, a carton and a cardboard box) and differ by material, so that how deep a network is unfrozen
makes a difference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from tune_tl.data.sources.sample.bodies import (
    box,
    cap,
    opaque_body,
    packet_outline,
    transparent_body,
    turned_body,
    wrapped,
    wrapper,
)
from tune_tl.data.sources.sample.surfaces import (
    SIDE,
    Array,
    Sprite,
    U,
    V,
    blob,
    bump,
    creased_sheet,
    creases,
    disc,
    hsv,
    ink,
    mirror,
    noise,
    polygon,
    printed_surface,
    rectangle,
    solid,
    transparent,
)


def pick(rng: Generator, **chances: float) -> str:
    weights = np.array(list(chances.values()))
    return str(rng.choice(list(chances), p=weights / weights.sum()))


def _cardboard(rng: Generator) -> Sprite:
    kind = pick(rng, sheet=30, torn=25, box=25, roll=20)
    base = hsv(rng, (0.06, 0.1), (0.2, 0.5), (0.45, 0.8)) if rng.random() < 0.65 else ink(rng)
    style = pick(rng, plain=40, stamped=25, colourful=35)
    if style == "colourful":
        printed = printed_surface(rng, base, blocks=4, lines=4, photos=int(rng.integers(2)))
    else:
        printed = printed_surface(rng, base, words=int(style == "stamped"))
    flutes = np.sin(V * rng.uniform(40, 90) + 2 * noise(rng, 3)) * rng.uniform(0.04, 0.09)
    surface = printed * (1 + flutes + 0.04 * noise(rng, 60) + 0.05 * noise(rng, 6))[..., None]
    if kind == "box":
        return box(rng, surface)
    if kind == "roll":
        return opaque_body(rng, turned_body(rng, pick(rng, roll=60, can=20, cup=20), dents=0.02), surface)
    folds, depth = int(rng.integers(1, 7)), rng.uniform(0.05, 0.16)
    if kind == "torn":
        return creased_sheet(rng, blob(rng, 0.75, 7), surface, folds=folds, depth=depth, torn=0.012)
    corners = rectangle(rng, *rng.uniform(0.35, 0.95, 2).tolist())
    sheet = creased_sheet(rng, corners, surface, folds=folds, depth=depth)
    if rng.random() < 0.6:
        return sheet
    tape = np.clip((rng.uniform(0.06, 0.12) - np.abs(V + rng.uniform(-0.2, 0.2))) * 90, 0, 0.55)
    return sheet.under(solid(tape * polygon(corners), np.array([0.85, 0.78, 0.6])))


def _glass(rng: Generator) -> Sprite:
    kind = pick(rng, beer=25, wine=15, soda=10, jar=25, cup=15, goblet=10)
    tints = np.array(
        [(0.2, 0.45, 0.15), (0.45, 0.2, 0.05), (0.12, 0.2, 0.08), (0.4, 0.5, 0.6), (0.84, 0.88, 0.86)]
    )
    bottle = kind in ("beer", "wine", "soda")
    tint = tints[rng.choice(5, p=[0.22, 0.22, 0.08, 0.08, 0.4] if bottle else [0.03, 0.06, 0, 0.06, 0.85])]
    body = turned_body(rng, kind)
    vessel = transparent_body(rng, body, tint, wall=1.0, foot=2.0, sharp=1.5)
    capped = rng.random() < {"jar": 0.75, "beer": 0.3, "soda": 0.5}.get(kind, 0)
    return vessel.under(cap(rng, body)) if capped else vessel


def _plastic(rng: Generator) -> Sprite:
    kind = pick(rng, soda=28, jar=16, jug=14, cup=16, film=12, tub=14)
    clear = np.array([0.86, 0.9, 0.92])
    if rng.random() < 0.35:
        clear = hsv(rng, (0, 1), (0.2, 0.7), (0.6, 0.95))
    if kind == "film":
        du, dv = creases(rng, 16)
        mask = polygon(blob(rng, 0.85, 12, 0.12), rng, 0.006)
        glare = 0.6 * bump(du, rng.normal(), 0.4) * bump(dv, rng.normal(), 0.4)
        return transparent(
            mask, clear, np.clip(0.5 + 0.5 * np.hypot(du, dv) + 0.3 * noise(rng, 5), 0, 3), glare
        )
    if kind == "tub":
        return _tub(rng, clear)
    ribs, dents = rng.uniform(0.008, 0.02), (0.012, 0.03, 0.06)[rng.integers(3)]
    body = turned_body(rng, kind, ribs, dents)
    capped = kind == "jug" or (kind != "cup" and rng.random() < 0.75)
    if kind == "jug" or rng.random() < 0.2:
        surface = printed_surface(
            rng, ink(rng), blocks=int(rng.choice([0, 4])), lines=int(rng.choice([0, 6]))
        )
        vessel = opaque_body(rng, body, surface, gloss=0.5)
    else:
        vessel = transparent_body(rng, body, clear, wall=0.55, foot=0.3, sharp=0.8)
    return vessel.under(cap(rng, body)) if capped else vessel


def _tub(rng: Generator, tint: Array) -> Sprite:
    """A food tray from above: nested rounded rectangles with ribbed walls."""
    width, height, power = rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.8), rng.uniform(2, 7)
    level = (np.abs(U / width) ** power + np.abs(V / height) ** power) ** (1 / power)
    mask = np.clip((1 - level) * SIDE * 0.3, 0, 1)
    wall = ((level > 0.68) & (level < 0.93)).astype(np.float32)
    ribs = wall * np.sin(np.arctan2(V, U) * int(rng.integers(20, 50)))
    edges = np.sum([bump(level, at, 0.025) for at in (0.97, 0.88, 0.66, 0.3)], 0)
    glare = 0.35 * edges * np.clip(0.5 + U * rng.normal() + V * rng.normal(), 0, 1)
    glare += 0.12 * np.clip(ribs, 0, 1) + 0.2 * np.abs(noise(rng, 5))
    if rng.random() < 0.35:
        return solid(mask, ink(rng), 0.75 + 0.2 * ribs + 0.5 * glare - 0.15 * wall)
    return transparent(mask, tint, 0.5 + 0.7 * edges + 0.4 * wall + 0.2 * ribs, glare)


def _metal(rng: Generator) -> Sprite:
    kind = pick(rng, can=32, tin=24, bottle=10, foil=18, round=16)
    hue = np.array([1.0, 1, 1] if rng.random() < 0.75 else [1.05, 0.92, 0.65], np.float32)
    if kind == "foil":
        du, dv = creases(rng, int(rng.integers(18, 40)))
        mask = polygon(blob(rng, rng.uniform(0.5, 0.85), 16), rng, 0.01)
        return solid(mask, hue, 0.1 + 0.9 * mirror(du + 0.4 * dv))
    if kind == "round":
        return _lid_or_tray(rng, hue)
    crushed = rng.choice([0.0, 0.01, 0.07], p=[0.5, 0.25, 0.25]).item()
    shape = pick(rng, beer=1, soda=1, jug=1) if kind == "bottle" else kind
    body = turned_body(rng, shape, ribs=0.008 * (kind == "tin" and rng.random() < 0.5), dents=crushed)
    bands = mirror(1.4 * body.across + rng.uniform(-0.5, 0.5))
    rolled = 0.1 * np.sin(body.along * 45) * (kind == "tin")
    metal = solid(body.mask, hue, 0.15 + 0.7 * bands + rolled - 0.2 * body.across**8)
    if rng.random() < 0.7:
        top, bottom = {"can": (-0.54, 0.56), "tin": (-0.42, 0.5)}.get(shape, (-0.4, 0.8))
        sleeve = wrapped(rng, body, top, bottom, printed_surface(rng, ink(rng), blocks=5, lines=4))
        metal = metal.under(Sprite(sleeve.through, sleeve.own * (0.65 + 0.7 * bands)[..., None]))
    if kind == "bottle":
        return metal.under(cap(rng, body))
    lid, radius = body.top()
    sheen = 0.55 + 0.2 * np.sin(2 * np.arctan2(V - body.mouth[0], U) + rng.uniform(0, 6))
    return metal.under(solid(lid, hue, sheen + 0.25 * np.sin(radius * 18) * (radius > 0.6)))


def _lid_or_tray(rng: Generator, hue: Array) -> Sprite:
    mask, radius = disc(rng.uniform(0.45, 0.8), rng.uniform(0.65, 1))
    angle = np.arctan2(V, U)
    sheen = 0.55 + 0.2 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.12 * np.sin(3 * angle + rng.uniform(0, 6))
    if rng.random() < 0.5:  # a baking tray, its rim crinkled
        rim = np.clip((radius - 0.6) * 20, 0, 1)
        crinkles = rim * np.sin(angle * int(rng.integers(40, 70))) + (1 - rim) * noise(rng, 6)
        return solid(mask, hue, sheen + 0.25 * crinkles)
    lid = solid(mask, hue, sheen + 0.2 * np.sin(radius * rng.uniform(20, 40)) * (radius > 0.55))
    printed = printed_surface(rng, ink(rng), blocks=3)
    return lid.under(solid(disc(0.4)[0] * mask, printed, sheen + 0.4)) if rng.random() < 0.5 else lid


def _paper(rng: Generator) -> Sprite:
    kind = pick(rng, page=24, magazine=20, ball=20, scrap=14, carton=8, cup=8, bag=6)
    base = hsv(rng, (0.05, 0.17), (0, 0.1), (0.8, 0.97))
    if rng.random() < 0.35:  # kraft paper, or dyed
        base = hsv(rng, (0.06, 0.1), (0.2, 0.5), (0.5, 0.8)) if rng.random() < 0.6 else ink(rng)
    folds, depth = int(rng.integers(1, 7)), rng.uniform(0.03, 0.1)
    if kind == "ball":
        printed = printed_surface(rng, base, lines=int(rng.choice([0, 20])), words=0)
        return creased_sheet(
            rng, blob(rng, rng.uniform(0.5, 0.8), 16), printed, folds=36, depth=0.16, torn=0.008
        )
    if kind in ("carton", "cup"):
        printed = printed_surface(
            rng, ink(rng) if rng.random() < 0.6 else base, blocks=int(rng.choice([0, 4])), lines=4
        )
        return (
            box(rng, printed)
            if kind == "carton"
            else opaque_body(rng, turned_body(rng, "cup", dents=0.01), printed)
        )
    printed = printed_surface(
        rng,
        base,
        blocks=int(rng.integers(0, 4)) * (kind != "page"),
        lines=int(rng.integers(8, 21)) * (kind in ("page", "magazine")),
        photos=int(rng.integers(1, 4)) * (kind == "magazine"),
    )
    if kind == "scrap":
        return creased_sheet(rng, blob(rng, 0.75, 7), printed, folds=6, depth=depth, torn=0.012)
    corners = (
        packet_outline(0.55, 0.85) if kind == "bag" else rectangle(rng, *rng.uniform(0.5, 0.9, 2).tolist())
    )
    return creased_sheet(rng, corners, printed, folds=folds + 6 * (kind == "bag"), depth=depth)


def _trash(rng: Generator) -> Sprite:
    kind = pick(rng, wrapper=36, crisps=22, foam=18, peel=12, tissue=6, tube=6)
    film = printed_surface(rng, ink(rng), blocks=4, lines=3)
    if kind in ("wrapper", "crisps"):
        return wrapper(rng, film, *((rng.uniform(0.25, 0.45), 0.85) if kind == "wrapper" else (0.6, 0.8)))
    if kind == "foam":
        beads = 0.9 * (1 + 0.09 * noise(rng, 40) + 0.06 * noise(rng, 20))[..., None] * np.ones(3, np.float32)
        shape = pick(rng, box=30, cup=30, broken=40)
        if shape == "broken":
            return creased_sheet(rng, blob(rng, 0.75, 9), beads, folds=2, depth=0.06, torn=0.015)
        return (
            box(rng, beads)
            if shape == "box"
            else opaque_body(rng, turned_body(rng, "cup", dents=0.01), beads)
        )
    if kind == "peel":
        flesh = hsv(rng, (0.05, 0.2), (0.4, 0.8), (0.45, 0.85))
        mottled = flesh * (1 + 0.2 * noise(rng, 9) + 0.15 * noise(rng, 30))[..., None]
        return creased_sheet(
            rng, blob(rng, 0.55, 11, 0.25), mottled, folds=6, depth=0.15, torn=0.01, gloss=0.1
        )
    if kind == "tissue":
        stain = 0.92 - 0.35 * np.clip(noise(rng, 4), 0, 1)[..., None] * np.array([0.3, 0.6, 1], np.float32)
        return creased_sheet(rng, blob(rng, 0.7, 20, 0.2), stain, folds=24, depth=0.07, torn=0.015)
    body = turned_body(rng, "tube", dents=0.06)
    return opaque_body(rng, body, film, gloss=0.3).under(cap(rng, body))


PAINTERS: dict[str, Callable[[Generator], Sprite]] = {
    "cardboard": _cardboard,
    "glass": _glass,
    "metal": _metal,
    "paper": _paper,
    "plastic": _plastic,
    "trash": _trash,
}
