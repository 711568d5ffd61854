"""A leaderboard for other programs: a CSV with a line a trial, and plain values for JSON."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd

from tune_tl.experiment import CONFIG_FIELDS
from tune_tl.results import comparison
from tune_tl.results.comparison import By
from tune_tl.results.frame import DTYPES, frame
from tune_tl.results.ranking import Leaderboard
from tune_tl.storage.tables import csv_file, escaped

# The order of a trial's keys in JSON: what every trial has, then what only ranked ones have.
_KEYS = (
    *CONFIG_FIELDS,
    *("trial", "state", "transfer", "max_epochs", "cost", "unit", "started", "ended", "reason"),
    *("rank", "val_f1", "best_epoch"),
    *("test_f1", "test_f1_low", "test_f1_high", "test_accuracy", "train_f1"),
)


def write_csv(path: Path, board: Leaderboard) -> None:
    """One line a trial, ranked ones first; a trial without a score has no rank and no val_f1."""
    with csv_file(path) as file:
        writer = csv.DictWriter(file, list(DTYPES), restval="")
        writer.writeheader()
        writer.writerows({name: escaped(value) for name, value in trial.items()} for trial in _trials(board))


def to_dict(board: Leaderboard, by: By = By.STRATEGY) -> dict[str, Any]:
    """Everything the tables show, as plain values for JSON."""
    return {
        "search": board.about.name,
        "strategy": board.about.strategy,
        "dataset": dict(board.about.dataset),
        "wall_s": board.about.wall_s,
        "champion": board.champion.trial if board.champion else None,
        "verdict": comparison.verdict(board),
        "trials": [{key: trial[key] for key in _KEYS if key in trial} for trial in _trials(board)],
        "unfinished": list(board.unfinished),
        "by": by.value,
        "comparison": [group.to_dict() for group in comparison.compare(board, by)],
    }


def _trials(board: Leaderboard) -> list[dict[str, Any]]:
    """The rows of the board's table, without what does not apply and with costs to the thousandth."""
    rows: list[dict[str, Any]] = frame(board).to_dict("records")
    known = ({name: value for name, value in row.items() if pd.notna(value)} for row in rows)
    return [row | {"cost": round(row["cost"], 3)} for row in known]
