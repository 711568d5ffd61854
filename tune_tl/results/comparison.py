"""The trials of a search in groups: which transfer strategy, which backbone, which search did best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from tune_tl.experiment import Transfer
from tune_tl.results.frame import frame
from tune_tl.results.ranking import Leaderboard
from tune_tl.results.scores import TestScore


class By(StrEnum):
    """What `--by` offers."""

    STRATEGY = "strategy"
    BACKBONE = "backbone"
    SEARCH = "search"


@dataclass(frozen=True)
class Group:
    """Trials that share `label` and, where it is not empty, `part` of it.

    `best` and `median` are val_f1 over the ranked trials, early-stopped ones included; None without any.
    `cost` sums every trial's, failed ones too: they were paid for.
    """

    label: str
    part: str
    trials: int
    unranked: int  # of `trials`: failed, or ended without a score
    best: float | None
    median: float | None
    cost: dict[str, float]  # unit ("core-s", "GPU-s") -> amount
    test: TestScore | None  # of the best-validated finalist in the group
    trial: str | None  # the trial that reached `best`

    def to_dict(self) -> dict[str, Any]:
        """One flat row for JSON."""
        test = {"f1": self.test.f1, "ci": list(self.test.ci)} if self.test else None
        return {**vars(self), "test": test}


def compare(board: Leaderboard, by: By) -> list[Group]:
    """One search by strategy (then backbone) or by backbone (then strategy), the best group first.

    Each label has a group of all its trials (`part` is empty), then one a part.
    """
    if by is By.SEARCH:
        return compare_searches([board])
    outer, inner = ("transfer", "backbone") if by is By.STRATEGY else ("backbone", "transfer")
    trials = frame(board)
    wholes = [_group(board, label, "", its) for label, its in trials.groupby(outer, observed=True)]
    nested = trials.groupby([outer, inner], observed=True)
    parts = [_group(board, label, part, its) for (label, part), its in nested]
    groups = []
    for whole in _best_first(wholes):
        groups += [whole, *_best_first(part for part in parts if part.label == whole.label)]
    return groups


def compare_searches(boards: Iterable[Leaderboard]) -> list[Group]:
    """One group a search, named and with its search strategy as `part`; best first within a dataset.

    Searches on different images or splits are kept apart, since their scores do not compare.
    """
    found: dict[str, list[Group]] = {}
    for board in boards:
        group = _group(board, board.about.name, board.about.strategy, frame(board))
        found.setdefault(str(board.about.dataset.get("fingerprint", "")), []).append(group)
    return [group for groups in found.values() for group in _best_first(groups)]


def verdict(board: Leaderboard) -> str | None:
    """Whether transfer pays, in a line; None unless a finalist of either kind was on test."""
    scratch = next((row for row in board.finalists if row.transfer is Transfer.SCRATCH), None)
    best = next((row for row in board.finalists if row.transfer is not Transfer.SCRATCH), None)
    if not (scratch and best and scratch.test and best.test):
        return None
    figures = (
        f"test F1 {_interval(best.test)} ({best.config.backbone}) "
        f"against {_interval(scratch.test)} from scratch ({scratch.config.backbone})"
    )
    low, high = scratch.test.behind or (-b for b in reversed(best.test.behind or (0.0, 0.0)))
    remains = f"whether transfer pays remains open: {figures}"
    if low <= 0 <= high:
        return f"{remains}, {low:+.2f} to {high:+.2f} on the same images"
    behind = scratch if low > 0 else best
    if (had := len(behind.result.epochs)) < behind.config.epochs:
        return f"{remains}; {behind.config.backbone} had {had} of its {behind.config.epochs} epochs"
    return f"transfer {'pays' if low > 0 else 'does not pay'}: {figures}"


def _interval(test: TestScore) -> str:
    return f"{test.f1:.2f} [{test.ci[0]:.2f}, {test.ci[1]:.2f}]"


def _group(board: Leaderboard, label: str, part: str, trials: pd.DataFrame) -> Group:
    """What `trials`, rows of the board's table, come to together."""
    ranked = trials.dropna(subset="val_f1")  # best first
    tests = {row.trial: row.test for row in board.finalists}
    costs = trials.groupby("unit", sort=False)["cost"]
    return Group(
        label=label,
        part=part,
        trials=len(trials),
        unranked=len(trials) - len(ranked),
        best=float(ranked["val_f1"].max()) if len(ranked) else None,
        median=float(ranked["val_f1"].median()) if len(ranked) else None,
        # Added up one by one: `sum` gives the last digit otherwise from one version to the next.
        cost={unit: float(of_unit.cumsum().iloc[-1]) for unit, of_unit in costs},
        test=next((tests[trial] for trial in ranked["trial"] if trial in tests), None),
        trial=ranked["trial"].iloc[0] if len(ranked) else None,
    )


def _best_first(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda g: (g.best is None, -(g.best or 0.0), g.label, g.part))
