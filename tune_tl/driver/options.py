"""The command line of a search, read and checked."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_tl.errors import BadInput, near
from tune_tl.experiment import Experiment
from tune_tl.spaces import reading
from tune_tl.spaces.space import Space
from tune_tl.terminal.door import Parser
from tune_tl.terminal.durations import seconds
from tune_tl.tracking.store import redacted, tracking_uri
from tune_tl.tuning.strategies import STRATEGIES

DEFAULT_BUDGET_S = 600.0
LEAST_STALL_S = 20.0


@dataclass(frozen=True)
class Options:
    """What was asked for, with the space's own settings where nothing was."""

    argument: str  # SPACE as it was typed
    space: Space
    data: Path | None
    trials: int | None
    budget_s: float | None
    strategy: str
    seed: int
    name: str | None
    resume: bool
    retry_failed: bool
    output: Path
    tracking_uri: str | None  # as it was typed
    address: str | None
    cpus_per_trial: float
    gpus_per_trial: float | None  # None: one where there is one
    retries: int
    stall_s: float
    yes: bool

    def experiment(self, name: str) -> Experiment:
        return Experiment(
            name=name,
            trials=self.trials,
            budget_s=self.budget_s,
            strategy=self.strategy,
            seed=self.seed,
            output=self.output.absolute(),  # workers have another working directory
            address=self.address,
            cpus_per_trial=self.cpus_per_trial,
            gpus_per_trial=self.gpus_per_trial,
            retries=self.retries,
            stall_s=self.stall_s,
            retry_failed=self.retry_failed,
            tracking_uri=self.tracking_uri,
        )

    def resume_command(self, name: str) -> str:
        """The command line that goes on with the search `name`."""
        words = ["python", "-m", "tune_tl.search", self.argument, "--resume", "--name", name]
        for flag, value in (
            ("--data", self.data if str(self.data) != self.argument else None),
            ("--trials", self.trials),
            ("--budget", None if self.budget_s is None else _time(self.budget_s)),
            ("--epochs", self.space.epochs),
            ("--strategy", self.strategy),
            ("--seed", self.space.seed),
            ("--output", None if self.output == Path("runs") else self.output),
            ("--tracking-uri", redacted(self.tracking_uri) if self.tracking_uri else None),
            ("--address", self.address),
            ("--cpus-per-trial", None if self.cpus_per_trial == 1 else self.cpus_per_trial),
            ("--gpus-per-trial", self.gpus_per_trial),
            ("--retries", None if self.retries == Experiment.retries else self.retries),
            ("--stall", None if self.stall_s == Experiment.stall_s else _time(self.stall_s)),
        ):
            if value is not None:
                # A value that opens with a dash would be taken for an option.
                words += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
        return shlex.join([*words, *(["--yes"] if self.yes else [])])


def parse(argv: Sequence[str] | None = None) -> Options:
    """The options of `argv`; raises BadInput for a value that cannot be meant."""
    given = _parser().parse_args(argv)
    if given.retry_failed and not given.resume:
        raise BadInput("--retry-failed goes with --resume: a new search has no failed trials yet")
    tracking_uri(given.tracking_uri)  # what is wrong with it is known at once
    space, folder = reading.load(given.space)
    strategy = given.strategy or space.strategy
    if strategy not in STRATEGIES:
        raise BadInput(
            f"{space.path}: unknown strategy {strategy!r}{near(strategy, STRATEGIES)}; "
            f"known are {', '.join(STRATEGIES)}"
        )
    space = space.fixed(**{f: v for f in ("seed", "epochs") if (v := getattr(given, f)) is not None})
    # What is asked for here replaces the space's own limits, both of them.
    limited = given.trials is not None or given.budget is not None
    trials = given.trials if limited else space.trials
    asked = None if given.budget is None else seconds(given.budget)
    budget_s = asked if limited else space.budget_s
    return Options(
        argument=given.space,
        space=space,
        data=given.data or folder,
        trials=trials,
        budget_s=DEFAULT_BUDGET_S if trials is None and budget_s is None else budget_s,
        strategy=strategy,
        seed=space.seed or 0,
        name=given.name,
        resume=given.resume,
        retry_failed=given.retry_failed,
        output=given.output,
        tracking_uri=given.tracking_uri,
        address=given.address,
        cpus_per_trial=given.cpus_per_trial,
        gpus_per_trial=given.gpus_per_trial,
        retries=given.retries,
        stall_s=_stall(given.stall),
        yes=given.yes,
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune_tl.search",
        description="Find the best way to transfer a pretrained network to your images.",
        epilog="Results go to runs/NAME/, the record to MLflow: `mlflow ui` in this directory shows it.",
    )
    add = parser.add_argument
    names = ", ".join(sorted(reading.available()))
    add("space", metavar="SPACE", help=f"{names}, a YAML file, or a folder of class folders")
    add("--data", type=_folder, metavar="DIR", help="the images, where the space does not say or has none")
    add("--trials", type=_whole(1), metavar="N", help="stop after N trials")
    add(
        "--budget",
        metavar="TIME",
        help="stop after this time, such as 90s, 10m or 1h30m (default: the space's)",
    )
    add("--epochs", type=_whole(1), metavar="N", help="epochs of a trial that is not stopped early")
    add(
        "--strategy",
        choices=tuple(STRATEGIES),
        help="how trials are proposed and stopped (default: asha-tpe)",
    )
    add(
        "--seed",
        type=_whole(0, reading.SEEDS),
        metavar="N",
        help="of the proposals and of every trial (default: the space's, else 0)",
    )
    add("--name", help="the search's name (default: the space's, numbered)")
    add("--resume", action="store_true", help="go on with a search that was interrupted, or extend one")
    add("--retry-failed", action="store_true", help="with --resume: run failed trials again")
    add("--output", type=_folder, default=Path("runs"), metavar="DIR", help="default: runs")
    add("--tracking-uri", metavar="URI", help="MLflow's (default: $MLFLOW_TRACKING_URI, else mlflow.db here)")
    add("--address", metavar="ADDR", help="of a Ray cluster, or auto (default: this machine alone)")
    add("--cpus-per-trial", type=_share, default=1.0, metavar="X", help="cores a trial holds (default: 1)")
    add("--gpus-per-trial", type=_share, metavar="X", help="GPUs, or a fraction (default: 1 if there is one)")
    add(
        "--retries",
        type=_whole(0),
        default=Experiment.retries,
        metavar="N",
        help="times that a trial which crashes is tried again, from its last epoch (default: 1)",
    )
    add("--stall", metavar="TIME", help="a trial without a sign of life for so long fails (default: 10m)")
    add("--yes", action="store_true", help="go on without images that cannot be decoded")
    return parser


def _stall(text: str | None) -> float:
    limit = Experiment.stall_s if text is None else seconds(text, "--stall")
    if limit < LEAST_STALL_S:
        raise BadInput(f"--stall {text!r}: a process takes longer to start; give {LEAST_STALL_S:g}s or more")
    return limit


def _time(seconds: float) -> str:
    """What `spaces.seconds` reads as this duration, to the microsecond."""
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"


def _folder(text: str) -> Path:
    try:
        if text:
            return Path(text).expanduser()
    except RuntimeError:  # ~nobody
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no folder's path")


def _whole(least: int, below: int = 2**63) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch(r"\d{1,19}", text) or not least <= int(text) < below:
            upper = f" and below {below}" if below < 2**63 else ""
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}{upper}")
        return int(text)

    return number


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return value
