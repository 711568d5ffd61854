"""Find the best way to transfer a pretrained network to your images: `python -m tune_tl.search SPACE`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from functools import partial

from tune_tl.driver import options
from tune_tl.driver.options import Options
from tune_tl.terminal.door import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run a search. 0: done; 1: no trial finished; 2: bad input; 130, 143: interrupted, resumable."""
    start = time.monotonic()
    return exit_code(lambda: search(options.parse(argv), start))


def search(given: Options, start: float) -> int:
    """The whole program: preflight, trials, one look at the test split, the leaderboard."""
    from rich.console import Console

    from tune_tl.driver.display import Display, going_on
    from tune_tl.driver.resuming import begin
    from tune_tl.preflight.ready import check
    from tune_tl.record import ledger
    from tune_tl.record.folder import claimed, name_for
    from tune_tl.tuning.cluster import Cluster

    console = Console(highlight=False)

    name = partial(name_for, given.output, given.name, given.space.name, resume=given.resume)
    name()  # what is wrong with it is known at once, but what is free only when all is ready
    with Cluster(given.address) as cluster, contextlib.ExitStack() as held:
        ready = check(
            given.space,
            given.data,
            drop_bad=given.yes,
            output=given.output,
            console=console,
            promising=cluster.start,
        )
        experiment = given.experiment(name())
        held.enter_context(claimed(experiment.folder, fresh=not given.resume))
        cluster.end_left(experiment.folder)
        past = begin(experiment, ready, time.monotonic() - start)
        before = ledger.elapsed(experiment.folder)

        def clock() -> float:
            return before + time.monotonic() - start

        # Time that preflight takes (downloads, decoding) is not taken from the trials.
        ends = None if experiment.budget_s is None else past.prepared_s + experiment.budget_s
        from tune_tl.driver.observers import Record
        from tune_tl.tuning.tuner import tune_trials  # with Ray, Optuna and what they import

        record = held.enter_context(Record(experiment, ready, past, clock, console))
        held.enter_context(going_on(console, given.resume_command(experiment.name)))
        display = held.enter_context(Display(experiment, console, clock, ends, past))
        observers = [*record.observers, display]
        tune_trials(experiment, ready, observers, cluster=cluster, past=past, clock=clock, ends=ends)
        display.close()
        return record.conclude(console)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # nothing is left to do, and threads of others would be waited for
