"""Find the best way to transfer a pretrained network to your images: `python -m tune_tl.search SPACE`."""

from __future__ import annotations

import argparse
from functools import partial

from tune_tl.driver import options
from tune_tl.driver.clock import SearchClock
from tune_tl.terminal.door import door, leave


@door(options.parser)
def main(arguments: argparse.Namespace) -> int:
    """Preflight, trials, one look at the test split, the leaderboard.

    0: done; 1: no trial finished; 2: bad input; 130, 143: interrupted, resumable.
    """
    clock = SearchClock()
    given = options.decide(arguments)
    # Not for --help and for mistakes in the arguments: it takes a second.
    from rich.console import Console

    from tune_tl.driver.display import Display, going_on
    from tune_tl.driver.resuming import begin
    from tune_tl.preflight.ready import check
    from tune_tl.record.folder import opened
    from tune_tl.tuning.cluster import Cluster, require_places

    console = Console(highlight=False)
    if given.address is None:
        require_places()
    with (
        opened(given.output, given.name, given.space.name, resume=given.resume) as folder,
        Cluster(given.address) as cluster,
    ):
        experiment = given.experiment(folder.name)
        ready = check(given.space, given.data, console=console, output=given.output, promising=cluster.start)
        cluster.end_left(folder)
        past = begin(experiment, ready, clock())
        clock.go_on_from(past)
        # With Ray, Optuna and MLflow, which take seconds: not for mistakes in the data either.
        from tune_tl.driver.conclusion import conclude
        from tune_tl.driver.observers import Observers
        from tune_tl.tuning.tuner import placed, tune_trials

        # Before MLflow hears of a search that could not start.
        go_on = partial(going_on, console, given.resume_command(experiment.name), folder)
        with go_on():
            placed(experiment, cluster.resources(folder / "ray.log", partial(console.print, soft_wrap=True)))
        with Observers(experiment, past, clock, console) as observers, go_on():
            ends = past.ends_at(experiment.budget_s)
            with Display(experiment, console, clock, ends, past) as display:
                everybody = [*observers.all, display]
                tune_trials(experiment, ready, everybody, cluster=cluster, past=past, clock=clock, ends=ends)
            return conclude(experiment, ready, observers, clock, console)


if __name__ == "__main__":
    leave(main())
