"""What Optuna is asked and told: a real study behind the searcher that Ray sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tune_tl.experiment import BEST, EPOCH, VAL_F1, EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Past
from tune_tl.tuning import proposals as search_proposals
from tune_tl.tuning.proposals import FINISHED, Brief, OptunaProposals
from tune_tl.tuning.strategies import STRATEGIES

EPOCHS = 4


def draw(proposal: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        "toy", head_lr=proposal.suggest_float("head_lr", 1e-4, 1.0, log=True), epochs=EPOCHS, batch_size=8
    )


def draw_from_six(proposal: optuna.Trial) -> TrialConfig:
    augment = proposal.suggest_categorical("augment", ["none", "light"])
    return TrialConfig("toy", augment=augment, batch_size=proposal.suggest_int("batch_size", 4, 6))


def point(config: TrialConfig) -> dict[str, Any]:
    return {"head_lr": config.head_lr}


def proposals(
    strategy: str = "random",
    *,
    space: Any = draw,
    first: Sequence[dict[str, Any]] = (),
    seed: int = 0,
    limit: int | None = None,
    past: Sequence[TrialResult] = (),
) -> OptunaProposals:
    searcher, _ = STRATEGIES[strategy](Brief(space, point, first, EPOCHS, seed, limit, Past(tuple(past))))
    return searcher


def ask(searcher: OptunaProposals, trial: str) -> TrialConfig:
    fields = searcher.suggest(trial)
    assert isinstance(fields, dict), f"no proposal but {fields!r}"
    return TrialConfig.from_dict(fields)


def train(searcher: OptunaProposals, trial: str, *f1s: float) -> None:
    """Report as Ray does a trial that trains all its epochs and then returns."""
    for epoch, f1 in enumerate(f1s, 1):
        searcher.on_trial_result(trial, {VAL_F1: f1, EPOCH: epoch})
    searcher.on_trial_complete(trial, {VAL_F1: f1s[-1], BEST: max(f1s), EPOCH: len(f1s)})


def ended(config: TrialConfig, state: State, *f1s: float) -> TrialResult:
    """A trial of an earlier run."""
    epochs = tuple(EpochMetrics(n, 1.0, 1.0, f1, f1, (f1,), 100.0, 1.0) for n, f1 in enumerate(f1s, 1))
    return TrialResult(config.key, config, state, epochs, 0.0, 1.0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_good_points_come_first_and_in_order(strategy: str) -> None:
    first = [{"head_lr": lr} for lr in (0.5, 0.001, 0.1)]
    searcher = proposals(strategy, first=first)
    assert [ask(searcher, str(n)).head_lr for n in range(3)] == [0.5, 0.001, 0.1]
    assert ask(searcher, "3").head_lr not in (0.5, 0.001, 0.1)


def test_a_point_may_leave_fields_to_the_sampler() -> None:
    searcher = proposals(space=draw_from_six, first=[{"batch_size": 5}])
    assert ask(searcher, "0").batch_size == 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_finite_space_is_tried_out_and_then_finished(strategy: str) -> None:
    searcher = proposals(strategy, space=draw_from_six)
    found = []
    while isinstance(fields := searcher.suggest(str(len(found))), dict):
        found.append(TrialConfig.from_dict(fields).key)
        train(searcher, str(len(found) - 1), *[0.5] * EPOCHS)
    assert fields == FINISHED
    assert len(found) == len(set(found)) == 6


def test_known_good_points_that_are_one_point_are_tried_once() -> None:
    searcher = proposals(first=[{"head_lr": 0.1}, {"head_lr": 0.1}])
    assert ask(searcher, "0").head_lr == 0.1
    assert ask(searcher, "1").head_lr != 0.1


def test_the_limit_is_kept_while_trials_still_run() -> None:
    searcher = proposals(limit=3)
    assert len({ask(searcher, str(n)).key for n in range(3)}) == 3
    assert searcher.suggest("3") == FINISHED


def test_a_trial_that_fails_is_a_failure_and_no_score() -> None:
    searcher = proposals()
    ask(searcher, "at once")
    searcher.on_trial_complete("at once", error=True)
    ask(searcher, "later")
    searcher.on_trial_result("later", {VAL_F1: 0.9, EPOCH: 1})
    searcher.on_trial_complete("later", {VAL_F1: 0.9, EPOCH: 1}, error=True)
    assert [t.state for t in searcher.study.trials] == [TrialState.FAIL, TrialState.FAIL]
    assert [t.value for t in searcher.study.trials] == [None, None]


def test_a_trial_stopped_early_is_pruned_with_all_its_epochs() -> None:
    searcher = proposals()
    ask(searcher, "a")
    searcher.on_trial_result("a", {VAL_F1: 0.3, EPOCH: 1})
    searcher.on_trial_complete("a", {VAL_F1: 0.2, BEST: 0.3, EPOCH: 2})  # Ray tells the last result here only
    (trial,) = searcher.study.trials
    assert trial.state is TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.3, 2: 0.2}


@pytest.mark.filterwarnings("error")
def test_a_completed_trial_has_the_score_of_its_best_epoch() -> None:
    searcher = proposals()
    ask(searcher, "a")
    train(searcher, "a", 0.1, 0.3, 0.7, 0.6)
    (trial,) = searcher.study.trials
    assert trial.state is TrialState.COMPLETE
    assert trial.value == 0.7
    assert trial.intermediate_values == {1: 0.1, 2: 0.3, 3: 0.7, 4: 0.6}


def test_a_trial_told_twice_or_never_asked_for_is_passed_over() -> None:
    searcher = proposals()
    ask(searcher, "a")
    searcher.on_trial_complete("a", error=True)
    searcher.on_trial_complete("a", {VAL_F1: 0.9, BEST: 0.9, EPOCH: 4})
    searcher.on_trial_complete("b", {VAL_F1: 0.9, BEST: 0.9, EPOCH: 4})
    assert [t.state for t in searcher.study.trials] == [TrialState.FAIL]


PAST = [
    ended(TrialConfig("toy", head_lr=0.01, epochs=EPOCHS, batch_size=8), State.COMPLETED, 0.5, 0.7, 0.8, 0.7),
    ended(TrialConfig("toy", head_lr=0.02, epochs=EPOCHS, batch_size=8), State.STOPPED, 0.3),
    ended(TrialConfig("toy", head_lr=0.9, epochs=EPOCHS, batch_size=8), State.FAILED, 0.2),
    ended(TrialConfig("toy", head_lr=0.5, epochs=EPOCHS, batch_size=8), State.STOPPED),
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_an_earlier_run_tried_keeps_its_states(strategy: str) -> None:
    trials = proposals(strategy, past=PAST).study.trials
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL]
    assert [t.state for t in trials] == states
    assert [t.params for t in trials] == [point(result.config) for result in PAST]
    assert trials[0].value == 0.8
    assert trials[0].intermediate_values == {1: 0.5, 2: 0.7, 3: 0.8, 4: 0.7}
    assert trials[1].intermediate_values == {1: 0.3}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_live_trial_is_told_as_a_replayed_one_is(strategy: str) -> None:
    live = proposals(strategy)
    config = ask(live, "a")
    train(live, "a", 0.1, 0.7, 0.8, 0.6)
    replayed = proposals(strategy, past=[ended(config, State.COMPLETED, 0.1, 0.7, 0.8, 0.6)])
    (a,), (b,) = live.study.trials, replayed.study.trials
    assert (a.params, a.state, a.value, a.intermediate_values) == (
        b.params,
        b.state,
        b.value,
        b.intermediate_values,
    )


def test_what_an_earlier_run_tried_counts_toward_the_limit() -> None:
    searcher = proposals(past=PAST, limit=len(PAST) + 1)
    ask(searcher, "0")
    assert searcher.suggest("1") == FINISHED
    assert proposals(past=PAST, limit=len(PAST)).suggest("0") == FINISHED


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_search_proposes_nothing_that_was_tried(strategy: str) -> None:
    before = proposals(strategy)
    tried = [ask(before, str(n)) for n in range(8)]
    after = proposals(strategy, past=[ended(config, State.COMPLETED, *[0.5] * EPOCHS) for config in tried])
    proposed = {ask(after, str(n)).key for n in range(8)}
    assert len(proposed) == 8
    assert proposed.isdisjoint(config.key for config in tried)


def test_a_resumed_search_tries_the_known_good_points_that_are_left() -> None:
    first = [{"head_lr": 0.01}, {"head_lr": 0.3}]
    assert ask(proposals(first=first, past=PAST), "0").head_lr == 0.3


def test_of_a_long_search_a_sampler_sees_the_best_and_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_proposals, "BEST_SEEN", 2)
    monkeypatch.setattr(search_proposals, "LATEST_SEEN", 3)
    searcher = proposals()
    for n, f1 in enumerate((0.1, 0.9, 0.2, 0.8, 0.3, 0.4, 0.5)):
        ask(searcher, str(n))
        train(searcher, str(n), *[f1] * EPOCHS)
    ask(searcher, "running")
    seen = searcher.study._get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
    assert [trial.number for trial in seen] == [1, 3, 5, 6, 7]
    assert len(searcher.study.trials) == 8


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_proposes_the_same(strategy: str) -> None:
    def tour(seed: int) -> list[float]:
        searcher, found = proposals(strategy, seed=seed), []
        for n in range(20):
            config = ask(searcher, str(n))
            train(searcher, str(n), *[1 - config.head_lr] * EPOCHS)
            found.append(config.head_lr)
        return found

    assert tour(3) == tour(3)
    assert tour(3) != tour(4)


def test_parzen_estimators_concentrate_on_the_good_region_and_random_draws_do_not() -> None:
    def hits(strategy: str) -> int:
        """Of 30 proposals after 15 to learn from, of five seeds each, those in the best 15 % of the space."""
        near = 0
        for seed in range(5):
            searcher = proposals(strategy, seed=seed)
            for n in range(45):
                lr = ask(searcher, str(n)).head_lr
                off = abs(math.log10(lr / 0.01))  # the space spans four orders of magnitude
                train(searcher, str(n), *[0.9 - off / 4] * EPOCHS)
                near += n >= 15 and off <= 0.3
        return near

    assert hits("tpe") > 2 * hits("random")
