"""What travels through the program: frozen dataclasses and the names of the metrics.

argv -> Experiment -> TrialConfig -> EpochMetrics -> TrialResult. Nothing downstream edits one.
"""
# More than 250 lines, since they read best side by side: what a trial is given, what it tells, how it ends.

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args

VAL_F1 = "val_f1"  # macro-F1 on validation: the one number that selects
TEST_F1 = "test_f1"  # macro-F1 on test: looked at once, for finalists
EPOCH = "epoch"
BEST = "best_val_f1"  # the best val_f1 so far that counts: what ranks a trial, and so what stops it

SEEDS = 2**32  # as many as NumPy, and so Optuna, has

Unfreeze = int | Literal["all"]
Augment = Literal["none", "light", "medium", "strong"]
AUGMENTS: tuple[str, ...] = get_args(Augment)
Clock = Callable[[], float]  # seconds since the search's start


class Transfer(StrEnum):
    """The transfer strategy, a label that follows from `unfreeze` and `pretrained`."""

    FEATURE_EXTRACTION = "feature-extraction"
    PARTIAL = "partial"
    FULL = "full"
    SCRATCH = "scratch"


class State(StrEnum):
    """How a trial ended. A failure is not a score: only `FAILED` has no val_f1 that counts."""

    COMPLETED = "completed"  # trained all its epochs
    STOPPED = "stopped"  # ended early by the scheduler or the budget; what it reached counts
    FAILED = "failed"  # crashed or diverged; `reason` says how


@dataclass(frozen=True)
class Rule:
    """What values a space may give a field of `TrialConfig`."""

    says: str  # in words, for an error
    holds: Callable[[Any], bool]
    # What YAML has, as the field has it; may raise ValueError.
    read: Callable[[Any], Any] = lambda value: value


def _number(value: Any) -> float:
    # YAML 1.1 reads 1e-4 (no dot) as text.
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise ValueError
    return value


def _number_rule(says: str, holds: Callable[[float], bool]) -> Rule:
    return Rule(says, holds, _number)


def _whole_rule(says: str, low: int, high: int = 2**63) -> Rule:
    return Rule(says, lambda value: low <= value <= high, _whole)


def _or(other: Any, rule: Rule, says: str = "") -> Rule:
    """Besides what `rule` has, `other`."""
    return Rule(
        says or rule.says,
        lambda value: value == other or rule.holds(value),
        lambda value: value if value == other else rule.read(value),
    )


def _ruled(rule: Rule, default: Any = MISSING, *, later: bool = False, of_transfer: bool = False) -> Any:
    """A field that spaces may set by this rule.

    `later`: earlier records lack it; with its default a trial is the one that it was, and has its key.
    `of_transfer`: it says how to transfer what was learnt before, and at which of the sizes that such
    networks take; not drawn for a network that starts from nothing.
    """
    return field(default=default, metadata={"rule": rule, "later": later, "of_transfer": of_transfer})


_FLAG = Rule("true or false", lambda value: isinstance(value, bool))
_RATE = _number_rule("a number above 0", lambda value: 0 < value < 10)
_STAGES = _whole_rule("a number of stages from 0", 0)


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides a trial's numbers. Equal configs give equal metrics on one machine.

    A field carries its own rule: to add one is to add a line here.
    """

    backbone: str = _ruled(Rule("the name of a network", lambda value: isinstance(value, str)))
    # False: it starts from nothing, and all of it is trained.
    pretrained: bool = _ruled(_FLAG, True, later=True)
    # Stages cut off the backbone's end.
    drop_stages: int = _ruled(_STAGES, 0, later=True, of_transfer=True)
    # Stages trained with the head, counted from the end; "all" for every one.
    unfreeze: Unfreeze = _ruled(_or("all", _STAGES, "a number of stages from 0, or all"), 0, of_transfer=True)
    # Fully connected ones; 1 for a linear head. Then the units of each of them but the last.
    head_layers: int = _ruled(
        _whole_rule("a number of layers from 1 to 8", 1, 8), 1, later=True, of_transfer=True
    )
    head_width: int = _ruled(
        _whole_rule("a number of units from 1 to 8192", 1, 8192), 256, later=True, of_transfer=True
    )
    # Peak of the one-cycle schedule for the new head; the same for unfrozen stages, None where none are.
    head_lr: float = _ruled(_RATE, 3e-3)
    body_lr: float | None = _ruled(_or(None, _RATE), None, of_transfer=True)
    weight_decay: float = _ruled(_number_rule("a number from 0", lambda value: 0 <= value < 10), 1e-2)
    augment: Augment = _ruled(Rule(f"one of {', '.join(AUGMENTS)}", lambda value: value in AUGMENTS), "light")
    batch_size: int = _ruled(_whole_rule("a whole number of at least 2", 2), 32)
    label_smoothing: float = _ruled(
        _number_rule("a number from 0 and below 1", lambda value: 0 <= value < 1), 0.0
    )
    # Weigh the loss by inverse class frequency.
    class_weights: bool = _ruled(_FLAG, False)
    # Pixels a side; None for the backbone's own.
    image_size: int | None = _ruled(
        _or(None, _whole_rule("pixels a side, from 16 to 2048", 16, 2048)), None, of_transfer=True
    )
    # Images are seen without their colours.
    grayscale: bool = _ruled(_FLAG, False, later=True)
    epochs: int = _ruled(_whole_rule("a whole number of at least 1", 1), 10)
    seed: int = _ruled(_whole_rule(f"a whole number from 0 and below {SEEDS}", 0, SEEDS - 1), 0)

    @property
    def key(self) -> str:
        """Eight hex digits that name the trial: a hash of the config's values."""
        values = {k: v for k, v in asdict(self).items() if k not in LATER or v != LATER[k]}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def transfer(self) -> Transfer:
        if not self.pretrained:
            return Transfer.SCRATCH
        if self.unfreeze == "all":
            return Transfer.FULL
        return Transfer.PARTIAL if self.unfreeze else Transfer.FEATURE_EXTRACTION

    def settled(self, epoch: int) -> bool:
        """Whether an epoch lies in the second half of its trial, where the learning rate comes down.

        Before that the weights swing, and validation with them: of many trials' early epochs one is lucky,
        and its weights are not better but less trained. Where a trial has settled epochs, only they count.
        """
        return epoch > self.epochs / 2

    @property
    def in_words(self) -> str:
        """What a person wants to know first: `mobilenet_v2, 3 stages unfrozen, light`."""
        depth = {0: "frozen", 1: "1 stage unfrozen", "all": "all unfrozen"}
        unfrozen = depth.get(self.unfreeze, f"{self.unfreeze} stages unfrozen")
        dropped = f" less {self.drop_stages}" if self.drop_stages else ""
        head = f"head of {self.head_layers}" if self.head_layers > 1 else ""
        trained = unfrozen if self.pretrained else "from scratch"
        return ", ".join(filter(None, (f"{self.backbone}{dropped}", trained, head, self.augment)))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrialConfig:
        return cls(**values)


CONFIG_FIELDS = tuple(f.name for f in fields(TrialConfig))
RULES: Mapping[str, Rule] = {f.name: f.metadata["rule"] for f in fields(TrialConfig)}
LATER = {f.name: f.default for f in fields(TrialConfig) if f.metadata["later"]}
OF_TRANSFER = frozenset(f.name for f in fields(TrialConfig) if f.metadata["of_transfer"])


@dataclass(frozen=True)
class EpochMetrics:
    """One trained and validated epoch.

    Losses are means per image in nats; F1s and accuracy lie in [0, 1]; `seconds` is the epoch's wall
    time, validation included; `images_per_s` counts training images only, over the training part.
    """

    epoch: int  # 1 for the first
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_f1: float
    val_f1_per_class: tuple[float, ...]  # in the dataset's class order
    images_per_s: float
    seconds: float
    prefix: str = ""  # how the frozen part was dealt with (cached or computed), and why
    best_val_f1: float = -1.0  # the best that counts, up to here: what stops a trial or lets it go on
    said: str = ""  # what a person should know of how it came about; one line

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"val_f1_per_class": list(self.val_f1_per_class)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EpochMetrics:
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        return cls(**known | {"val_f1_per_class": tuple(known["val_f1_per_class"])})


@dataclass(frozen=True)
class TrialResult:
    """A trial that has ended, with every epoch it acknowledged."""

    trial: str
    config: TrialConfig
    state: State
    epochs: tuple[EpochMetrics, ...]
    started: float  # seconds since the search's start
    ended: float
    resource: str = "cpu"  # what `units` counts
    units: float = 1.0  # cores or GPUs the trial held
    reason: str | None = None  # of a failure or an early stop

    @property
    def failed(self) -> bool:
        return self.state is State.FAILED

    @property
    def best(self) -> EpochMetrics | None:
        """The epoch whose weights were kept; None if the trial failed or has no finite score."""
        if self.state is State.FAILED:
            return None
        return max(self.counted, key=lambda e: e.val_f1, default=None)

    @property
    def counted(self) -> tuple[EpochMetrics, ...]:
        """The epochs with a finite score: the settled ones, or all where there are none."""
        scored = tuple(e for e in self.epochs if math.isfinite(e.val_f1))
        return tuple(e for e in scored if self.config.settled(e.epoch)) or scored

    @property
    def val_f1(self) -> float | None:
        return self.best.val_f1 if self.best else None

    @property
    def cost(self) -> float:
        """Core-seconds or GPU-seconds spent (see `resource`)."""
        return (self.ended - self.started) * self.units


class Observer:
    """Is told, in the driver, what happens in a search."""

    def begin(self, config: TrialConfig) -> None:
        """A trial starts."""

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        """A trial has finished an epoch."""

    def end(self, result: TrialResult) -> None:
        """A trial has ended, whichever way."""

    def say(self, text: str) -> None:
        """Something happened that a person should know; one line."""


@dataclass(frozen=True)
class Experiment:
    """One search, fully decided: what the command line and the space's YAML say together."""

    name: str
    trials: int | None  # how many at most
    budget_s: float | None  # wall time at most
    strategy: str
    seed: int
    output: Path  # absolute
    address: str | None = None  # of a Ray cluster; None for this machine
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | None = None  # None: one where there is one
    retries: int = 1  # of a trial that crashes
    stall_s: float = 600.0  # a trial that gets nowhere for so long hangs
    retry_failed: bool = False  # of a search that goes on: run failed trials again
    tracking_uri: str | None = None  # of MLflow, where one was asked for

    @property
    def folder(self) -> Path:
        return self.output / self.name

    @property
    def checkpoints(self) -> Path:
        """The folder of the trials' weights."""
        return self.folder / "checkpoints"
