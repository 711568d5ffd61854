"""Runs a search's trials on Ray, and tells observers in the driver what happens."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from tune_tl.experiment import (
    BadInput,
    Clock,
    EpochMetrics,
    Experiment,
    Observer,
    State,
    TrialConfig,
    TrialResult,
)
from tune_tl.ledger import Past
from tune_tl.preflight import Ready
from tune_tl.tuning.cluster import Cluster
from tune_tl.tuning.proposals import Brief
from tune_tl.tuning.strategies import STRATEGIES
from tune_tl.tuning.trial import run_trial


def _leave_out_what_costs_seconds() -> None:
    """Two things that Tune does before the first trial, for others; where Ray changes, they come back."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray.air._internal import usage

        # To count for telemetry, which is off, whose callbacks these are, it imports MLflow and the like.
        usage.tag_callbacks = lambda callbacks: False
    with contextlib.suppress(ImportError, AttributeError):
        from ray.tune.execution import class_cache

        # A variable for PyTorch Lightning makes an environment of its own, for which Ray starts other
        # workers than those that wait, warm (see warm.py).
        class_cache.DEFAULT_ENV_VARS.clear()


_leave_out_what_costs_seconds()


def tune_trials(
    experiment: Experiment,
    ready: Ready,
    observers: Sequence[Observer],
    *,
    cluster: Cluster,
    past: Past,
    clock: Clock,
    ends: float | None,
) -> None:
    """Propose and train trials until `experiment.trials`, the time or the space itself is used up.

    `past` is what earlier runs of this search left, `clock` gives seconds since its start,
    and at `ends` on that clock what still runs is stopped.
    Observers are called in the driver, in order. Raises BadInput if the cluster cannot hold a trial.
    """
    resources = cluster.resources(experiment.folder / "ray.log")
    experiment = _placed(experiment, resources)
    stages = {name: len(p.backbone.stages) for name, p in ready.pretrained.items()}
    space = ready.space
    brief = Brief(
        lambda proposal: space.suggest(proposal, stages),
        [*map(space.point, past.cut_off), *space.first],
        space.epochs,
        experiment.seed + len(past.ended),  # a sampler that starts anew must not draw the same again
    )
    searcher, scheduler = STRATEGIES[experiment.strategy](brief)
    searcher.begin(experiment.trials, [(space.point(r.config), r) for r in past.ended])
    relay = _Relay(observers, clock, experiment)
    task = tune.with_parameters(
        run_trial, experiment=experiment, dataset=ready.dataset, pretrained=ready.pretrained
    )
    needs = {"cpu": experiment.cpus_per_trial, "gpu": experiment.gpus_per_trial}
    left = None if ends is None else max(0.1, ends - clock())
    tune.Tuner(
        tune.with_resources(task, needs),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            time_budget_s=left,
            reuse_actors=True,
            # Not ahead of free cores: a proposal made later knows more.
            max_concurrent_trials=_slots(resources, needs) if experiment.address is None else None,
            trial_name_creator=_key,
            trial_dirname_creator=_key,
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(experiment.folder / "ray"), callbacks=[relay], verbose=0
        ),
    ).fit()
    relay.close()


def _placed(experiment: Experiment, resources: Mapping[str, float]) -> Experiment:
    """The experiment with its GPUs decided; BadInput if no trial would ever start."""
    gpus = experiment.gpus_per_trial
    placed = replace(experiment, gpus_per_trial=min(1.0, resources.get("GPU", 0.0)) if gpus is None else gpus)
    for flag, wanted, there in (
        ("--cpus-per-trial", placed.cpus_per_trial, resources.get("CPU", 0.0)),
        ("--gpus-per-trial", placed.gpus_per_trial or 0.0, resources.get("GPU", 0.0)),
    ):
        if wanted > there and experiment.address is None:
            raise BadInput(f"{flag} {wanted:g}: this machine has {there:g}, no trial could start")
    return placed


def _slots(resources: Mapping[str, float], needs: Mapping[str, float | None]) -> int:
    fits = [resources[name.upper()] / need for name, need in needs.items() if need]
    return max(1, int(min(fits, default=1)))


def _key(trial: Trial) -> str:
    return TrialConfig.from_dict(trial.config).key


class _Relay(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Turns Ray's events into TrialResults for the observers."""

    def __init__(self, observers: Sequence[Observer], clock: Clock, experiment: Experiment) -> None:
        self._observers = observers
        self._clock = clock
        self._resource = "gpu" if experiment.gpus_per_trial else "cpu"
        self._units = experiment.gpus_per_trial or experiment.cpus_per_trial
        self._started: dict[str, tuple[TrialConfig, float]] = {}
        self._epochs: dict[str, list[EpochMetrics]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray writes its callbacks into a snapshot, which is never read: the ledger is.
        return tune.Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        config = TrialConfig.from_dict(trial.config)
        self._started[trial.trial_id] = (config, self._clock())
        self._epochs[trial.trial_id] = []
        for observer in self._observers:
            observer.begin(config)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        config, _ = self._started[trial.trial_id]
        metrics = EpochMetrics.from_dict(result)
        self._epochs[trial.trial_id].append(metrics)
        for observer in self._observers:
            observer.epoch(config, metrics)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._stop(trial.trial_id, "outperformed")
        _forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial.trial_id, State.FAILED, _reason(trial))
        _forget(trial)

    def close(self) -> None:
        """End what still ran when the budget did."""
        for trial_id in list(self._started):
            self._stop(trial_id, "budget spent")

    def _stop(self, trial_id: str, reason: str) -> None:
        config, _ = self._started[trial_id]
        if len(self._epochs[trial_id]) == config.epochs:
            self._end(trial_id, State.COMPLETED, None)
        else:
            self._end(trial_id, State.STOPPED, reason)

    def _end(self, trial_id: str, state: State, reason: str | None) -> None:
        config, started = self._started.pop(trial_id)
        result = TrialResult(
            trial=config.key,
            config=config,
            state=state,
            epochs=tuple(self._epochs.pop(trial_id)),
            # As the ledger writes it: a finalist by what was just measured must be one by what is read.
            started=round(started, 3),
            ended=round(self._clock(), 3),
            resource=self._resource,
            units=self._units,
            reason=reason,
        )
        for observer in self._observers:
            observer.end(result)


def _forget(trial: Trial) -> None:
    """Let go of what Tune works out about each metric of a trial: 50 kB that it keeps to the end."""
    with contextlib.suppress(AttributeError):
        trial.run_metadata.metric_analysis = {}
        trial.run_metadata.metric_n_steps = {}


def _reason(trial: Trial) -> str:
    """Why a trial failed: from the file that Ray has just written; where `get_error` looks it comes later."""
    if not trial.pickled_error_file:
        return "unknown, see ray.log"
    error = ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
