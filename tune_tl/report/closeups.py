"""Pictures of single trials: the learning curves of the finalists, the confusion matrix of the champion."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tune_tl.report.theme import (
    CELL,
    COLOUR,
    GRID,
    INK,
    MARKER,
    MUTED,
    ON_CELL,
    PAPER,
    WARNING,
    Picture,
    clip,
    f1_limits,
)
from tune_tl.results.ranking import Leaderboard, Row

GAP = WARNING
TOP = 4  # trials whose learning curves are drawn
CONFUSIONS = 3  # pairs that are named
COUNTED = 30  # classes up to which every cell shows its count


def learning_curves(board: Leaderboard) -> Picture:
    """Loss and F1 over the epochs: of the finalists, before there are any of the best trials."""
    rows = board.finalists or board.rows[:TOP]
    last = max(row.result.epochs[-1].epoch for row in rows)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False)
        for (above, below), row in zip(grid.T, rows, strict=True):
            epochs = [e.epoch for e in row.result.epochs]
            style = {"marker": MARKER[row.transfer], "color": COLOUR[row.transfer], "markersize": 4.0}
            above.plot(epochs, [e.train_loss for e in row.result.epochs], linestyle="--", alpha=0.6, **style)
            above.plot(epochs, [e.val_loss for e in row.result.epochs], **style)
            below.plot(epochs, [e.val_f1 for e in row.result.epochs], **style)
            for axes in (above, below):
                axes.axvline(row.best.epoch, color=MUTED, linewidth=1, linestyle=":")
            scores = ""
            if row.train:
                _gap(above, row, row.train.loss, row.best.val_loss, last)
                _gap(below, row, row.train.f1, row.val_f1, last)
                test = f" · test {row.test.f1:.3f}" if row.test else ""
                scores = f"\n\ntrain {row.train.f1:.3f} · val {row.val_f1:.3f}{test}\ngap {row.gap:+.3f}"
            else:
                below.annotate(
                    f"{row.val_f1:.3f}", (row.best.epoch, row.val_f1), xytext=(-5, 6), size=9, weight="bold",
                    textcoords="offset points", ha="right" if row.best.epoch > (1 + last) / 2 else "left",
                )  # fmt: skip
            depth = "" if row.config.unfreeze in (0, "all") else f" {row.config.unfreeze}"
            name = clip(row.config.backbone, 22)
            above.set_title(f"#{row.rank}  {name}\n{row.transfer.value}{depth}", size=9, loc="left")
            below.set(xlim=(0.5, last + 0.5))
            below.set_xlabel(f"epoch{scores}", linespacing=1.25)
            below.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        losses = [loss for row in rows for e in row.result.epochs for loss in (e.train_loss, e.val_loss)]
        grid[0, 0].set(
            ylabel="loss (nats an image)", ylim=(0, 1.08 * max(filter(np.isfinite, losses), default=1))
        )
        grid[1, 0].set_ylabel("macro-F1")
        val_f1s = [e.val_f1 for row in rows for e in row.result.epochs]
        f1_limits(grid[1, 0], [*val_f1s, *(row.train.f1 for row in rows if row.train)], vertical=True)
        measured = any(row.train for row in rows)
        figure.legend(
            handles=_curves_legend(measured),
            loc="outside lower center",
            ncols=3 if len(rows) > 2 else 2,
            fontsize=8.5,
        )

    size = (max(7.4, 2.6 * len(rows) + 0.8), 6.2)
    best = f"the best {len(rows)} trials" if len(rows) > 1 else "the best trial"
    if board.finalists:
        best = "the best trial of each transfer strategy,\n"
        best += "and how much better its kept weights do on images that they were trained on"
    return Picture("learning_curves", "Learning curves and overfitting", best, size, draw)


def _gap(axes: Axes, row: Row, train: float, val: float, last: int) -> None:
    """What lies between train and validation for the kept weights, both measured alike."""
    epoch, side = row.best.epoch, 0.03 * last
    axes.fill_between([epoch - side, epoch + side], train, val, color=GAP, alpha=0.35, linewidth=0)
    axes.plot(
        epoch, train, marker=MARKER[row.transfer], color=COLOUR[row.transfer], markersize=7, fillstyle="none",
        markeredgewidth=1.6, linestyle="", clip_on=False, zorder=4,
    )  # fmt: skip


def _curves_legend(measured: bool) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=MUTED, label="validation"),
        Line2D([], [], color=MUTED, linestyle="--", label="train, while it learns: not comparable"),
        Line2D([], [], color=MUTED, linestyle=":", label="epoch whose weights were kept"),
    ]
    if measured:
        plain: dict[str, Any] = {"color": MUTED, "marker": "o", "fillstyle": "none", "linestyle": ""}
        handles += [
            Line2D([], [], markersize=7, label="kept weights on plain train images", **plain),
            Patch(facecolor=GAP, alpha=0.35, label="gap to validation: overfitting"),
        ]
    return handles


def confusion_matrix(champion: Row) -> Picture:
    test = champion.test
    assert test is not None
    counts = np.array(test.confusion, dtype=float)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    names = [clip(row.name, 24) for row in test.report]
    true = [name if row.support else f"{name} (none)" for name, row in zip(names, test.report, strict=True)]
    classes = len(names)
    grid = float(np.clip(0.5 * classes, 3.2, 10))  # inches
    size = float(np.clip(0.5 * 72 * grid / classes, 3.5, 10))  # points
    label = max(map(len, true)) * 0.62 * size / 72  # inches, about
    fits = label < 0.95 * grid / classes

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        # From transparent, not from white, so that empty cells take the page's own background.
        ramp = LinearSegmentedColormap.from_list("share", [to_rgba(CELL, 0.03), to_rgba(CELL, 1.0)])
        # Where no cell shows its count, its colour has to tell a few from none.
        norm = Normalize(0, 1) if classes <= COUNTED else PowerNorm(0.5, 0, 1)
        cells = axes.pcolormesh(
            share, cmap=ramp, norm=norm, edgecolors=PAPER, linewidth=1.5 if classes <= COUNTED else 0,
            rasterized=classes > COUNTED,
        )  # fmt: skip
        middles = np.arange(classes) + 0.5
        turned: dict[str, Any] = {} if fits else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(middles, names, **turned)
        axes.set_yticks(middles, true)
        axes.tick_params(labelsize=size, labelcolor=INK)
        axes.set(xlabel="predicted", ylabel="true", ylim=(classes, 0))
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if classes <= COUNTED:
            for i, j in np.ndindex(classes, classes):
                colour = ON_CELL if share[i, j] > 0.5 else INK if counts[i, j] else GRID
                axes.text(
                    j + 0.5, i + 0.5, f"{counts[i, j]:.0f}", ha="center", va="center", color=colour, size=size
                )
        percent = FuncFormatter(lambda x, _: f"{x:.0%}")
        bar = figure.colorbar(cells, ax=axes, fraction=0.05, pad=0.02, aspect=30, format=percent)
        bar.outline.set_visible(False)
        bar.set_label("share of the true class")

    subtitle = f"champion {champion.trial} on {test.images} test images · macro-F1 {test.f1:.3f}"
    extent = (grid + label + 1.5, grid + (0.3 if fits else 0.75 * label) + 0.75)  # square cells, or nearly
    often = ""
    for i, j, images in test.confusions[:CONFUSIONS]:
        pair = f"{often or 'most often:'}{' · ' if often else ' '}{names[i]} → {names[j]} {images}"
        if 0.08 * len(pair) > extent[0]:  # inches, about
            break
        often = pair
    subtitle = f"{subtitle}\n{often}" if often else subtitle
    return Picture("confusion_matrix", "What is taken for what", subtitle, extent, draw)
