"""The trials of a search in groups: which transfer strategy, which backbone, which search did best."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tune_tl.experiment import Transfer
from tune_tl.results.ranking import UNITS, Leaderboard, Row, Unranked
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
    members: list[Row | Unranked] = [*board.rows, *board.unranked]
    whole: dict[str, list[Row | Unranked]] = {}
    parts: dict[tuple[str, str], list[Row | Unranked]] = {}
    for member in members:
        strategy, backbone = member.transfer.value, member.result.config.backbone
        key = (strategy, backbone) if by is By.STRATEGY else (backbone, strategy)
        whole.setdefault(key[0], []).append(member)
        parts.setdefault(key, []).append(member)
    groups = []
    for total in _best_first(_group(label, "", found) for label, found in whole.items()):
        inner = (_group(*key, found) for key, found in parts.items() if key[0] == total.label)
        groups += [total, *_best_first(inner)]
    return groups


def compare_searches(boards: Iterable[Leaderboard]) -> list[Group]:
    """One group a search, named and with its search strategy as `part`; best first within a dataset.

    Searches on different images or splits are kept apart, since their scores do not compare.
    """
    found: dict[str, list[Group]] = {}
    for board in boards:
        group = _group(board.about.name, board.about.strategy, [*board.rows, *board.unranked])
        found.setdefault(str(board.about.dataset.get("fingerprint", "")), []).append(group)
    return [group for groups in found.values() for group in _best_first(groups)]


def verdict(board: Leaderboard) -> str | None:
    """Whether transfer pays, in a line; None unless a finalist of either kind was on test."""
    scratch = next((row for row in board.finalists if row.transfer is Transfer.SCRATCH), None)
    best = next((row for row in board.finalists if row.transfer is not Transfer.SCRATCH), None)
    if not (scratch and best and scratch.test and best.test):
        return None

    def told(test: TestScore) -> str:
        return f"{test.f1:.2f} [{test.ci[0]:.2f}, {test.ci[1]:.2f}]"

    figures = (
        f"test F1 {told(best.test)} ({best.config.backbone}) against {told(scratch.test)} from scratch "
        f"({scratch.config.backbone})"
    )
    low, high = scratch.test.behind or (-b for b in reversed(best.test.behind or (0.0, 0.0)))
    remains = f"whether transfer pays remains open: {figures}"
    if low <= 0 <= high:
        return f"{remains}, {low:+.2f} to {high:+.2f} on the same images"
    behind = scratch if low > 0 else best
    if (had := len(behind.result.epochs)) < behind.config.epochs:
        return f"{remains}; {behind.config.backbone} had {had} of its {behind.config.epochs} epochs"
    return f"transfer {'pays' if low > 0 else 'does not pay'}: {figures}"


def _group(label: str, part: str, members: Sequence[Row | Unranked]) -> Group:
    rows = sorted((m for m in members if isinstance(m, Row)), key=lambda row: row.rank)
    scores = [row.val_f1 for row in rows]
    cost: dict[str, float] = {}
    for member in members:
        unit = UNITS.get(member.result.resource, f"{member.result.resource}-s")
        cost[unit] = cost.get(unit, 0.0) + member.result.cost
    return Group(
        label=label,
        part=part,
        trials=len(members),
        unranked=len(members) - len(rows),
        best=scores[0] if scores else None,
        median=statistics.median(scores) if scores else None,
        cost=cost,
        test=next((row.test for row in rows if row.test), None),
        trial=rows[0].trial if rows else None,
    )


def _best_first(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda g: (g.best is None, -(g.best or 0.0), g.label, g.part))
