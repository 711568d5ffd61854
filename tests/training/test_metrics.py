from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tune_tl.training.metrics import confusion, macro_f1, per_class


@pytest.mark.parametrize("seed", range(20))
def test_f1_is_scikit_learns_even_where_classes_are_absent(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 12))
    occurring = random.choice(classes, size=random.integers(1, classes + 1), replace=False)
    labels, predictions = random.choice(occurring, (2, 40))
    counts = confusion(labels, predictions, classes)
    wanted = f1_score(labels, predictions, labels=range(classes), average=None, zero_division=0)
    np.testing.assert_allclose(per_class(counts)[2], wanted, rtol=1e-12)
    assert macro_f1(counts) == pytest.approx(
        f1_score(labels, predictions, labels=np.unique(labels), average="macro"), rel=1e-12
    )


def test_a_class_that_is_never_hit_counts_as_zero_and_one_without_images_not_at_all() -> None:
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 0, 2, 2])
    counts = confusion(labels, predictions, classes=4)
    assert per_class(counts)[2].tolist() == [1, 0, 0, 0]
    assert macro_f1(counts) == pytest.approx(1 / 2)
