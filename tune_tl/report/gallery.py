"""Pictures of the champion's answers on test: the map of its embeddings, and its most confident mistakes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tune_tl.report.theme import GRID, INK, MUTED, PAPER, Picture, clip
from tune_tl.results.look import Look

# Ten colours that stand out from white and from black, most of them of Paul Tol's schemes for the
# colour-blind (https://sronpersonalpages.nl/~pault/); the ten markers say it a second time.
_COLOURS = ("#4f86c6", "#ee7733", "#2a9545", "#b8468b", "#33bbee", "#c0a000", "#ee6677", "#8c8c8c", "#44aa99",
            "#8866cc")  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
FEW = len(_COLOURS)  # classes up to which each has a colour of its own, and a line in the legend
MANY = 100  # mistakes in the map above which their rings are finer
COLUMNS = 6  # of the contact sheet
_Places = NDArray[np.float64]


def embeddings(look: Look, classes: tuple[str, ...]) -> Picture:
    """The test images by what the champion's last layer is given of them, t-SNE in two dimensions."""
    here: NDArray[np.bool_] = np.isfinite(look.places[:, 0])
    places, labels = look.places[here].astype(np.float64), look.labels[here]
    wrong, guesses = look.wrong[here], look.predicted[here]
    present = [int(label) for label in np.unique(labels)]
    shown = sorted({*present, *guesses[wrong].tolist()})  # none of one class may be there, but taken for it
    few = len(classes) <= FEW
    width, height = (9.0, 6.6) if few else (10.5, 8.6)
    size, reach = (10.0, 1.0) if few else (7.5, 0.5)  # of the names in points, to their groups in inches

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        inches = _in_inches(places, width - 0.6, height - (1.1 if few else 0.8))
        for label in present:
            mine = labels == label
            style: dict[str, Any] = {
                "linestyle": "",
                "marker": _MARKERS[label % FEW if few else (label // FEW) % FEW],
            }
            style |= {"color": _COLOURS[label % FEW], "markeredgewidth": 0}
            axes.plot(*inches[mine & ~wrong].T, alpha=0.7, markersize=5.5, **style)
            axes.plot(*inches[mine & wrong].T, markersize=6.5, zorder=3, **style)
        rings = (12, 1.8) if few and wrong.sum() <= MANY else (9, 1.0)  # points, and how thick
        for guess in np.unique(guesses[wrong]):
            ring = _COLOURS[guess % FEW] if few else INK
            axes.plot(
                *inches[wrong & (guesses == guess)].T, marker="o", linestyle="", fillstyle="none", color=ring,
                markersize=rings[0], markeredgewidth=rings[1], zorder=4,
            )  # fmt: skip
        names = [clip(classes[label], 26) for label in present]
        anchors = np.array([_densest(inches[labels == label]) for label in present])
        half = np.array([(0.31 * len(name) * size / 72 + 0.06, 0.8 * size / 72 + 0.02) for name in names])
        spots = _apart(_beside(anchors, half, inches, wrong, reach), half, inches)
        for label, name, anchor, at in zip(present, names, anchors, spots, strict=True):
            axes.annotate(
                name, anchor, xytext=at, ha="center", va="center", size=size, weight="bold", zorder=6,
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
                bbox={"boxstyle": "round,pad=0.25", "facecolor": PAPER, "alpha": 0.85,
                      "edgecolor": _COLOURS[label % FEW], "linewidth": 1.4},
            )  # fmt: skip
        axes.set(xticks=[], yticks=[], aspect="equal")  # they have no unit
        axes.set_xlabel("near means alike; how far groups are from each other means nothing", size=9)
        axes.margins(0.04)
        for spine in axes.spines.values():
            spine.set(visible=True, color=GRID)
        handles = _legend(classes, shown, few)
        longest = max(len(line) for handle in handles for line in str(handle.get_label()).splitlines())
        columns = max(1, int(width / (0.075 * longest + 0.5)))  # inches, about
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8.5)

    drawn = (
        f"{len(labels)} of {len(here)} test images" if len(labels) < len(here) else f"{len(here)} test images"
    )
    subtitle = f"what the last layer of champion {look.trial} is given of {drawn}, flattened by t-SNE"
    return Picture("embeddings", "How the champion sees the test images", subtitle, (width, height), draw)


def mistakes(look: Look, classes: tuple[str, ...]) -> Picture:
    """The contact sheet of the most confident mistakes; there must be one."""
    rows = -(-len(look.mistakes) // COLUMNS)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, image, row in zip(grid, look.thumbnails, look.mistakes, strict=False):
            axes.imshow(image, interpolation="lanczos")
            true, guess = (clip(classes[index], 17) for index in (look.labels[row], look.predicted[row]))
            below: dict[str, Any] = {"transform": axes.transAxes, "size": 7, "ha": "center", "va": "top"}
            axes.text(0.5, -0.04, true, color=MUTED, **below)
            axes.text(0.5, -0.17, f"→ {guess}", weight="bold", **below)
            sure: dict[str, Any] = {
                "facecolor": INK,
                "alpha": 0.75,
                "boxstyle": "round,pad=0.25",
                "linewidth": 0,
            }
            axes.text(
                0.03, 0.97, percent(look.confidence[row]), transform=axes.transAxes, size=8, va="top",
                color=PAPER, bbox=sure,
            )  # fmt: skip

    return Picture("mistakes", MISTAKES_TITLE, mistakes_subtitle(look), (10.2, 2.05 * rows), draw)


MISTAKES_TITLE = "Its most confident mistakes"


def mistakes_subtitle(look: Look) -> str:
    """What the contact sheet shows, in a line; also where there is no mistake to show."""
    wrong = int(look.wrong.sum())
    if not wrong:
        return f"none: the champion takes each of the {len(look.labels)} test images for what it is"
    shown = f"the {len(look.mistakes)} surest of " if len(look.mistakes) < wrong else ""
    count = f"{shown}{wrong} mistake{'s' * (wrong != 1)}"
    return (
        f"{count} on {len(look.labels)} test images: the true class → what "
        "the champion takes it for, and how probable it finds that"
    )


def percent(share: float) -> str:
    """`97 %`; never 100 % for what is less."""
    return f"{min(99.9, 100 * share):.1f} %" if share > 0.995 else f"{100 * share:.0f} %"


def _legend(classes: tuple[str, ...], shown: list[int], few: bool) -> list[Line2D]:
    point: dict[str, Any] = {"marker": "o", "linestyle": ""}
    ring = point | {"color": INK, "fillstyle": "none", "markersize": 10}
    if not few:
        dot = point | {"color": MUTED, "markersize": 5}
        return [
            Line2D([], [], label="a test image, in the colour and shape of its true class", **dot),
            Line2D([], [], label="taken for another class", **ring),
        ]
    handles = [
        Line2D([], [], color=_COLOURS[i], marker=_MARKERS[i], linestyle="", label=clip(classes[i], 20))
        for i in shown
    ]
    taken = "ring: taken for\nthe class of its colour"
    return [*handles, Line2D([], [], markeredgewidth=1.8, label=taken, **ring)]


def _in_inches(places: _Places, width: float, height: float) -> _Places:
    """The places turned to their longest way and stretched to a frame, both axes by as much."""
    middle = places - places.mean(axis=0)
    turned = middle @ np.linalg.svd(middle, full_matrices=False)[2].T if len(places) > 1 else middle
    span = np.maximum(np.ptp(turned, axis=0), 1e-9)
    found: _Places = (turned - turned.min(axis=0)) * min(width / span[0], height / span[1])
    return found


def _densest(places: _Places) -> _Places:
    """The place with the nearest neighbours: in the middle of a class's largest group."""
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = min(len(places) - 1, 10)
    chosen: _Places = places[np.sort(away, axis=1)[:, near].argmin()]
    return chosen


def _beside(
    anchors: _Places, half: _Places, places: _Places, wrong: NDArray[np.bool_], reach: float
) -> _Places:
    """Where each name covers few images, mistakes least of all, near its anchor; all in inches."""
    steps = np.linspace(-reach, reach, 11)
    offsets = np.stack(np.meshgrid(steps, 0.8 * steps), axis=-1).reshape(-1, 2)
    weights, chosen = 1 + 3.0 * wrong, anchors.copy()
    for i, anchor in enumerate(anchors):
        centres = np.clip(anchor + offsets, places.min(axis=0) + half[i], places.max(axis=0) - half[i])
        covered = (np.abs(centres[:, None] - places[None]) < half[i] + 0.05).all(axis=2) @ weights
        chosen[i] = centres[(covered + 8 * np.linalg.norm(centres - anchor, axis=1)).argmin()]
    return chosen


def _apart(centres: _Places, half: _Places, places: _Places) -> _Places:
    """The boxes of half the sizes `half` around `centres`, moved so that none covers another."""
    at = centres.copy()
    low, high = places.min(axis=0) + half, places.max(axis=0) - half
    for _ in range(100):
        moved = False
        for a, b in combinations(range(len(at)), 2):
            apart = at[b] - at[a]
            over = half[a] + half[b] - np.abs(apart)
            if (over > 1e-6).all():
                axis = int(over.argmin())
                step = over[axis] / 2 * (1 if apart[axis] >= 0 else -1)
                at[a, axis] -= step
                at[b, axis] += step
                moved = True
        at = np.clip(at, np.minimum(low, high), np.maximum(low, high))
        if not moved:
            break
    return at
