"""The life of each trial as observers see it: it begins, has its epochs in order, and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tune_tl.experiment import Clock, EpochMetrics, Experiment, Observer, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Past


@dataclass
class OpenTrial:
    """A trial that has not ended."""

    config: TrialConfig
    epochs: list[EpochMetrics]  # acknowledged
    begun: bool = False  # observers know of it
    started: float = 0.0  # on the search's clock, less what earlier runs spent on it: that counts in its cost
    silent: bool = False  # it has just started, or started again, and reported nothing since
    failure: str | None = None  # why, of one that has failed and whose end Ray has yet to report


class Trials:
    """All trials of a search, the open ones by key.

    A trial that starts again goes on from its own files, and reports its last epoch once more: every epoch
    is acknowledged once.
    """

    def __init__(
        self, observers: Sequence[Observer], clock: Clock, experiment: Experiment, past: Past
    ) -> None:
        self._observers = observers
        self._clock = clock
        self._resource = "gpu" if experiment.gpus_per_trial else "cpu"
        self._units = experiment.gpus_per_trial or experiment.cpus_per_trial
        self._ended = {result.trial: result for result in past.ended}
        self.open = {c.key: OpenTrial(c, list(epochs)) for c, epochs in past.cut_off.items()}
        for trial in list(self.open.values()):
            if len(trial.epochs) == trial.config.epochs:  # cut off between its last epoch and its end
                self.end(trial, State.COMPLETED)

    @property
    def begun(self) -> list[OpenTrial]:
        return [trial for trial in self.open.values() if trial.begun]

    @property
    def past(self) -> Past:
        """What is there to go on from if trials are proposed anew."""
        cut_off = {trial.config: tuple(trial.epochs) for trial in self.open.values()}
        return Past(tuple(self._ended.values()), cut_off)

    def has_ended(self, config: TrialConfig) -> bool:
        return config.key in self._ended

    def begin(self, config: TrialConfig) -> OpenTrial:
        """The open trial of this config, of which observers know from here on that it has begun."""
        trial = self.open.setdefault(config.key, OpenTrial(config, []))
        if not trial.begun:
            trial.begun = True
            trial.started = self._clock() - sum(metrics.seconds for metrics in trial.epochs)
            for observer in self._observers:
                observer.begin(config)
        return trial

    def epoch(self, trial: OpenTrial, metrics: EpochMetrics) -> None:
        """Acknowledge an epoch, if that is not done yet. Raises RuntimeError if one before it is missing."""
        key, known = trial.config.key, len(trial.epochs)
        restarted, trial.silent = trial.silent, False
        if metrics.said:
            self.say(f"trial {key}: {metrics.said}")
        if metrics.epoch <= known:
            if restarted and metrics.epoch < known and not metrics.said:
                self.say(f"trial {key}: checkpoint of epoch {known} is gone: trained again")
            return
        if metrics.epoch > known + 1:
            raise RuntimeError(f"trial {key} tells epoch {metrics.epoch} after {known}")
        trial.epochs.append(metrics)
        for observer in self._observers:
            observer.epoch(trial.config, metrics)

    def interrupt(self, trial: OpenTrial) -> None:
        """It will begin again, from its last epoch."""
        self.open[trial.config.key] = OpenTrial(trial.config, trial.epochs)

    def stop(self, trial: OpenTrial, reason: str) -> None:
        """It ends; `reason` holds if it has neither failed nor trained all its epochs."""
        if trial.failure:
            self.end(trial, State.FAILED, trial.failure)
        elif len(trial.epochs) == trial.config.epochs:
            self.end(trial, State.COMPLETED)
        else:
            self.end(trial, State.STOPPED, reason)

    def end(self, trial: OpenTrial, state: State, reason: str | None = None) -> None:
        """It ends for good, having begun."""
        self.begin(trial.config)
        result = TrialResult(
            trial=trial.config.key,
            config=trial.config,
            state=state,
            epochs=tuple(trial.epochs),
            # As the ledger writes it: a finalist by what was just measured must be one by what is read.
            started=round(trial.started, 3),
            ended=round(self._clock(), 3),
            resource=self._resource,
            units=self._units,
            reason=reason,
        )
        del self.open[result.trial]
        self._ended[result.trial] = result
        for observer in self._observers:
            observer.end(result)

    def say(self, text: str) -> None:
        for observer in self._observers:
            observer.say(text)
