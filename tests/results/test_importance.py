"""Importances name what decided the score, say how many trials they rest on, and keep silent over few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from tune_tl.experiment import EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.results.importance import LEAST, Importance, importances
from tune_tl.spaces.space import Choice, Range, Space


def space(unfreeze: tuple[int, ...] = (0, 1, 2)) -> Space:
    domains = {field: Choice((value,)) for field, value in TrialConfig(backbone="").to_dict().items()}
    drawn = {
        "backbone": Choice(("mobilenet_v2", "resnet18")),
        "unfreeze": Choice(unfreeze),
        "head_lr": Range(1e-4, 1e-2, log=True),
        "body_lr": Range(1e-5, 1e-2, log=True),
        "batch_size": Range(8, 64),
    }
    return Space("made", Path("made.yaml"), domains | drawn)


def results(drawn: Space, trials: int) -> list[TrialResult]:
    """Trials whose score follows from the backbone and, where it is drawn, a body_lr near 1e-3."""
    sampler, random, found = optuna.samplers.RandomSampler(seed=0), np.random.default_rng(0), []
    study = optuna.create_study(sampler=sampler)
    for _ in range(trials):
        config = drawn.suggest(study.ask(), {"mobilenet_v2": 9, "resnet18": 5})
        f1 = 0.5 + 0.3 * (config.backbone == "resnet18") + random.normal(0, 0.005)
        f1 -= 0.05 * abs(np.log10(config.body_lr) + 3) if config.body_lr else 0
        epoch = EpochMetrics(1, 0.5, 0.5, f1, f1, (f1, f1), 100.0, 1.0)
        found.append(TrialResult(config.key, config, State.STOPPED, (epoch,), 0.0, 1.0))
    return found


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_what_decided_comes_first_and_what_only_some_trials_have_last() -> None:
    trials = results(space(), 60)
    first, *rest = found = importances(trials, space())
    assert first.name == "backbone"
    assert first.share is not None and first.share > 0.7
    assert {i.name for i in rest} == {"unfreeze", "head_lr", "body_lr", "batch_size"}
    assert [i.name for i in found if i.conditional] == ["body_lr"] == [found[-1].name]
    having = sum(r.config.unfreeze != 0 for r in trials)
    assert (first.trials, found[-1].trials) == (60, having)
    for each in found:
        assert each.share is not None and each.low is not None and each.high is not None
        assert 0 <= each.low <= each.share <= each.high <= 1
    assert sum(i.share or 0 for i in found if not i.conditional) == pytest.approx(1, abs=0.25)  # medians
    assert importances(trials, space()) == found


def test_a_parameter_that_few_trials_have_is_named_without_a_share() -> None:
    rare = space(unfreeze=(0, 0, 0, 1))  # a choice has each value once
    trials = [r for r in results(rare, 80) if r.config.unfreeze == 0][:30]
    trials += [r for r in results(rare, 80) if r.config.unfreeze == 1][:5]
    assert importances(trials, rare)[-1] == Importance("body_lr", 5, conditional=True)


def test_few_trials_tell_nothing_and_a_failure_is_none_of_them() -> None:
    trials = results(space(), LEAST)
    failed = TrialResult(**vars(trials[0]) | {"state": State.FAILED})
    assert importances(trials, space())
    assert importances(trials[1:], space()) == importances([failed, *trials[1:]], space()) == ()


def test_scores_that_do_not_vary_have_nothing_to_explain() -> None:
    same = EpochMetrics(1, 0.5, 0.5, 0.9, 0.9, (0.9, 0.9), 100.0, 1.0)
    trials = [TrialResult(**vars(r) | {"epochs": (same,)}) for r in results(space(), LEAST)]
    assert {i.share for i in importances(trials, space())} == {None}


def test_backbones_that_left_the_space_since_still_count() -> None:
    trials = results(space(), 40)
    assert importances(trials, space().with_backbones(["resnet18"]))[0].trials == 40
