"""Hears from Ray, in the driver, what becomes of its trials, and ends those that hang."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tune_tl.experiment import Clock, EpochMetrics, Experiment, Observer, State, TrialConfig
from tune_tl.record.ledger import Past
from tune_tl.tuning import privates
from tune_tl.tuning.lifecycle import Trials
from tune_tl.tuning.reasons import reason
from tune_tl.tuning.trial import FAILED, SIGNS
from tune_tl.tuning.watch import Watch


class Relay(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Turns what Ray reports of its trials into their lives as observers see them.

    Ray is asked for nothing that it should remember: a trial is known here by its key, whichever process it
    runs in.
    """

    def __init__(
        self, observers: Sequence[Observer], clock: Clock, experiment: Experiment, past: Past
    ) -> None:
        self.clock = clock
        self._trials = Trials(observers, clock, experiment, past)
        self._watch = Watch(experiment.folder / SIGNS, experiment.stall_s)
        self._stall_s = experiment.stall_s
        self._error: Exception | None = None  # of an observer, not raised yet

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray writes its callbacks into a snapshot, which is never read: the ledger is.
        return tune.Callback, ()

    @property
    def past(self) -> Past:
        """What is there to go on from if trials are proposed anew."""
        return self._trials.past

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        config = _config(trial)
        self._watch.begin(config.key, trial)
        self._trials.begin(config).silent = True

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        known = self._trials.open[_config(trial).key]
        if FAILED in result:
            known.failure = result[FAILED]
        else:
            self._trials.epoch(known, EpochMetrics.from_dict(result))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        key = _config(trial).key
        self._watch.over(key)
        try:
            self._trials.stop(self._trials.open[key], "outperformed")
        except Exception as error:  # Ray would take it for the trial's own
            self._error = error
        privates.drop_analysis(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        config, why = _config(trial), reason(trial)
        if self._trials.has_ended(config):
            return
        self._watch.over(config.key)
        epochs = len(self._trials.begin(config).epochs)  # its process may have died before it started
        self._trials.say(f"trial {config.key} crashed ({why}): tried again from epoch {epochs}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        config = _config(trial)
        if self._trials.has_ended(config):
            return
        self._watch.over(config.key)
        known = self._trials.begin(config)
        self._trials.end(known, State.FAILED, known.failure or reason(trial))
        privates.drop_analysis(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._error:
            raise self._error
        for key in self._watch.hung():
            self._trials.open[key].failure = f"hung: no sign of life for {self._stall_s:g} s"
            self._watch.end(key)

    def out_of_memory(self, slots: int) -> int:
        """Ray has ended a trial to save the machine; how many may run side by side from here on."""
        running = self._trials.begun
        for trial in running:
            self._watch.over(trial.config.key)
        if slots == 1:
            for trial in running:
                why = "out of memory: Ray ended it, and nothing ran beside it"
                self._trials.end(trial, State.FAILED, why)
            return 1
        slots = max(1, min(slots, len(running)) - 1)
        for trial in running:
            self._trials.interrupt(trial)
        self._trials.say(f"memory ran out and Ray ended a trial: {slots} at a time from here on")
        return slots

    def close(self) -> None:
        """End what still ran when the budget did, and what had run and was not come to again."""
        if self._error:
            raise self._error
        for trial in list(self._trials.open.values()):
            if trial.epochs or trial.begun:
                self._trials.stop(trial, "budget spent")


def _config(trial: Trial) -> TrialConfig:
    return TrialConfig.from_dict(trial.config)
