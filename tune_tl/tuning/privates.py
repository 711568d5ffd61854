"""All that is used of Ray's and Optuna's insides, for which neither promises anything.

Each has its reason here and a test (tests/tuning/test_privates.py) that fails when it is gone or means
something else; pyproject.toml allows the versions that these were tried with. Where one is gone all the same,
a search goes on without what it was for. Ray and Optuna are imported when one is used: Ray is started while
other things still load.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
    from ray.tune.experiment import Trial


def count_no_callbacks() -> None:
    """To count callbacks for its usage report, which is off, Tune imports MLflow and the like: seconds."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray.air._internal import usage

        usage.tag_callbacks = lambda callbacks: False


def use_waiting_workers() -> None:
    """A variable for PyTorch Lightning makes an environment of its own, for which Ray starts other workers
    than those that wait, warm (see warm.py)."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray.tune.execution import class_cache

        class_cache.DEFAULT_ENV_VARS.clear()


def log_messages_of_nodes(logger: logging.Logger) -> None:
    """What Ray says of a worker that died it would print in the middle of the display."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray._private import worker

        worker.print_to_stdstream = lambda data, **options: logger.warning(
            " ".join(map(str, data.get("lines", ())))
        )


def drop_analysis(trial: Trial) -> None:
    """What Tune works out about each metric of a trial is 50 kB, which it keeps to the search's end."""
    with contextlib.suppress(AttributeError):
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()


def end_for_good(trial: Trial) -> None:
    """A trial that hangs has to end now, by its process, and must not be started again."""
    import ray

    trial.max_failures = 0
    with contextlib.suppress(Exception):  # it has just ended by itself
        ray.kill(trial.temporary_state.ray_actor)


def show_samplers(study: optuna.Study, choose: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> None:
    """Samplers look at every trial of a study, each time; here at those that `choose` leaves of all."""
    get_trials = getattr(study, "_get_trials", None)
    if get_trials is None:
        return

    def chosen(*args: Any, **options: Any) -> list[FrozenTrial]:
        trials = get_trials(*args, **options)
        # Samplers alone name the states of those that they ask for.
        return choose(trials) if options.get("states") else trials

    study._get_trials = chosen  # type: ignore[method-assign]
