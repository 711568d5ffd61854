"""The numbers are scikit-learn's, and the interval says how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from tune_tl.results import statistics
from tune_tl.training import metrics

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(pairs)
def test_scores_are_those_of_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(drawn).T
    counts = metrics.confusion(labels, predictions, 5)
    assert counts.tolist() == confusion_matrix(labels, predictions, labels=range(5)).tolist()
    wanted = f1_score(labels, predictions, labels=np.unique(labels), average="macro")
    assert metrics.macro_f1(counts) == pytest.approx(wanted)
    expected = precision_recall_fscore_support(labels, predictions, labels=range(5), zero_division=0)
    assert np.allclose(metrics.per_class(counts), expected[:3])


@given(pairs, st.sampled_from([0.5, 0.9, 0.99]))
@settings(max_examples=50)
def test_the_interval_holds_the_estimate_and_stays_in_zero_to_one(
    drawn: list[tuple[int, int]], level: float
) -> None:
    labels, predictions = np.array(drawn).T
    low, high = statistics.macro_f1_interval(labels, predictions, 5, level=level, resamples=100)
    estimate = metrics.macro_f1(metrics.confusion(labels, predictions, 5))
    assert 0 <= low <= estimate + 1e-12
    assert estimate - 1e-12 <= high <= 1


def test_the_interval_covers_the_true_score_about_as_often_as_it_says() -> None:
    """400 test sets drawn from one known confusion: about 95 % of the intervals hold its macro-F1."""
    rng = np.random.default_rng(7)
    chances = np.array([[0.30, 0.03, 0.02], [0.04, 0.25, 0.01], [0.05, 0.02, 0.28]])
    truth = metrics.macro_f1((chances * 10_000).round().astype(np.int64))
    held = 0
    for seed in range(400):
        cells = rng.choice(9, size=300, p=chances.ravel())
        low, high = statistics.macro_f1_interval(cells // 3, cells % 3, 3, resamples=300, seed=seed)
        held += low <= truth <= high
    assert 0.91 <= held / 400 <= 0.98


def test_an_image_taken_for_a_class_without_images_costs_no_more_than_any_other_error() -> None:
    labels = np.repeat([0, 1, 2], 50)
    taken_for_3 = np.where(np.arange(150) == 0, 3, labels)
    taken_for_1 = np.where(np.arange(150) == 0, 1, labels)
    scores = [metrics.macro_f1(metrics.confusion(labels, p, 4)) for p in (taken_for_3, taken_for_1)]
    assert scores[0] > scores[1] > 0.99
    low, high = statistics.macro_f1_interval(labels, taken_for_3, 4)
    assert 0.97 < low < high <= 1


def test_the_interval_agrees_with_resampling_images_one_by_one() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    predictions = np.where(rng.random(200) < 0.8, labels, rng.integers(0, 3, 200))
    draws = []
    for _ in range(1000):
        chosen = rng.integers(0, 200, 200)
        draws.append(f1_score(labels[chosen], predictions[chosen], average="macro"))
    interval = statistics.macro_f1_interval(labels, predictions, 3)
    assert interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_the_interval_shrinks_with_more_images() -> None:
    labels, predictions = np.tile([0, 0, 1, 1, 1], 20), np.tile([0, 1, 1, 1, 0], 20)
    few = statistics.macro_f1_interval(labels, predictions, 2)
    many = statistics.macro_f1_interval(np.tile(labels, 9), np.tile(predictions, 9), 2)
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_a_perfect_score_on_few_images_is_not_certainty() -> None:
    low, high = statistics.macro_f1_interval([0, 1, 2] * 10, [0, 1, 2] * 10, 3)
    assert high == 1
    assert low == pytest.approx(0.025 ** (1 / 30))  # Clopper-Pearson for 30 of 30
    low, high = statistics.macro_f1_interval([0] * 30, [1] * 30, 3)
    assert (low, high) == (0, pytest.approx(1 - 0.025 ** (1 / 30)))


def test_the_same_seed_gives_the_same_interval() -> None:
    labels, predictions = [0, 1, 1, 0, 1, 0, 0], [0, 1, 0, 0, 1, 1, 0]
    first, again = (statistics.macro_f1_interval(labels, predictions, 2, seed=3) for _ in range(2))
    assert first == again


def test_many_classes_are_resampled_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 50, 500), rng.integers(0, 50, 500)
    whole = statistics.macro_f1_interval(labels, predictions, 50, resamples=60)
    monkeypatch.setattr(statistics, "_BATCH", 1)  # one resample at a time
    assert statistics.macro_f1_interval(labels, predictions, 50, resamples=60) == whole


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([], []), ([0, 1], [0]), ([0, 3], [0, 1]), ([0, 1], [0, -1]), ([0.0, 1.0], [0, 1]), ([[0]], [[0]])],
)
def test_vectors_that_are_no_class_indices_are_refused(labels: list[int], predictions: list[int]) -> None:
    with pytest.raises(ValueError):
        metrics.confusion(labels, predictions, 3)


def test_a_level_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0 < level < 1.*level=95"):
        statistics.macro_f1_interval([0], [0], 1, level=95)


def test_a_lead_on_the_same_images_is_told_long_before_intervals_part() -> None:
    """Of 300 images one has 270 right, the other 8 more and none less."""
    labels = np.arange(300) % 4
    good = np.where(np.arange(300) < 30, (labels + 1) % 4, labels)
    better = np.where(np.arange(300) < 22, (labels + 1) % 4, labels)
    low, high = statistics.macro_f1_lead(labels, better, good, 4)
    assert 0 < low < 8 / 300 < high
    ends = [statistics.macro_f1_interval(labels, p, 4) for p in (better, good)]
    assert ends[0][0] < ends[1][1]  # by themselves they overlap
    back = statistics.macro_f1_lead(labels, good, better, 4)
    assert back == pytest.approx((-high, -low), abs=0.01)
    assert statistics.macro_f1_lead(labels, good, good, 4) == (0.0, 0.0)


def test_a_lead_agrees_with_resampling_images_one_by_one() -> None:
    rng = np.random.default_rng(2)
    labels, first, second = rng.integers(0, 3, (3, 200))
    draws = []
    for _ in range(1000):
        chosen = rng.integers(0, 200, 200)
        a, b = (f1_score(labels[chosen], p[chosen], average="macro") for p in (first, second))
        draws.append(a - b)
    lead = statistics.macro_f1_lead(labels, first, second, 3)
    assert lead == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.015)


def test_a_lead_among_many_classes_is_found_in_bounded_memory() -> None:
    labels = np.arange(3000) % 1500
    low, high = statistics.macro_f1_lead(labels, labels, (labels + (labels < 300)) % 1500, 1500, resamples=20)
    assert 0.1 < low < high < 0.4
