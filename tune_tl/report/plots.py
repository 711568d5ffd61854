"""The pictures of a search: how it went over time and how its transfer strategies compare."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from tune_tl.experiment import Transfer
from tune_tl.report import closeups, gallery
from tune_tl.report.theme import (
    BLUE,
    COLOUR,
    F1_AXIS,
    GRID,
    INK,
    MARKER,
    MUTED,
    WARNING,
    Picture,
    clip,
    f1_limits,
)
from tune_tl.results.frame import frame
from tune_tl.results.ranking import Leaderboard

NAMES = (
    *("f1_over_time", "strategies", "importances"),
    *("confusion_matrix", "embeddings", "mistakes", "learning_curves"),
)


def pictures(board: Leaderboard) -> list[Picture]:
    """What there is to see of NAMES: nothing without a ranked trial, nothing of test before it is scored."""
    if not board.rows:
        return []
    found = [_f1_over_time(board), _strategies(board)]
    if board.importances:
        found.append(_importances(board))
    champion = board.rows[0]
    if champion.test:
        found.append(closeups.confusion_matrix(champion))
    if champion.test and board.look:
        classes = tuple(row.name for row in champion.test.report)
        found.append(gallery.embeddings(board.look, classes))
        if len(board.look.mistakes):
            found.append(gallery.mistakes(board.look, classes))
    return [*found, closeups.learning_curves(board)]


def _f1_over_time(board: Leaderboard) -> Picture:
    ends = [row.result.ended for row in board.rows] + [u.result.ended for u in board.unranked]
    end = max([*ends, *(line.t for line in board.timeline)])
    unit, per = _time_unit(end)
    transfer = {row.trial: row.transfer for row in board.rows}
    finite = [line for line in board.timeline if line.trial in transfer and np.isfinite(line.val_f1)]
    rises = board.best_so_far

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for trial, strategy in transfer.items():
            own = [line for line in finite if line.trial == trial]
            axes.plot(
                [line.t / per for line in own], [line.val_f1 for line in own], color=COLOUR[strategy],
                marker=MARKER[strategy], markersize=4, linewidth=1, alpha=0.55, markeredgewidth=0,
            )  # fmt: skip
        low, _ = f1_limits(axes, (line.val_f1 for line in finite), vertical=True)
        failed = [u.result.ended / per for u in board.unranked]
        if failed:
            axes.plot(failed, [low] * len(failed), "x", color=WARNING, clip_on=False, markersize=7, zorder=4)
        if rises:
            top = rises[-1]
            times, scores = [line.t / per for line in rises], [line.val_f1 for line in rises]
            axes.step([*times, end / per], [*scores, top.val_f1], where="post", color=INK, linewidth=2.2)
            axes.plot(top.t / per, top.val_f1, "o", markersize=11, fillstyle="none", color=INK, zorder=5)
            axes.annotate(
                f"{top.val_f1:.3f}", (top.t / per, top.val_f1), xytext=(0, 10), weight="bold",
                textcoords="offset points", ha="center",
            )  # fmt: skip
        axes.set_xlim(0, end / per * 1.03 or 1)
        axes.set(xlabel=f"wall time since the search's start ({unit})", ylabel=F1_AXIS)
        handles = [Line2D([], [], color=INK, linewidth=2.2, label="best so far"), *_legend(transfer.values())]
        if failed:
            handles.append(
                Line2D([], [], color=WARNING, marker="x", linestyle="", label="ended without a score")
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)

    subtitle = f"every epoch of every trial, and the best one so far · {_counts(board)}"
    return Picture("f1_over_time", "How fast the search got good", subtitle, (10, 4.4), draw)


def _strategies(board: Leaderboard) -> Picture:
    ranked = frame(board).dropna(subset="val_f1")  # best first, as are each lane's scores
    lanes: list[tuple[str, Transfer | None, list[float]]] = []
    for backbone, trials in ranked.groupby("backbone", sort=False):
        by_transfer = trials.groupby("transfer", observed=True)["val_f1"]
        lanes += [(backbone, None, [])]
        lanes += [(backbone, Transfer(name), scores.tolist()) for name, scores in by_transfer]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        f1_limits(axes, (row.val_f1 for row in board.rows), vertical=False)
        ticks = []
        for y, (name, strategy, scores) in enumerate(lanes):
            if strategy is None:
                axes.text(
                    0, y, clip(name, 44), transform=axes.get_yaxis_transform(), weight="bold", va="center"
                )
                axes.axhspan(y - 0.5, y + 0.5, color=GRID, alpha=0.45, linewidth=0)
                continue
            ticks.append((y, strategy.value))
            _lane(axes, y, strategy, scores)
        axes.set_ylim(len(lanes) - 0.4, -0.6)
        axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks], color=INK)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(F1_AXIS)
        handles = [
            Line2D([], [], color=MUTED, marker="o", linestyle="", alpha=0.6, label="a trial"),
            Line2D(
                [], [], color=INK, marker="o", markersize=10, fillstyle="none", linestyle="", label="the best"
            ),
            Line2D([], [], color=INK, marker="|", markersize=11, linestyle="", label="median"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8.5)

    subtitle = f"every ranked trial, by backbone and by how deep it was unfrozen · {_counts(board)}"
    return Picture(
        "strategies", "Transfer strategies compared", subtitle, (10, 1.1 + 0.34 * len(lanes)), draw
    )


def _lane(axes: Any, y: int, strategy: Transfer, scores: list[float]) -> None:
    """One strategy of one backbone: every trial a dot, spread a little so that equal ones show."""
    spread = np.linspace(-0.2, 0.2, len(scores)) if len(scores) > 1 else np.zeros(1)
    shuffled = np.random.default_rng(0).permutation(spread)
    style: dict[str, Any] = {"marker": MARKER[strategy], "linestyle": ""}
    axes.plot(
        scores, y + shuffled, color=COLOUR[strategy], alpha=0.6, markeredgewidth=0, markersize=7, **style
    )
    axes.plot(
        scores[0], y + shuffled[0], color=INK, fillstyle="none", markersize=11, markeredgewidth=1.5, **style
    )
    if len(scores) > 1:
        axes.plot(statistics.median(scores), y, "|", color=INK, markersize=15, markeredgewidth=1.6)
    count = f"{scores[0]:.3f} · {len(scores)} trial{'s' * (len(scores) > 1)}"
    axes.text(1.015, y, count, transform=axes.get_yaxis_transform(), va="center", size=9)


def _importances(board: Leaderboard) -> Picture:
    found = board.importances
    end = max(0.2, *(i.high or 0.0 for i in found))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for y, each in enumerate(found):
            if each.share is None or each.low is None or each.high is None:
                axes.text(
                    0.004, y, f"too few trials have one ({each.trials})", va="center", color=MUTED, size=9
                )
                continue
            fill: dict[str, Any] = (
                {"facecolor": "none", "hatch": "////"} if each.conditional else {"facecolor": BLUE}
            )
            axes.barh(y, each.share, height=0.6, edgecolor=BLUE, linewidth=1, alpha=0.8, **fill)
            axes.plot([each.low, each.high], [y, y], color=INK, linewidth=1.6, solid_capstyle="butt")
            count = f"   of {each.trials} trials that have one" if each.conditional else ""
            axes.text(
                1.01, y, f"{each.share:.0%}{count}", transform=axes.get_yaxis_transform(), va="center", size=9
            )
        axes.set_yticks(range(len(found)), [i.name for i in found], color=INK)
        axes.set(ylim=(len(found) - 0.4, -0.6), xlim=(0, min(1.0, 1.05 * end)))
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel(f"share of the variance of {F1_AXIS} that it explains")
        handles: list[Line2D | Patch] = [Patch(color=BLUE, alpha=0.8, label="of all trials")]
        if any(each.conditional and each.share is not None for each in found):
            part = "of the trials that have one, by itself"
            handles.append(Patch(facecolor="none", edgecolor=BLUE, hatch="////", label=part))
        handles.append(Line2D([], [], color=INK, linewidth=1.6, label="range over resamples of the trials"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8.5)

    subtitle = (
        f"fANOVA over the {len(board.rows)} trials with a score; of stopped ones, the best they reached"
    )
    return Picture("importances", "What decided the score", subtitle, (10, 1.3 + 0.36 * len(found)), draw)


def _legend(strategies: Iterable[Transfer]) -> list[Line2D]:
    return [
        Line2D([], [], color=COLOUR[s], marker=MARKER[s], linewidth=1, markersize=5, label=s.value)
        for s in sorted(set(strategies), key=list(Transfer).index)
    ]


def _time_unit(seconds: float) -> tuple[str, float]:
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _counts(board: Leaderboard) -> str:
    trials = len(board.rows) + len(board.unranked)
    text = f"{trials} trial{'s' * (trials != 1)}"
    return f"{text}, {len(board.unranked)} without a score" if board.unranked else text
