"""Numbers from predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def f1_per_class(
    labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], classes: int
) -> tuple[npt.NDArray[np.float64], float]:
    """Each class's F1, shape (classes,), and their unweighted mean, macro-F1.

    As in scikit-learn, a class that occurs neither among the labels nor among the predictions has
    F1 0 and is left out of the mean.
    """
    confusion = np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)
    hits = np.diag(confusion)
    seen = confusion.sum(axis=0) + confusion.sum(axis=1)
    f1 = np.divide(2.0 * hits, seen, out=np.zeros(classes), where=seen > 0)
    return f1, float(f1[seen > 0].mean())
