"""Runs a search's trials on Ray, and lets observers in the driver know what happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial

from tune_tl.errors import BadInput
from tune_tl.experiment import Clock, Experiment, Observer, TrialConfig
from tune_tl.preflight.ready import Ready
from tune_tl.record.ledger import Past
from tune_tl.tuning import privates
from tune_tl.tuning.cluster import Cluster
from tune_tl.tuning.proposals import Brief
from tune_tl.tuning.relay import Relay
from tune_tl.tuning.strategies import STRATEGIES
from tune_tl.tuning.trial import FAILED, run_trial

privates.count_no_callbacks()
privates.use_waiting_workers()


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
    Observers are called in the driver, in order. Raises BadInput if the cluster cannot hold a trial, and
    OSError if an observer or a trial has no disk to write to.
    """
    resources = cluster.resources(experiment.folder / "ray.log")
    experiment = placed(experiment, resources)
    needs = {"cpu": experiment.cpus_per_trial, "gpu": experiment.gpus_per_trial}
    slots = _slots(resources, needs)
    relay = Relay(observers, clock, experiment, past)
    while True:
        try:
            _fit(experiment, ready, relay, needs, slots, ends)
            break
        except Exception as error:
            causes = list(_causes(error))
            # Tune gives up when Ray's memory monitor ends a worker. What ran goes on from its last epoch.
            if any(isinstance(cause, OutOfMemoryError) for cause in causes):
                slots = relay.out_of_memory(slots)
                continue
            # What an observer raises Tune puts into an error of its own.
            raise next((cause for cause in causes if isinstance(cause, OSError)), error) from None
    relay.close()


def _fit(
    experiment: Experiment,
    ready: Ready,
    relay: Relay,
    needs: Mapping[str, float | None],
    slots: int,
    ends: float | None,
) -> None:
    """Go on from where `relay` is, with at most `slots` trials at a time."""
    space, past = ready.space, relay.past
    stages = {name: len(p.backbone.stages) for name, p in ready.pretrained.items()}
    brief = Brief(
        draw=lambda proposal: space.suggest(proposal, stages),
        point=space.point,
        first=space.first,
        epochs=space.epochs,
        seed=experiment.seed + len(past.ended),  # a sampler that starts anew must not draw the same again
        limit=experiment.trials,
        past=past,
    )
    searcher, scheduler = STRATEGIES[experiment.strategy](brief)
    task = tune.with_parameters(
        run_trial, experiment=experiment, dataset=ready.dataset, pretrained=ready.pretrained
    )
    tune.Tuner(
        tune.with_resources(task, dict(needs)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            # Not ahead of free cores: a proposal made later knows more.
            max_concurrent_trials=slots,
            trial_name_creator=_key,
            trial_dirname_creator=_key,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(experiment.folder / "ray"),
            callbacks=[relay],
            failure_config=tune.FailureConfig(max_failures=experiment.retries),
            stop=_Stop(relay.clock, ends),
            verbose=0,
        ),
    ).fit()


class _Stop(tune.Stopper):  # type: ignore[misc]  # Ray ships no types
    """Ends the search when its time is up, by a clock that nobody can set, and trials that have failed."""

    def __init__(self, clock: Clock, ends: float | None) -> None:
        self._clock, self._ends = clock, ends

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.stopper.NoopStopper, ()  # as the relay

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return FAILED in result

    def stop_all(self) -> bool:
        return self._ends is not None and self._clock() >= self._ends


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def placed(experiment: Experiment, resources: Mapping[str, float]) -> Experiment:
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
