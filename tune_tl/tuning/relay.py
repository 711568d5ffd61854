"""Turns what Ray says of its trials into what observers are told, in the driver."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tune_tl.experiment import Clock, EpochMetrics, Experiment, Observer, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Past
from tune_tl.tuning import privates
from tune_tl.tuning.trial import FAILED, SIGNS
from tune_tl.tuning.watch import Watch

_FULL = re.compile(rf"\[Errno ({errno.ENOSPC}|{errno.EDQUOT})\]")


class Relay(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Knows which trials run, which epochs they have acknowledged, and how each ends.

    Ray is asked for nothing that it should remember: a trial that starts again, in this process or a later
    one, goes on from its own files, tells its last epoch once more, and is known here by its key.
    """

    def __init__(
        self, observers: Sequence[Observer], clock: Clock, experiment: Experiment, past: Past
    ) -> None:
        self.clock = clock
        self._observers = observers
        self._resource = "gpu" if experiment.gpus_per_trial else "cpu"
        self._units = experiment.gpus_per_trial or experiment.cpus_per_trial
        self._ended = list(past.ended)
        self._over = {result.trial for result in past.ended}
        self._trouble: Exception | None = None
        self._epochs = {config: list(epochs) for config, epochs in past.cut_off.items()}
        self._started: dict[TrialConfig, float] = {}  # of the trials that run
        self._running: dict[str, tuple[TrialConfig, Trial]] = {}  # by key: those that have a process
        self._starting: set[TrialConfig] = set()  # of those, the ones that have told nothing yet
        self._failed: dict[TrialConfig, str] = {}  # why, of trials whose end Ray has yet to tell
        self._watch = Watch(experiment.folder / SIGNS, experiment.stall_s)
        self._stall_s = experiment.stall_s
        for config, epochs in past.cut_off.items():
            if len(epochs) == config.epochs:  # cut off between its last epoch and its end
                self._begin(config)
                self._end(config, State.COMPLETED, None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray writes its callbacks into a snapshot, which is never read: the ledger is.
        return tune.Callback, ()

    @property
    def past(self) -> Past:
        """What is there to go on from if trials are proposed anew."""
        return Past(tuple(self._ended), {config: tuple(epochs) for config, epochs in self._epochs.items()})

    def say(self, text: str) -> None:
        for observer in self._observers:
            observer.say(text)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        config = _config(trial)
        self._watch.begin(config.key)
        self._running[config.key] = config, trial
        self._starting.add(config)
        if config not in self._started:
            self._begin(config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        config = _config(trial)
        if FAILED in result:
            self._failed[config] = result[FAILED]
            return
        metrics = EpochMetrics.from_dict(result)
        if metrics.said:
            self.say(f"trial {config.key}: {metrics.said}")
        epochs, starting = self._epochs[config], config in self._starting
        self._starting.discard(config)
        if metrics.epoch <= len(epochs):  # acknowledged before: the trial started again from its files
            if starting and metrics.epoch < len(epochs) and not metrics.said:
                self.say(f"trial {config.key}: checkpoint of epoch {len(epochs)} is gone: trained again")
            return
        if metrics.epoch > len(epochs) + 1:
            raise RuntimeError(f"trial {config.key} tells epoch {metrics.epoch} after {len(epochs)}")
        epochs.append(metrics)
        for observer in self._observers:
            observer.epoch(config, metrics)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        try:
            self._stop(_config(trial), "outperformed")
        except Exception as error:  # Ray would take it for the trial's own
            self._trouble = error
        privates.drop_analysis(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        config, reason = _config(trial), _reason(trial)
        if config.key in self._over:
            return
        if config not in self._started:  # its process died before it started
            self._begin(config)
        self._watch.over(config.key)
        self.say(f"trial {config.key} crashed ({reason}): tried again from epoch {len(self._epochs[config])}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        config = _config(trial)
        if config.key in self._over:
            return
        if config not in self._started:
            self._begin(config)
        self._end(config, State.FAILED, self._failed.pop(config, None) or _reason(trial))
        privates.drop_analysis(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._trouble:
            raise self._trouble
        for key in self._watch.hung():
            config, trial = self._running[key]
            self._failed[config] = f"hung: no sign of life for {self._stall_s:g} s"
            self._watch.end(key, trial)

    def out_of_memory(self, slots: int) -> int:
        """Ray has ended a trial to save the machine; how many may run side by side from here on."""
        if slots == 1:
            for config in list(self._started):
                self._end(config, State.FAILED, "out of memory: Ray ended it, and nothing ran beside it")
            return 1
        slots = max(1, min(slots, len(self._started)) - 1)
        for config in self._started:
            self._watch.over(config.key)
        self._started.clear()  # they start again
        self._failed.clear()
        self.say(f"memory ran out and Ray ended a trial: {slots} at a time from here on")
        return slots

    def close(self) -> None:
        """End what still ran when the budget did, and what had run and was not come to again."""
        if self._trouble:
            raise self._trouble
        for config, epochs in list(self._epochs.items()):
            if epochs and config not in self._started:
                self._begin(config)
            if config in self._started:
                self._stop(config, "budget spent")

    def _begin(self, config: TrialConfig) -> None:
        epochs = self._epochs.setdefault(config, [])
        # What earlier runs spent on it counts in what it costs.
        self._started[config] = self.clock() - sum(metrics.seconds for metrics in epochs)
        for observer in self._observers:
            observer.begin(config)

    def _stop(self, config: TrialConfig, reason: str) -> None:
        if config in self._failed:
            self._end(config, State.FAILED, self._failed.pop(config))
        elif len(self._epochs[config]) == config.epochs:
            self._end(config, State.COMPLETED, None)
        else:
            self._end(config, State.STOPPED, reason)

    def _end(self, config: TrialConfig, state: State, reason: str | None) -> None:
        self._watch.over(config.key)
        self._running.pop(config.key, None)
        self._starting.discard(config)
        self._over.add(config.key)
        result = TrialResult(
            trial=config.key,
            config=config,
            state=state,
            epochs=tuple(self._epochs.pop(config)),
            # As the ledger writes it: a finalist by what was just measured must be one by what is read.
            started=round(self._started.pop(config), 3),
            ended=round(self.clock(), 3),
            resource=self._resource,
            units=self._units,
            reason=reason,
        )
        self._ended.append(result)
        for observer in self._observers:
            observer.end(result)


def _config(trial: Trial) -> TrialConfig:
    return TrialConfig.from_dict(trial.config)


def _reason(trial: Trial) -> str:
    """Why a trial failed: from the text that Ray has just written. Raises OSError if that is a full disk."""
    try:
        text = Path(trial.error_file or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown, see ray.log"
    text = text.rpartition("Failure # ")[2].partition("\n")[2].rstrip()
    # Of a traceback, what follows the last line of code.
    message = " ".join(re.split(r"\n[ ^~]+\S[^\n]*\n(?=\S)", "\n" + text)[-1].split())
    if found := _FULL.search(message):
        raise OSError(int(found[1]), os.strerror(int(found[1])))
    if "actor died" in text or "actor is dead" in text:
        return _death(text)
    return message[:300] or "unknown, see ray.log"


def _death(text: str) -> str:
    """What ended a process, of the paragraph that Ray writes about it: it does not know more."""
    if "its worker process has died" in text:
        number = re.search(r"pid: (\d+)", text)
        process = f"process {number[1]}" if number else "its process"
        return f"{process} died: it crashed, was killed, or the machine had no memory left"
    return " ".join(text.rpartition("The actor is dead because ")[2].split())[:200]
