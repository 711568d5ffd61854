"""Who won: the trials of a search, ranked by validation macro-F1, with the finalists' test scores.

Validation selects and test is only looked at, so nothing here orders anything by a test score. A trial
that failed, or that has no finite val_f1, is listed with its reason and never ranked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tune_tl.experiment import EpochMetrics, State, Transfer, TrialConfig, TrialResult
from tune_tl.results import statistics
from tune_tl.training.metrics import confusion, macro_f1, per_class

UNITS = {"cpu": "core-s", "gpu": "GPU-s"}  # what a trial's `cost` counts, by its `resource`
BANNER = "drawn sample images, not photographs"


@dataclass(frozen=True)
class ClassScore:
    """One class on the test split; `support` counts its images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class TestScore:
    """What a finalist reached on the test split, which is looked at once."""

    __test__ = False  # its name is the product's word, not a test for pytest to collect

    f1: float
    ci: tuple[float, float]  # 95 %
    accuracy: float
    confusion: tuple[tuple[int, ...], ...]  # row = true class, column = predicted class
    report: tuple[ClassScore, ...]  # in the dataset's class order

    @property
    def images(self) -> int:
        return sum(map(sum, self.confusion))

    def to_dict(self) -> dict[str, Any]:
        """Lists and numbers only: `from_dict` undoes it, also after a way through JSON."""
        return {
            "f1": self.f1,
            "ci": list(self.ci),
            "accuracy": self.accuracy,
            "confusion": [list(row) for row in self.confusion],
            "report": [asdict(row) for row in self.report],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TestScore:
        low, high = values["ci"]
        return cls(
            f1=values["f1"],
            ci=(low, high),
            accuracy=values["accuracy"],
            confusion=tuple(tuple(row) for row in values["confusion"]),
            report=tuple(ClassScore(**row) for row in values["report"]),
        )


def score(labels: ArrayLike, predictions: ArrayLike, classes: Sequence[str]) -> TestScore:
    """Score class indices of shape (images,) against each other; `classes` are the names, in order.

    Raises ValueError if the vectors are empty, differ in length or hold an index without a name.
    """
    counts = confusion(labels, predictions, len(classes))
    precision, recall, f1 = per_class(counts)
    support = counts.sum(axis=1)
    return TestScore(
        f1=macro_f1(counts),
        ci=statistics.macro_f1_interval(labels, predictions, len(classes)),
        accuracy=float(np.trace(counts) / counts.sum()),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        report=tuple(
            ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(classes)
        ),
    )


@dataclass(frozen=True)
class About:
    """The search that a leaderboard is of, as `search.json` and `result.json` tell it."""

    name: str = ""
    strategy: str = ""  # the search strategy
    space: str = ""
    seed: int | None = None
    wall_s: float | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)  # name, source, fingerprint, images, classes
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether the images are the embedded sample's, which nobody may mistake for photographs."""
        return self.dataset.get("source") == "sample"


@dataclass(frozen=True)
class Acknowledged:
    """One line of the ledger, `t` seconds after the search's start."""

    t: float
    trial: str
    epoch: int
    val_f1: float


@dataclass(frozen=True)
class Row:
    """One ranked trial; `test` for finalists only."""

    rank: int
    result: TrialResult
    transfer: Transfer
    best: EpochMetrics
    test: TestScore | None = None

    @property
    def trial(self) -> str:
        return self.result.trial

    @property
    def config(self) -> TrialConfig:
        return self.result.config

    @property
    def val_f1(self) -> float:
        return self.best.val_f1


@dataclass(frozen=True)
class Unranked:
    """A trial without a score, and why it has none."""

    result: TrialResult
    transfer: Transfer
    reason: str


@dataclass(frozen=True)
class Leaderboard:
    """`rows` best first, `unranked` in the order they ended, `timeline` by time."""

    rows: tuple[Row, ...] = ()
    unranked: tuple[Unranked, ...] = ()
    about: About = About()
    timeline: tuple[Acknowledged, ...] = ()
    unfinished: tuple[str, ...] = ()  # trials with acknowledged epochs and no end yet

    @classmethod
    def of(
        cls,
        results: Iterable[TrialResult],
        scores: Mapping[str, TestScore],
        about: About | None = None,
        *,
        scratch: Collection[str] = (),
        timeline: Sequence[Acknowledged] = (),
    ) -> Leaderboard:
        """Rank `results`. `scores` are the finalists' by trial key, `scratch` the backbones without
        pretrained weights, `timeline` the ledger's lines (else times follow from the trials)."""
        last = _last(results)
        ranked = sorted((r for r in last if r.best), key=_order)
        rows = (
            Row(rank, r, transfer_of(r.config, scratch), best, scores.get(r.trial))
            for rank, r in enumerate(ranked, 1)
            if (best := r.best)
        )
        rest = (Unranked(r, transfer_of(r.config, scratch), _why(r)) for r in last if not r.best)
        ended = {r.trial for r in last}
        return cls(
            rows=tuple(rows),
            unranked=tuple(rest),
            about=about or About(),
            timeline=tuple(sorted(timeline or _timeline(last), key=lambda line: line.t)),
            unfinished=tuple(dict.fromkeys(a.trial for a in timeline if a.trial not in ended)),
        )

    @property
    def champion(self) -> Row | None:
        return self.rows[0] if self.rows else None

    @property
    def finalists(self) -> tuple[Row, ...]:
        """The rows with a test score, in the order of their val_f1."""
        return tuple(row for row in self.rows if row.test)

    @property
    def failed(self) -> int:
        return sum(u.result.state is State.FAILED for u in self.unranked)


def finalists(results: Iterable[TrialResult], scratch: Collection[str] = ()) -> tuple[TrialResult, ...]:
    """The best trial of each transfer strategy, best first: the first is the champion.

    Only these see the test split, once each. Empty if no trial has a score.
    """
    best: dict[Transfer, TrialResult] = {}
    for result in sorted((r for r in _last(results) if r.best), key=_order):
        best.setdefault(transfer_of(result.config, scratch), result)
    return tuple(best.values())


def transfer_of(config: TrialConfig, scratch: Collection[str] = ()) -> Transfer:
    """The transfer strategy, which for a network without pretrained weights is `scratch`."""
    return Transfer.SCRATCH if config.backbone in scratch else config.transfer


def _last(results: Iterable[TrialResult]) -> list[TrialResult]:
    """One result a trial: a failed trial that was run again stands by its last run."""
    return list({r.trial: r for r in results}.values())


def _order(result: TrialResult) -> tuple[float, float, str]:
    best = result.best
    # At equal scores the cheaper trial is the better deal; the key keeps the order stable after that.
    return (-best.val_f1 if best else math.inf, result.cost, result.trial)


def _why(result: TrialResult) -> str:
    if result.state is State.FAILED:
        return " ".join((result.reason or "failed, no reason recorded").split())
    return "no epoch has a finite val_f1" if result.epochs else "ended before its first epoch"


def _timeline(results: Iterable[TrialResult]) -> Iterable[Acknowledged]:
    for result in results:
        t = result.started
        for metrics in result.epochs:
            t += metrics.seconds
            yield Acknowledged(t, result.trial, metrics.epoch, metrics.val_f1)
