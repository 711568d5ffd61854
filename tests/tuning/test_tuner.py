"""Trials on a real Ray, begun and ended by the driver, with a network and images small enough to wait for."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from support.trials import ready_for, run_trials
from tune_tl.errors import BadInput
from tune_tl.experiment import (
    BEST,
    EPOCH,
    VAL_F1,
    EpochMetrics,
    Experiment,
    Observer,
    State,
    TrialConfig,
    TrialResult,
)
from tune_tl.preflight.ready import Ready
from tune_tl.record.ledger import Past
from tune_tl.tuning.cluster import Cluster
from tune_tl.tuning.proposals import Brief
from tune_tl.tuning.strategies import STRATEGIES

SPACE = """
backbone: [efficientnet_lite0, efficientnet_lite1, efficientnet_lite2]
epochs: 2
head_lr: {low: 1e-3, high: 1e-2, log: true}
first:
  - {backbone: efficientnet_lite0, head_lr: 1e-3}
  - {backbone: efficientnet_lite1, head_lr: 2e-3}
  - {backbone: efficientnet_lite2, head_lr: 3e-3}
  - {backbone: efficientnet_lite0, head_lr: 4e-3}
"""


@dataclass
class Diary(Observer):
    """Everything that the driver is told, in order."""

    lines: list[tuple[str, str, int]] = field(default_factory=list)  # what, trial, epoch
    results: dict[str, TrialResult] = field(default_factory=dict)
    places: set[tuple[int, int]] = field(default_factory=set)
    first_epoch_at: float | None = None

    def begin(self, config: TrialConfig) -> None:
        self._note("begin", config.key)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        self.first_epoch_at = self.first_epoch_at or time.monotonic()
        self._note("epoch", config.key, metrics.epoch)

    def end(self, result: TrialResult) -> None:
        self.results[result.trial] = result
        self._note("end", result.trial)

    def _note(self, what: str, trial: str, epoch: int = 0) -> None:
        self.lines.append((what, trial, epoch))
        self.places.add((os.getpid(), threading.get_ident()))

    def of(self, trial: str) -> list[tuple[str, int]]:
        return [(what, epoch) for what, key, epoch in self.lines if key == trial]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """Three colours of noise, and three networks: a good one, one of NaNs and one whose file is torn."""
    folder = tmp_path_factory.mktemp("tuner")
    whole = ready_for(folder, SPACE)
    nans, torn = folder / "nans.pth", folder / "torn.pth"
    state = torch.load(whole.pretrained["efficientnet_lite1"].weights, weights_only=True)
    torch.save({k: v * float("nan") if v.is_floating_point() else v for k, v in state.items()}, nans)
    torn.write_bytes(whole.pretrained["efficientnet_lite2"].weights.read_bytes()[:1000])
    broken = {"efficientnet_lite1": nans, "efficientnet_lite2": torn}
    mixed = {n: replace(p, weights=broken.get(n, p.weights)) for n, p in whole.pretrained.items()}
    return replace(whole, pretrained=mixed)


def experiment(folder: Path, **more: Any) -> Experiment:
    given: dict[str, Any] = {"trials": None, "budget_s": None, "strategy": "random"} | more
    found = Experiment("tiny", seed=0, output=folder, gpus_per_trial=0.0, **given)
    found.folder.mkdir(parents=True, exist_ok=True)
    return found


def search(wanted: Experiment, ready: Ready, cluster: Cluster, past: Past | None = None) -> Diary:
    run_trials(wanted, ready, diary := Diary(), cluster, past=past)
    return diary


@dataclass(frozen=True)
class Searched:
    experiment: Experiment
    diary: Diary
    start_up_s: float  # until the first epoch

    def of(self, backbone: str) -> list[TrialResult]:
        return [r for r in self.diary.results.values() if r.config.backbone == backbone]


@pytest.fixture(scope="module")
def searched(ready: Ready, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Four trials, of which two cannot but fail."""
    wanted, start = experiment(tmp_path_factory.mktemp("searched"), trials=4), time.monotonic()
    diary = search(wanted, ready, cluster)
    assert diary.first_epoch_at
    return Searched(wanted, diary, diary.first_epoch_at - start)


def test_a_trial_begins_has_its_epochs_and_ends(searched: Searched) -> None:
    good = searched.of("efficientnet_lite0")
    assert len(good) == 2
    for result in good:
        assert searched.diary.of(result.trial) == [("begin", 0), ("epoch", 1), ("epoch", 2), ("end", 0)]
        assert result.state is State.COMPLETED
        assert result.reason is None
        assert [metrics.epoch for metrics in result.epochs] == [1, 2]
        assert 0 <= result.started < result.ended


def test_observers_are_told_in_the_driver(searched: Searched) -> None:
    assert searched.diary.places == {(os.getpid(), threading.get_ident())}


def test_a_diverged_trial_fails_with_its_reason(searched: Searched) -> None:
    (result,) = searched.of("efficientnet_lite1")
    assert result.state is State.FAILED
    assert result.reason == "Diverged: loss became nan in epoch 1"
    assert result.epochs == ()
    assert result.val_f1 is None


def test_a_crashed_trial_fails_with_its_reason(searched: Searched) -> None:
    (result,) = searched.of("efficientnet_lite2")
    assert result.state is State.FAILED
    assert result.reason
    assert len(result.reason.splitlines()) == 1
    assert not result.reason.startswith("NoneType")
    assert "Traceback" not in result.reason
    assert not result.reason.startswith("RayTaskError")


def test_only_trials_that_scored_leave_weights(searched: Searched) -> None:
    kept = {file.stem.partition("-")[0] for file in searched.experiment.checkpoints.iterdir()}
    assert kept == {result.trial for result in searched.of("efficientnet_lite0")}


@pytest.fixture(scope="module")
def resumed(ready: Ready, cluster: Cluster, searched: Searched) -> tuple[Diary, float, float]:
    """The same search with its weights mended, trials that never end and a budget that does.

    With its budget and the time that it took, in seconds.
    """
    lite0 = ready.pretrained["efficientnet_lite0"]
    mended = replace(
        ready, pretrained=dict.fromkeys(ready.pretrained, lite0), space=ready.space.fixed(epochs=5000)
    )
    results = searched.diary.results.values()
    past = Past(tuple(r for r in results if not r.failed), {r.config: () for r in results if r.failed})
    budget, start = 1.3 * searched.start_up_s + 1, time.monotonic()
    diary = search(replace(searched.experiment, trials=None, budget_s=budget), mended, cluster, past)
    return diary, budget, time.monotonic() - start


def test_failed_trials_that_are_to_be_retried_come_before_anything_new(
    searched: Searched, resumed: tuple[Diary, float, float]
) -> None:
    begun = [trial for what, trial, _ in resumed[0].lines if what == "begin"]
    again = {resumed[0].results[trial].config.backbone for trial in begun[:2]}
    assert again <= {result.config.backbone for result in searched.diary.results.values() if result.failed}


def test_the_budget_ends_what_runs_and_then_the_search(resumed: tuple[Diary, float, float]) -> None:
    diary, budget, took = resumed
    assert budget <= took < budget + 30
    assert diary.results
    assert {(r.state, r.reason) for r in diary.results.values()} == {(State.STOPPED, "budget spent")}
    assert sum(what == "begin" for what, _, _ in diary.lines) == len(diary.results)


def test_a_trial_larger_than_the_machine_is_refused(ready: Ready, cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"^--cpus-per-trial 9999: this machine has \d+, no trial could start$"
    ):
        search(experiment(tmp_path, cpus_per_trial=9999.0), ready, cluster)


def curve(fields: dict[str, Any]) -> None:
    """Stands in for training: reports as a trial does, the better its weight decay the higher its F1."""
    from ray import tune

    for epoch in range(1, fields["epochs"] + 1):
        f1 = fields["weight_decay"] * epoch / fields["epochs"]
        tune.report({VAL_F1: f1, BEST: f1, EPOCH: epoch})


def test_successive_halving_stops_the_worse_trials_and_the_plain_strategies_none(
    cluster: Cluster, tmp_path: Path
) -> None:
    from ray import cloudpickle, tune

    def draw(proposal: optuna.Trial) -> TrialConfig:
        return TrialConfig("toy", weight_decay=proposal.suggest_float("weight_decay", 0.0, 1.0), epochs=8)

    def trained(strategy: str) -> dict[float, int]:
        """Epochs that each of 12 trials got, by how good it is."""
        brief = Brief(draw, TrialConfig.to_dict, first=[], epochs=8, seed=0, limit=12)
        searcher, scheduler = STRATEGIES[strategy](brief)
        config = tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            max_concurrent_trials=2,
        )
        run = tune.RunConfig(name=strategy, storage_path=str(tmp_path), verbose=0)
        results = tune.Tuner(curve, tune_config=config, run_config=run).fit()
        assert not results.errors
        return {r.config["weight_decay"]: r.metrics[EPOCH] for r in results}

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    try:
        cluster.resources(tmp_path / "ray.log")
        halved, plain = trained("asha-random"), trained("random")
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert halved.keys() == plain.keys()
    assert set(plain.values()) == {8}
    assert halved[max(halved)] == 8
    stopped = [quality for quality, epochs in halved.items() if epochs < 8]
    assert len(stopped) >= 4
    assert min(epochs for epochs in halved.values()) == 2  # the first rung: a quarter of the epochs
