"""Find the best way to transfer a pretrained network to your images: `python -m tune_tl.search SPACE`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from tune_tl import options
from tune_tl.experiment import BadInput
from tune_tl.options import Options


def main(argv: Sequence[str] | None = None) -> int:
    """Run a search. 0: done; 1: no trial finished; 2: bad input; 130, 143: interrupted, resumable."""
    start = time.monotonic()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return search(options.parse(argv), start)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        return 143 if "SIGTERM" in interrupt.args else 130


def search(given: Options, start: float) -> int:
    """The whole program: preflight, trials, one look at the test split, the leaderboard."""
    from rich.console import Console

    from tune_tl import ledger, preflight, run_folder
    from tune_tl.display import Display

    console = Console(highlight=False)

    def name() -> str:
        return run_folder.name_for(given.output, given.name, given.space.name, resume=given.resume)

    name()  # what is wrong with it is known at once, but what is free only when all is ready
    ready = preflight.check(given.space, given.data, drop_bad=given.yes, console=console)
    experiment = given.experiment(name())

    from tune_tl.record import Record  # from here on with torch, Ray and MLflow
    from tune_tl.tuning.tuner import tune_trials

    with run_folder.claimed(experiment.folder):
        run_folder.begin(experiment, ready)
        # What failed is run again if asked to, and what the budget ended before its first epoch always.
        past = [r for r in ledger.read(experiment.folder) if r.best or (r.failed and not given.retry_failed)]
        run_folder.require_weights(past, ready)
        before = ledger.elapsed(experiment.folder)

        def clock() -> float:
            return before + time.monotonic() - start

        # Time that preflight takes (downloads, decoding) is not taken from the trials.
        spent = before if past else 0.0
        ends = None if experiment.budget_s is None else clock() - spent + experiment.budget_s

        with (
            Record(experiment, ready, past, given.tracking_uri, clock) as record,
            Display(experiment, console, clock, ends, past) as display,
        ):
            try:
                tune_trials(
                    experiment, ready, [*record.observers, display], past=past, clock=clock, ends=ends
                )
                display.close()
                return record.conclude(console)
            except KeyboardInterrupt:
                display.close()
                console.print("interrupted; every finished epoch is kept. Go on with:", style="bold")
                console.print(given.resume_command(experiment.name), soft_wrap=True, markup=False)
                raise


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt("SIGTERM")


if __name__ == "__main__":
    sys.exit(main())
