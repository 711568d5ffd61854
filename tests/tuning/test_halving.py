"""Successive halving: trial for trial what Ray's own would decide, which it is held against here."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from tune_tl.experiment import BEST, EPOCH, EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Past
from tune_tl.tuning.halving import Halving
from tune_tl.tuning.scheduler import HalvingScheduler

# Few scores, so that many are equal.
SCORES = st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 0.7, 1.0, math.nan]), st.floats(0, 1))
TRIALS = st.integers(0, 9)
HELD_AGAINST_RAYS = settings(max_examples=300, deadline=None, derandomize=True)
# Ray, too, takes the middle of scores of which none is a number.
pytestmark = pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning")


def rays(epochs: int) -> ASHAScheduler:
    return ASHAScheduler(
        time_attr=EPOCH,
        metric=BEST,
        mode="max",
        max_t=epochs,
        grace_period=math.ceil(epochs / 4),
        reduction_factor=2,
    )


def trials(epochs: int) -> list[Trial]:
    configs = [TrialConfig("toy", epochs=epochs, seed=n) for n in range(10)]
    return [Trial("toy", stub=True, trial_id=c.key, config=c.to_dict()) for c in configs]


def metrics(epoch: int, score: float) -> EpochMetrics:
    return EpochMetrics(epoch, 0.1, 0.1, score, score, (score,), 1.0, 1.0, best_val_f1=score)


def result(config: TrialConfig, state: State, *scores: float) -> TrialResult:
    epochs = tuple(metrics(n, score) for n, score in enumerate(scores, 1))
    return TrialResult(config.key, config, state, epochs, 0.0, 1.0)


@HELD_AGAINST_RAYS
@given(st.integers(1, 40), st.lists(st.tuples(TRIALS, SCORES, st.integers(0, 9)), max_size=150))
def test_trials_that_run_side_by_side_are_stopped_where_rays_scheduler_stops_them(
    epochs: int, steps: list[tuple[int, float, int]]
) -> None:
    """Each step is a trial's next epoch, or one of those before, from which it was started again."""
    ours, theirs, known = HalvingScheduler(Halving(epochs)), rays(epochs), trials(epochs)
    done = [0] * len(known)
    for trial in known:
        ours.on_trial_add(None, trial)
        theirs.on_trial_add(None, trial)
    for number, score, back in steps:
        if done[number] < 0:  # stopped
            continue
        done[number] = max(1, done[number] + 1 - (back if back > 6 else 0))
        reported = {EPOCH: done[number], BEST: score}
        decision = ours.on_trial_result(None, known[number], reported)
        assert decision == theirs.on_trial_result(None, known[number], reported)
        if decision == TrialScheduler.STOP:
            for scheduler in (ours, theirs):
                scheduler.on_trial_complete(None, known[number], reported)
            done[number] = -1


@HELD_AGAINST_RAYS
@given(st.integers(1, 40), st.lists(st.tuples(TRIALS, st.integers(1, 45), SCORES), max_size=100))
def test_whatever_is_reported_is_decided_as_by_rays_scheduler(
    epochs: int, steps: list[tuple[int, int, float]]
) -> None:
    ours, theirs, known = HalvingScheduler(Halving(epochs)), rays(epochs), trials(epochs)
    for trial in known:
        theirs.on_trial_add(None, trial)
    for number, epoch, score in steps:
        reported = {EPOCH: epoch, BEST: score}
        decision = ours.on_trial_result(None, known[number], reported)
        assert decision == theirs.on_trial_result(None, known[number], reported)


@HELD_AGAINST_RAYS
@given(
    st.integers(4, 12),
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=12), max_size=6),
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=12), max_size=4),
)
def test_what_is_recalled_counts_as_if_it_had_been_seen(
    epochs: int, before: list[list[float]], after: list[list[float]]
) -> None:
    configs = [TrialConfig("toy", epochs=epochs, seed=n) for n in range(10)]
    earlier = dict(zip(configs, before, strict=False))
    ended = tuple(result(c, State.STOPPED, *scores) for c, scores in list(earlier.items())[::2])
    cut_off = {c: result(c, State.STOPPED, *s).epochs for c, s in list(earlier.items())[1::2]}
    recalling, seeing = Halving(epochs), Halving(epochs)
    recalling.recall(Past(ended, cut_off))
    for config in [*(r.config for r in ended), *cut_off]:
        for epoch, score in enumerate(earlier[config], 1):
            seeing.goes_on(config, epoch, score)
    for config, scores in zip(configs[len(before) :], after, strict=False):
        for epoch, score in enumerate(scores, 1):
            assert recalling.goes_on(config, epoch, score) == seeing.goes_on(config, epoch, score)


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, []), (2, [1]), (3, [2, 1]), (4, [2, 1]), (5, [4, 2]), (8, [4, 2]), (10, [6, 3])],
)
def test_rungs_are_at_a_quarter_and_at_half(epochs: int, rungs: list[int]) -> None:
    assert list(Halving(epochs).rungs(TrialConfig("toy"))) == rungs


def test_a_trial_that_failed_is_not_compared_with() -> None:
    halving, config = Halving(8), TrialConfig("toy")
    halving.recall(Past((result(config, State.FAILED, 0.9, 0.9, 0.9),)))
    assert halving.rungs(config) == {4: {}, 2: {}}
