"""How sure a score is. numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tune_tl.training.metrics import Counts, Floats, confusion, macro_f1, mean_f1

_BATCH = 4_000_000  # resampled cells held at once: 32 MB, however many classes there are


def macro_f1_interval(
    labels: ArrayLike,
    predictions: ArrayLike,
    classes: int,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """A confidence interval of macro-F1 for test sets like this one: (low, high).

    The percentile bootstrap over images (Efron & Tibshirani 1993, An Introduction to the Bootstrap,
    §13.3). Drawing images with replacement is drawing a confusion matrix from the multinomial of the
    observed one, so matrices are drawn, not images. It says how far the test set's luck reaches; the luck
    of training (another seed) is not in it.

    Where every image is right, or every one wrong, each resample is too and the percentiles collapse to a
    point; there the far end is the exact binomial limit of accuracy (Clopper & Pearson 1934). Raises
    ValueError as `confusion` does, and for a level outside (0, 1).
    """
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"0 < level < 1 and resamples >= 1 must hold, but got ({level=}, {resamples=})")
    counts = confusion(labels, predictions, classes)
    images, right = int(counts.sum()), int(counts.trace())
    tail = (1 - level) / 2
    if right == images:
        return float(tail ** (1 / images)), 1.0
    if right == 0:
        return 0.0, float(1 - tail ** (1 / images))
    rows, columns = counts.nonzero()  # a cell that is empty stays empty
    draws = _resampled_macro_f1(classes, rows, [columns], counts[rows, columns], resamples, seed)[0]
    low, high = np.quantile(draws, [tail, 1 - tail])
    # Resamples that lose a rare class can pull both percentiles past the estimate: widen, never narrow.
    point = macro_f1(counts)
    return min(float(low), point), max(float(high), point)


def macro_f1_lead(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, classes: int, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """A 95 % confidence interval of how far `first`'s macro-F1 is above `second`'s: (low, high).

    The paired bootstrap: both are scored on the same resampled images, whose luck they share. Intervals of
    the two scores by themselves overlap long after their difference is beyond doubt. Raises ValueError as
    `confusion` does.
    """
    for predictions in (first, second):
        confusion(labels, predictions, classes)  # are they class indices?
    cells, counts = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)
    draws = _resampled_macro_f1(classes, cells[0], list(cells[1:]), counts, resamples, seed)
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    return float(low), float(high)


def _resampled_macro_f1(
    classes: int, truth: Counts, guesses: Sequence[Counts], counts: Counts, resamples: int, seed: int
) -> Floats:
    """Macro-F1 of each of G guesses in multinomial draws of N cells, of (G, resamples).

    A cell is `counts` images of the class `truth`, (N,), that each of `guesses`, (G, N), takes for one class.
    """
    images, one, rng = int(counts.sum()), np.eye(classes), np.random.default_rng(seed)
    batch = max(1, _BATCH // len(truth))
    found = []
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        drawn = rng.multinomial(images, counts / images, size=size).astype(np.float64)
        true = drawn @ one[truth]
        found.append(
            [mean_f1(drawn @ (one[truth] * (truth == g)[:, None]), true, drawn @ one[g]) for g in guesses]
        )
    return np.concatenate(found, axis=1)
