"""Who won: the trials of a search, ranked by validation macro-F1, with the finalists' test scores.

Validation selects and test is only looked at, so nothing here orders anything by a test score. A trial
that failed, or that has no finite val_f1, is listed with its reason and never ranked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tune_tl.experiment import EpochMetrics, State, Transfer, TrialConfig, TrialResult
from tune_tl.results.importance import Importance
from tune_tl.results.look import Look
from tune_tl.results.scores import TestScore, TrainScore

_UNITS = {"cpu": "core-s", "gpu": "GPU-s"}


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
    """One ranked trial; `test` and `train`, scores of its kept weights, for finalists only."""

    rank: int
    result: TrialResult
    transfer: Transfer
    best: EpochMetrics
    test: TestScore | None = None
    train: TrainScore | None = None

    @property
    def trial(self) -> str:
        return self.result.trial

    @property
    def config(self) -> TrialConfig:
        return self.result.config

    @property
    def val_f1(self) -> float:
        return self.best.val_f1

    @property
    def gap(self) -> float | None:
        """How much better its kept weights do on images they were trained on: macro-F1, train less val."""
        return self.train.f1 - self.val_f1 if self.train else None


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
    look: Look | None = None  # what the champion made of the test images
    importances: tuple[Importance, ...] = ()  # of the space's parameters; none over few trials

    @classmethod
    def of(
        cls,
        results: Iterable[TrialResult],
        scores: Mapping[str, TestScore],
        about: About | None = None,
        *,
        train: Mapping[str, TrainScore] = MappingProxyType({}),
        timeline: Sequence[Acknowledged] = (),
        look: Look | None = None,
        importances: Iterable[Importance] = (),
    ) -> Leaderboard:
        """Rank `results`. `scores` and `train` are the finalists' by trial key, `timeline` the ledger's
        lines (else times follow from the trials); a `look` of another trial than the champion is none."""
        last = _last(results)
        ranked = sorted((r for r in last if r.best), key=_order)
        rows = (
            Row(rank, r, r.config.transfer, best, scores.get(r.trial), train.get(r.trial))
            for rank, r in enumerate(ranked, 1)
            if (best := r.best)
        )
        rest = (Unranked(r, r.config.transfer, _why(r)) for r in last if not r.best)
        ended = {r.trial for r in last}
        return cls(
            rows=tuple(rows),
            unranked=tuple(rest),
            about=about or About(),
            timeline=tuple(sorted(timeline or _timeline(last), key=lambda line: line.t)),
            unfinished=tuple(dict.fromkeys(a.trial for a in timeline if a.trial not in ended)),
            look=look if look and ranked and look.fits(ranked[0].trial, scores) else None,
            importances=tuple(importances),
        )

    @property
    def champion(self) -> Row | None:
        return self.rows[0] if self.rows else None

    @property
    def finalists(self) -> tuple[Row, ...]:
        """The rows with a test score, in the order of their val_f1."""
        return tuple(row for row in self.rows if row.test)

    @property
    def best_so_far(self) -> tuple[Acknowledged, ...]:
        """The lines of the timeline at which the best val_f1 rose, of epochs that count in ranked trials."""
        counted = {(row.trial, epoch.epoch) for row in self.rows for epoch in row.result.counted}
        best, rises = -math.inf, []
        for line in sorted(self.timeline, key=lambda line: (line.t, line.val_f1)):
            if (line.trial, line.epoch) in counted and line.val_f1 > best:
                best = line.val_f1
                rises.append(line)
        return tuple(rises)

    @property
    def failed(self) -> int:
        return sum(u.result.state is State.FAILED for u in self.unranked)


def unit(result: TrialResult) -> str:
    """What the trial's `cost` counts: core-seconds or GPU-seconds."""
    return _UNITS.get(result.resource, f"{result.resource}-s")


def finalists(results: Iterable[TrialResult]) -> tuple[TrialResult, ...]:
    """The best trial of each transfer strategy, best first: the first is the champion.

    Only these see the test split, once each. Empty if no trial has a score.
    """
    best: dict[Transfer, TrialResult] = {}
    for result in sorted((r for r in _last(results) if r.best), key=_order):
        best.setdefault(result.config.transfer, result)
    return tuple(best.values())


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
