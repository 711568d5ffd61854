"""Numbers from predictions. numpy only.

Macro-F1 here is the mean of the classes' F1 over every class that has an image, scikit-learn's
`f1_score(average="macro", labels=unique(labels))`. A class without one cannot be measured: counted as 0 as
soon as one image is taken for it, it would outweigh all the others' errors. The image lacks in its own class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def confusion(labels: ArrayLike, predictions: ArrayLike, classes: int) -> Counts:
    """Counts of shape (classes, classes): row = true class, column = predicted class.

    `labels` and `predictions` are class indices of shape (images,). Raises ValueError if they are empty,
    differ in length or leave the range 0 … classes - 1.
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or truth.shape != guess.shape or not truth.size:
        raise ValueError(
            f"need two equally long, non-empty vectors, got shapes {truth.shape} and {guess.shape}"
        )
    for name, values in (("labels", truth), ("predictions", guess)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must be class indices, got {values.dtype}")
        if values.min() < 0 or values.max() >= classes:
            raise ValueError(f"{name} must lie in 0…{classes - 1}, got {values.min()}…{values.max()}")
    pairs = truth.astype(np.int64) * classes + guess
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def per_class(counts: Counts) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1, each of shape (classes,); 0 where a ratio has nothing to divide by."""
    hits, true, guessed = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return _ratio(hits, guessed), _ratio(hits, true), _ratio(2 * hits, true + guessed)


def macro_f1(counts: Counts) -> float:
    """Mean F1 of the classes that have an image."""
    return float(mean_f1(counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)))


def mean_f1(hits: NDArray[Any], true: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    """Mean over the last axis of 2·hits / (true + predicted), where `true` is not 0."""
    mean: Floats = _ratio(2 * hits, true + predicted).sum(axis=-1) / (true > 0).sum(axis=-1)
    return mean


def _ratio(top: NDArray[np.generic], bottom: NDArray[np.generic]) -> Floats:
    below = np.asarray(bottom, dtype=np.float64)
    ratio: Floats = np.divide(top, below, out=np.zeros_like(below), where=below > 0)
    return ratio
