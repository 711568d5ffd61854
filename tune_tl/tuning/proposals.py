"""Optuna's proposals as Ray Tune asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from tune_tl.experiment import BEST, EPOCH, VAL_F1, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Past
from tune_tl.tuning import privates

HOPELESS = 10  # failures in a row after which a search ends: nothing it could find out would be new
# Of a long search, what a sampler looks at: the rest would cost each proposal more than the one before.
# TPE models the 25 best against all others, so these best leave the one density as it is, and the latest
# are sample enough of the other. Shorter searches are seen whole.
BEST_SEEN, LATEST_SEEN = 50, 150
FINISHED: str = Searcher.FINISHED  # what Ray takes for: no more trials

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Brief:
    """What a strategy knows of the search: its space, its size, and what earlier runs of it tried."""

    draw: Callable[[optuna.Trial], TrialConfig]
    point: Callable[[TrialConfig], Mapping[str, Any]]  # the other way: what `draw` makes the config of
    first: Sequence[Mapping[str, Any]]  # points to try before anything is proposed
    epochs: int
    seed: int
    limit: int | None = None  # trials in all, those of the past included; None for no limit
    past: Past = field(default_factory=Past)


class OptunaProposals(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Asks an Optuna study for configs and reports to it how they fared.

    Ray ships such a searcher; this one differs where that one goes wrong: a failed trial is reported as
    failed (there it stays running for ever, and NaN with it), an early-stopped one as pruned with all
    its epochs, a config is never proposed twice, and what an earlier run of the same search tried is
    known from the start.
    """

    def __init__(self, brief: Brief, sampler: optuna.samplers.BaseSampler) -> None:
        super().__init__(metric=VAL_F1, mode="max")
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        privates.show_samplers(self.study, _best_and_latest)
        self._limit = brief.limit
        self._draw = brief.draw
        self._epochs = brief.epochs
        self._running: dict[str, optuna.Trial] = {}
        self._proposed: set[str] = set()
        self._failures = 0  # in a row
        for result in brief.past.ended:
            self._replay(brief.point(result.config), result)
        # Only now: Optuna hands out what is enqueued in order.
        for point in [*map(brief.point, brief.past.cut_off), *brief.first]:
            self.study.enqueue_trial(dict(point))

    def _replay(self, point: Mapping[str, Any], result: TrialResult) -> None:
        self._proposed.add(result.trial)
        self.study.enqueue_trial(dict(point))
        trial = self.study.ask()
        self._draw(trial)
        for metrics in result.epochs:
            trial.report(metrics.val_f1, metrics.epoch)
        self._tell(trial, result.state, result.val_f1)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A config's fields; FINISHED at the limit, after failures alone, or if 100 draws are known."""
        if self._limit is not None and len(self._proposed) >= self._limit:
            return FINISHED
        if self._failures >= HOPELESS:
            return FINISHED
        for _ in range(100):
            trial = self.study.ask()
            config = self._draw(trial)
            if config.key not in self._proposed:
                self._proposed.add(config.key)
                self._running[trial_id] = trial
                return config.to_dict()
            self.study.tell(trial, state=TrialState.FAIL)  # known already
        return FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._report(self._running[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self._running.pop(trial_id, None)
        if trial is None:
            return
        if error or not result or VAL_F1 not in result:
            self._failures += 1
            self._tell(trial, State.FAILED, None)
        else:
            self._failures = 0
            self._report(trial, result)  # the result that stops a trial skips on_trial_result
            done = result[EPOCH] >= self._epochs
            self._tell(trial, State.COMPLETED if done else State.STOPPED, result[BEST])

    def _report(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        # A trial that starts again reports its last epoch once more.
        if result[EPOCH] not in self.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
            trial.report(result[VAL_F1], result[EPOCH])

    def _tell(self, trial: optuna.Trial, state: State, value: float | None) -> None:
        if state is State.COMPLETED:
            self.study.tell(trial, value)
        else:
            pruned = state is State.STOPPED and value is not None
            self.study.tell(trial, state=TrialState.PRUNED if pruned else TrialState.FAIL)

    # Ray asks for these; the ledger, not Ray's snapshot, is what a search is resumed from.
    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


def _best_and_latest(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Of a study's trials, in order, those that a sampler is shown."""
    if len(trials) <= BEST_SEEN + LATEST_SEEN:
        return trials
    earlier = [t for t in trials[:-LATEST_SEEN] if t.state is TrialState.COMPLETE]
    best = sorted(earlier, key=lambda t: t.value or 0.0, reverse=True)[:BEST_SEEN]
    return [*sorted(best, key=lambda t: t.number), *trials[-LATEST_SEEN:]]
