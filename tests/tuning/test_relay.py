"""What observers are told if Ray tells little, twice, or in another order than one would think."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial

from tune_tl.experiment import (
    BEST,
    EPOCH,
    EpochMetrics,
    Experiment,
    Observer,
    State,
    TrialConfig,
    TrialResult,
)
from tune_tl.record.ledger import Past
from tune_tl.tuning.proposals import Brief
from tune_tl.tuning.relay import Relay
from tune_tl.tuning.scheduler import HalvingScheduler
from tune_tl.tuning.strategies import STRATEGIES

ONE, TWO = TrialConfig("toy", epochs=4, seed=1), TrialConfig("toy", epochs=4, seed=2)


class Heard(Observer):
    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.lines: list[tuple[str, str, Any]] = []

    def begin(self, config: TrialConfig) -> None:
        self.lines.append(("begin", config.key, None))

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        self.lines.append(("epoch", config.key, metrics.epoch))

    def end(self, result: TrialResult) -> None:
        if self.broken:
            raise OSError(5, "Input/output error")
        self.lines.append(("end", result.trial, (result.state, len(result.epochs), result.reason)))


def metrics(epoch: int, f1: float = 0.5) -> EpochMetrics:
    return EpochMetrics(epoch, 0.1, 0.1, f1, f1, (f1,), 1.0, 1.0, best_val_f1=f1)


def relay(folder: Path, heard: Heard, past: Past | None = None) -> Relay:
    search = Experiment("x", trials=None, budget_s=None, strategy="random", seed=0, output=folder)
    return Relay([heard], lambda: 100.0, search, past or Past())


def trial(config: TrialConfig) -> Trial:
    return Trial("toy", stub=True, trial_id="ray's", config=config.to_dict())


def tell(one: Relay, of: Any, *epochs: int) -> None:
    for epoch in epochs:
        one.on_trial_result(0, [], of, metrics(epoch).to_dict())


def test_what_was_cut_off_and_is_not_come_to_again_counts_with_what_it_reached(tmp_path: Path) -> None:
    heard = Heard()
    relay(tmp_path, heard, Past((), {ONE: (metrics(1), metrics(2)), TWO: ()})).close()
    assert heard.lines == [("begin", ONE.key, None), ("end", ONE.key, (State.STOPPED, 2, "budget spent"))]


def test_a_trial_cut_off_behind_its_last_epoch_ends_without_being_run(tmp_path: Path) -> None:
    heard = Heard()
    one = relay(tmp_path, heard, Past((), {ONE: tuple(metrics(n) for n in range(1, 5))}))
    assert heard.lines[-1] == ("end", ONE.key, (State.COMPLETED, 4, None))
    assert [r.trial for r in one.past.ended] == [ONE.key]
    assert one.past.cut_off == {}


def test_epochs_that_are_told_again_are_acknowledged_once(tmp_path: Path) -> None:
    heard = Heard()
    one = relay(tmp_path, heard, Past((), {ONE: (metrics(1), metrics(2))}))
    one.on_trial_start(0, [], trial(ONE))
    tell(one, trial(ONE), 2, 3, 4)
    assert [n for what, _, n in heard.lines if what == "epoch"] == [3, 4]


def test_what_an_observer_raises_at_the_end_of_a_trial_ends_the_search_and_not_the_trial(
    tmp_path: Path,
) -> None:
    heard = Heard(broken=True)
    one = relay(tmp_path, heard)
    one.on_trial_start(0, [], trial(ONE))
    tell(one, trial(ONE), 1, 2, 3, 4)
    one.on_trial_complete(0, [], trial(ONE))  # Ray takes what this raises for the trial's own
    with pytest.raises(OSError, match="Input/output error"):
        one.on_step_end(0, [])
    with pytest.raises(OSError, match="Input/output error"):
        one.close()


def test_an_error_after_its_end_changes_nothing(tmp_path: Path) -> None:
    heard = Heard()
    one = relay(tmp_path, heard)
    one.on_trial_start(0, [], trial(ONE))
    tell(one, trial(ONE), 1, 2, 3, 4)
    one.on_trial_complete(0, [], trial(ONE))
    before = list(heard.lines)
    one.on_trial_error(0, [], trial(ONE))
    assert heard.lines == before


def test_a_scheduler_knows_what_a_cut_off_trial_reached_at_each_rung() -> None:
    past = Past((), {ONE: tuple(metrics(n, n / 10) for n in range(1, 7))})
    brief = Brief(lambda proposal: ONE, TrialConfig.to_dict, first=[], epochs=8, seed=0, past=past)
    _, scheduler = STRATEGIES["asha-random"](brief)
    assert isinstance(scheduler, HalvingScheduler)
    of = trial(ONE)
    scheduler.on_trial_add(None, of)
    scheduler.on_trial_result(None, of, {BEST: 0.9, EPOCH: 7})
    assert scheduler.halving.rungs(ONE) == {4: {ONE.key: 0.4}, 2: {ONE.key: 0.2}}
