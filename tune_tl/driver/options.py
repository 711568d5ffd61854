"""The command line of a search: a field of `Options` is an option, a line each."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from tune_tl.errors import BadInput, near
from tune_tl.experiment import SEEDS, Experiment
from tune_tl.spaces import reading
from tune_tl.spaces.space import Space
from tune_tl.terminal.door import Parser
from tune_tl.terminal.durations import seconds
from tune_tl.tracking.store import redacted, tracking_uri
from tune_tl.tuning.strategies import STRATEGIES

DEFAULT_BUDGET_S = 600.0
LEAST_STALL_S = 20.0


def _option(
    help: str,
    read: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    default: Any = None,
    *,
    flag: str = "",
    choices: Iterable[str] | None = None,
    write: Callable[[Any], str] = str,
) -> Any:
    """An option `--name-of-the-field`, or `flag`; without `read` and `choices` it is a switch.

    `read` makes the field's value of a word, `write` a word of the value, for the command that resumes.
    """
    switch = read is None and choices is None
    how: dict[str, Any] = {"action": "store_true"} if switch else {"type": read or str, "choices": choices}
    if metavar:
        how["metavar"] = metavar
    if default is not None:
        how["default"] = default
    default = False if switch else default
    return field(default=default, metadata={"flag": flag, "write": write, "how": how | {"help": help}})


def _folder(text: str) -> Path:
    try:
        if text:
            return Path(text).expanduser()
    except RuntimeError:  # ~nobody
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no folder's path")


def _path(folder: Path) -> str:
    """A word that is not taken for an option."""
    return f"./{folder}" if str(folder).startswith("-") else str(folder)


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


def _stall(text: str) -> float:
    limit = seconds(text, "--stall")
    if limit < LEAST_STALL_S:
        raise BadInput(f"--stall {text!r}: a process takes longer to start; give {LEAST_STALL_S:g}s or more")
    return limit


def _time(value: float) -> str:
    """What `seconds` reads as this duration, to the microsecond."""
    return f"{value:f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True)
class Options:
    """What was asked for, with the space's own settings where nothing was.

    A field that `Experiment` has too goes there.
    """

    argument: str  # SPACE as it was typed
    space: Space
    data: Path | None = _option(
        "the images (default: those that the space names)", _folder, "DIR", write=_path
    )
    trials: int | None = _option("stop after N trials", _whole(1), "N")
    budget_s: float | None = _option(
        "stop after this time, such as 90s, 10m or 1h30m (default: the space's)",
        seconds, "TIME", flag="--budget", write=_time,
    )  # fmt: skip
    epochs: int | None = _option("epochs of a trial that is not stopped early", _whole(1), "N")
    strategy: str | None = _option(
        "how trials are proposed and stopped (default: asha-tpe)", choices=tuple(STRATEGIES)
    )
    seed: int | None = _option(
        "of the proposals and of every trial (default: the space's, else 0)", _whole(0, SEEDS), "N"
    )
    name: str | None = _option("the search's name (default: the space's, numbered)", str)
    resume: bool = _option("go on with a search that was interrupted, or extend one")
    retry_failed: bool = _option("with --resume: run failed trials again")
    output: Path = _option("default: runs", _folder, "DIR", Path("runs"), write=_path)
    tracking_uri: str | None = _option(
        "MLflow's (default: $MLFLOW_TRACKING_URI, else mlflow.db here)", str, "URI", write=redacted
    )
    address: str | None = _option("of a Ray cluster, or auto (default: this machine alone)", str, "ADDR")
    cpus_per_trial: float = _option("cores a trial holds (default: 1)", _share, "X", 1.0)
    gpus_per_trial: float | None = _option("GPUs, or a fraction (default: 1 if there is one)", _share, "X")
    retries: int = _option(
        "times that a trial which crashes is tried again, from its last epoch (default: 1)",
        _whole(0), "N", Experiment.retries,
    )  # fmt: skip
    stall_s: float = _option(
        "a trial without a sign of life for so long fails (default: 10m)",
        _stall, "TIME", Experiment.stall_s, flag="--stall", write=_time,
    )  # fmt: skip
    yes: bool = _option("go on without images that cannot be decoded")

    def experiment(self, name: str) -> Experiment:
        shared = {f.name for f in fields(Experiment)} & {f.name for f in fields(self)} - {"name"}
        values = {field: getattr(self, field) for field in shared}
        # Workers have another working directory.
        return Experiment(name=name, **values | {"seed": self.seed or 0, "output": self.output.absolute()})

    def resume_command(self, name: str) -> str:
        """The command line that goes on with the search `name`."""
        words = ["python", "-m", "tune_tl.search", self.argument, "--resume", "--name", name]
        for one in _options():
            value = getattr(self, one.name)
            if one.name in ("name", "resume", "retry_failed") or value == one.default:
                continue
            if one.name == "data" and str(value) == self.argument:
                continue
            flag, text = _flag(one), one.metadata["write"](value)
            if isinstance(value, bool):
                words.append(flag)
            else:  # one that opens with a dash would be taken for an option
                words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
        return shlex.join(words)


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m tune_tl.search",
        description="Find the best way to transfer a pretrained network to your images.",
        epilog="Results go to runs/NAME/, the record to MLflow: `mlflow ui` in this directory shows it.",
    )
    names = ", ".join(sorted(reading.available()))
    made.add_argument("space", metavar="SPACE", help=f"{names}, a YAML file, or a folder of class folders")
    for one in _options():
        made.add_argument(_flag(one), dest=one.name, **one.metadata["how"])
    return made


def decide(given: argparse.Namespace) -> Options:
    """What was asked for and the space say together. Raises BadInput for a value that cannot be meant."""
    values = vars(given)
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
    space = space.fixed(**{f: values[f] for f in ("seed", "epochs") if values[f] is not None})
    # What is asked for here replaces the space's own limits, both of them.
    limited = given.trials is not None or given.budget_s is not None
    trials, budget_s = (given.trials, given.budget_s) if limited else (space.trials, space.budget_s)
    decisions = {
        "space": space.dropping_bad_images() if given.yes else space,
        "data": given.data or folder,
        "trials": trials,
        "budget_s": DEFAULT_BUDGET_S if trials is None and budget_s is None else budget_s,
        "strategy": strategy,
        "epochs": space.epochs,
        "seed": space.seed,
    }
    return Options(argument=given.space, **values | decisions)


def _options() -> list[Field[Any]]:
    return [one for one in fields(Options) if "how" in one.metadata]


def _flag(one: Field[Any]) -> str:
    return str(one.metadata["flag"] or f"--{one.name.replace('_', '-')}")
