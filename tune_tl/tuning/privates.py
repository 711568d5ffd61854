"""All that is used of Ray's and Optuna's insides, for which neither promises anything.

Each has its reason here and a test (tests/tuning/test_privates.py) that fails when it is gone or means
something else; pyproject.toml allows the versions that these were tried with. Where one is gone all the same,
a search goes on without what it was for. Ray and Optuna are imported when one is used: Ray is started while
other things still load.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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


@contextlib.contextmanager
def patient_start(wait_s: float) -> Iterator[None]:
    """Ray's node gives its helpers 15 s and itself 30, both written into its code; here it has `wait_s`.

    What it waits for are files with the helpers' ports, so they are given ports beforehand, and a file for
    the one port that its node would not be told of (ray-project/ray, issue 65983).
    """
    import inspect

    from ray._private import parameter, services

    held = [socket.socket() for _ in range(4)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    http, *others = (one.getsockname()[1] for one in held)
    for one in held:
        one.close()
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
    ports = dict(zip(names, others, strict=True)) | {"dashboard_agent_listen_port": http}
    made, get_node, start_raylet = parameter.RayParams.__init__, services.get_node, services.start_raylet
    until = time.monotonic() + wait_s

    def with_ports(params: Any, *args: Any, **options: Any) -> None:
        made(params, *args, **options)
        params.__dict__.update(ports)

    def waiting(*args: Any) -> Any:
        while True:
            try:
                return get_node(*args)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def told(*args: Any, **options: Any) -> Any:
        given = inspect.signature(start_raylet).bind(*args, **options).arguments
        name = f"dashboard_agent_listen_port_{given['node_id']}"
        Path(given["session_dir"], name).write_text(str(http))
        return start_raylet(*args, **options)

    parameter.RayParams.__init__, services.get_node, services.start_raylet = with_ports, waiting, told
    try:
        yield
    finally:
        parameter.RayParams.__init__, services.get_node = made, get_node
        services.start_raylet = start_raylet


def print_no_warnings() -> None:
    """ray.init takes all handlers away from Ray's logger; what it warns of then is printed by Python's last
    resort, and a bar of rich's brings that to the terminal."""
    logging.getLogger("ray._private").addHandler(logging.NullHandler())


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
